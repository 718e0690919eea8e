"""``srm-dicom init``: the files of a new site, from questions or options."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography import x509

from srm_dicom import config, tomlfile
from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.cli.exits import reported
from srm_dicom.daemon import projects, skeleton
from srm_dicom.durable import make_directory
from srm_dicom.errors import ConfigError
from srm_dicom.identity import dn

HOME, DATA = Path("/etc/srm-dicom"), Path("/var/lib/srm-dicom")
_INNER = "inner"
_HOST_AND_PORT = r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})"


def _word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", text) or not text.strip("."):
        raise click.BadParameter("letters, digits, '.', '_' and '-'")
    return text


def _line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise click.BadParameter("a line of text")
    return text.strip()


def _archive(text: str) -> skeleton.Archive:
    found = re.fullmatch(rf"([ -?A-\[\]-~]{{1,16}})@{_HOST_AND_PORT}", text)
    if found is None or not found[1].strip() or not 0 < int(found[3]) < 65536:
        raise click.BadParameter("AE_TITLE@HOST:PORT")
    return skeleton.Archive(found[1].strip(), found[2].strip("[]"), int(found[3]))


def _url(text: str) -> str:
    url = text.rstrip("/")
    found = re.fullmatch(rf"https://{_HOST_AND_PORT}", url)
    if found is None or not 0 < int(found[2]) < 65536:
        raise click.BadParameter("https://HOST:PORT")
    return url


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(_url(word) for word in text.split())
    if not urls or len(set(urls)) < len(urls):
        raise click.BadParameter("URLs of different servers, with blanks between them")
    return urls


def _address(text: str) -> str:
    try:
        return _url(f"https://{text}").removeprefix("https://")
    except click.BadParameter:
        raise click.BadParameter("HOST:PORT") from None


def _day(text: str) -> datetime:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise click.BadParameter("YYYY-MM-DD") from None
    if day <= datetime.now(UTC):
        raise click.BadParameter("a day to come")
    return day


@dataclass(frozen=True, slots=True)
class Question:
    """What an option says, or is asked for."""

    option: str
    asked: str
    read: Callable[[str], Any]
    metavar: str = "WORD"
    default: Callable[[], str] | None = None


QUESTIONS: Sequence[Question] = (
    Question("name", "Name of the site; stands in every path", _word),
    Question("vo", "Virtual organisation of the users; stands in every path", _word),
    Question("host", "Name of this machine; stands in every SURL", _word, "HOST", socket.getfqdn),
    Question("pacs", "The PACS that images come from", _archive, "AE_TITLE@HOST:PORT"),
    Question("keys", "The key servers, with blanks between them", _urls, "'URL URL URL'"),
    Question("files", "The file catalogue", _url, "https://HOST:PORT"),
    Question("metadata", "The metadata server", _address, "HOST:PORT"),
    Question("project", "The first project", _word),
    Question("permit", "Reference of the decision that allows it", _line, "TEXT"),
    Question("purpose", "What it is for", _line, "TEXT"),
    Question("basis", "Basis of consent", _line, "TEXT"),
    Question("ends", "The day on which it ends", _day, "YYYY-MM-DD"),
)


class _Read(click.ParamType[Any]):
    """What a question's answer is read as; click asks again when it makes no sense."""

    def __init__(self, question: Question) -> None:
        self.name = question.option
        self._read = question.read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        del param, ctx
        return self._read(value) if isinstance(value, str) else value  # click shows it what was read, too


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for each in reversed(QUESTIONS):
        option = click.option(
            f"--{each.option}", type=_Read(each), metavar=each.metavar, help=f"{each.asked}."
        )
        command = option(command)
    return command


def _ask(question: Question) -> Any:
    default = question.default() if question.default else None
    return click.prompt(f"{question.asked} ({question.metavar})", default, type=_Read(question))


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=HOME)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
    default=DATA,
    show_default=True,
    help="Where the services keep what they have.",
)
@_options
@reported
def init(directory: Path, data: Path, **given: Any) -> None:
    """Write the files of a new site into DIRECTORY (/etc/srm-dicom), and make the inner zone's secrets.

    Asks for what no option says. Reads the inner zone's host certificate, DIRECTORY/inner/hostcert.pem, which
    has to be there: the catalogues know the site by its name. Changes nothing that is there.
    """
    registrar = _name_in(directory / _INNER / "hostcert.pem")
    _refuse_there(directory, ["srm-dicom.toml"])
    answers = {each.option: given[each.option] or _ask(each) for each in QUESTIONS}
    site = skeleton.Answers(home=directory, data=data, registrar=registrar, **answers)
    _refuse_there(directory, skeleton.files(site, ""))
    signing_key = _secrets(data / _INNER)
    files = skeleton.files(site, signing_key)
    _write(directory, files)
    for name in files:
        click.echo(f"made {directory / name}")
    title, port = skeleton.MOVES
    click.echo(f"The site signs with {signing_key}, which catalog.d/keys.toml and site.json have.")
    click.echo(f"The PACS has to know the node {title}, {site.host}, port {port}.")
    click.echo(f"Write the members into projects.d/{site.project}.toml; then give srm-dicom check.")


def _name_in(certificate: Path) -> str:
    advice = "Put the inner zone's host certificate and hostkey.pem there."
    try:
        return dn.canonical(x509.load_pem_x509_certificate(certificate.read_bytes()).subject)
    except OSError as error:
        raise ConfigError(f"{certificate}: {error.strerror}", advice=advice) from error
    except ValueError as error:
        raise ConfigError(f"{certificate} is no certificate in PEM", advice=advice) from error


def _refuse_there(home: Path, names: Iterable[str]) -> None:
    for name in names:
        if (home / name).exists():
            raise ConfigError(
                f"{home / name} is there already",
                advice="Nothing was changed. Move it away, or name another directory.",
            )


def _secrets(inner: Path) -> str:
    """Make the secrets that are missing, as whom the directory is of; returns the site's signing key."""
    make_directory(inner, 0o700)
    secrets = InnerSecrets.create(inner / "secrets")
    for path in (inner / "secrets", *(inner / "secrets").iterdir()):
        _give(path, inner)
    return secrets.signing_key.public_key().public_bytes_raw().hex()


def _write(home: Path, files: Mapping[str, str]) -> None:
    """Write files, all or none, after the code that serves has read them."""
    made: list[Path] = []
    with _for_all_to_read(), _aside(home) as aside:
        for name, content in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_text(content, encoding="utf-8")
        _read(aside)
        try:
            for name in files:
                path = home / name
                make_directory(path.parent)
                os.link(aside / name, path)
                made.append(path)
                if name.startswith(f"{_INNER}/"):
                    path.chmod(0o600)
                    _give(path, home / _INNER)
        except BaseException:  # Ctrl-C too
            for path in made:
                path.unlink()
            raise


def _read(home: Path) -> None:
    for zone in (home, home / _INNER):
        projects.load(config.load(zone / "srm-dicom.toml").projects)
    tomlfile.load_directory(home / _INNER / "plugins.d", config.PluginFile)
    tomlfile.load_directory(home / "catalog.d", config.CatalogueFile)


@contextmanager
def _for_all_to_read() -> Iterator[None]:
    """Let what a block writes be read by the users of the services, however careful root is by itself."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _aside(home: Path) -> Iterator[Path]:
    """Give a directory of the same file system, for as long as a block runs."""
    aside = Path(tempfile.mkdtemp(prefix=".init-", dir=home))
    try:
        yield aside
    finally:
        shutil.rmtree(aside)


def _give(path: Path, directory: Path) -> None:
    """Let a file, or directory, be of whom another directory is."""
    owner = directory.stat()
    if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

"""``mdm``: what a researcher or physician does.

The site is the ``site.json`` that ``MDM_SITE`` names, the credential that of every grid client
(``X509_USER_PROXY``, ``X509_CERT_DIR``). Whatever prints data prints it as JSON with ``--json``.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import click

from srm_dicom import telemetry
from srm_dicom.cli import keyfiles, sending
from srm_dicom.cli.exits import INTERRUPTED, exit_code, reported, tell
from srm_dicom.cli.usersite import bars, connected, json_option, outcome
from srm_dicom.client.appearing import appearing
from srm_dicom.client.delivery import SEALED_SUFFIX, TRANSFERS
from srm_dicom.client.download import hand_on, open_sealed
from srm_dicom.client.files import FileRecord
from srm_dicom.client.nifti import convert, find_program
from srm_dicom.client.orders import Got
from srm_dicom.client.progress import watcher_of
from srm_dicom.client.srm_views import FileInfo
from srm_dicom.crypto.keyfile import write_secret_key
from srm_dicom.errors import AlreadyExists, InvalidRequest, MdmError
from srm_dicom.ids import SitePath, name, parent

_CHUNK_BYTES = 1024 * 1024

references = click.argument("reference", nargs=-1, required=True)
_here = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="srm-dicom")
def main() -> None:
    """Find, get and open the images of a site."""
    click.get_current_context().with_resource(telemetry.aside())


main.add_command(sending.put)
main.add_command(sending.rm)


@main.command()
@reported
def whoami() -> None:
    """Print the name that the site's services see."""
    with connected() as client:
        click.echo(client.whoami())


@main.command(epilog="""Example: mdm find 'Modality = "CT" and SliceThickness < 2' -a Rows""")
@click.argument("query")
@click.option("-a", "--attribute", "attributes", multiple=True, help="Show this attribute too.")
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=1000, show_default=True, help="Most images to show."
)
@json_option
@reported
def find(query: str, attributes: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Find images by their attributes.

    One line an image; an attribute that it does not have is a dash.
    """
    with connected() as client:
        rows = client.find(query, attributes, limit + 1)
    if as_json:
        click.echo(json.dumps(rows[:limit], indent=2))
    for row in [] if as_json else rows[:limit]:
        shown = ((name, row[name]) for name in attributes)
        values = (f"{name}={'-' if value is None else value}" for name, value in shown)
        click.echo("  ".join([str(row["lfn"]), *values]))
    if len(rows) > limit:
        click.echo(f"there are more than these {limit}: --limit shows them", err=True)


@main.command(epilog="Example: mdm ls -l /grid/biomed/mdm")
@click.argument("name")
@click.option("-l", "details", is_flag=True, help="Show size, checksum and whether it is staged.")
@json_option
@reported
def ls(name: str, details: bool, as_json: bool) -> None:
    """List a directory or a file of the file catalogue."""
    with connected() as client:
        entries = client.files.list(name)
        known = client.details(entries) if details else {}
    told = [(entry, known.get(entry.surls[0]) if entry.surls else None) for entry in entries]
    if as_json:
        click.echo(json.dumps([{**_plain(entry), **_details(info)} for entry, info in told], indent=2))
        return
    for entry, info in told:
        click.echo(_long(entry, info) if details else entry.lfn)


@main.command(epilog="""Example: mdm get 'Modality = "MR"' -o mr""")
@references
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Directory to write to; made if it is not there. By default the one where you are.",
)
@click.option("--encrypted", is_flag=True, help="Leave files as ciphertext; needs no key right.")
@click.option("--nifti", is_flag=True, help="Also make a NIfTI volume of each series (extra: nifti).")
@click.option(
    "-j", "--transfers", type=click.IntRange(1, 32), default=TRANSFERS, help="Files on their way at once."
)
@json_option
@reported
def get(
    reference: tuple[str, ...], output: Path, encrypted: bool, nifti: bool, transfers: int, as_json: bool
) -> None:
    """Get files by LFN, directory, GUID, SURL or query.

    An interrupted get goes on where it stopped when it is given again.
    """
    if nifti and encrypted:
        raise InvalidRequest("a sealed file makes no volume", advice="Choose --nifti or --encrypted.")
    program = find_program() if nifti else None
    results: list[Got] = []
    failure: MdmError | None = None
    with connected() as client, bars(quiet=as_json) as progress:
        parts = client.get(
            reference, output, sealed=encrypted, watcher=watcher_of(progress), transfers=transfers
        )
        try:
            with closing(parts):
                results.extend(parts)
        except KeyboardInterrupt:
            _interrupted(output)
        except MdmError as error:
            failure = error
    failures = [got.error for got in results if got.error is not None]
    if program is not None:
        failures += _volumes(results, output, program)
    failures += [failure] if failure else []
    _tell_all(results, failures, output, as_json=as_json)
    if failures:
        raise SystemExit(exit_code(failures[0]))


@main.command(epilog="Example: mdm cat --range 128-131 $LFN")
@click.argument("reference")
@click.option("--range", "wanted", metavar="A-B", help="Only bytes A to B, both included; B may be left out.")
@reported
def cat(reference: str, wanted: str | None) -> None:
    """Write clear bytes of a file to standard output.

    Of a range only the blocks are fetched that hold it.
    """
    start, end = _range(wanted) if wanted else (0, None)
    out = sys.stdout.buffer
    with connected() as client, client.open(reference) as file:
        file.seek(start)
        left = None if end is None else end + 1 - start
        while data := file.read(_CHUNK_BYTES if left is None else min(_CHUNK_BYTES, left)):
            out.write(data)
            left = None if left is None else left - len(data)
    out.flush()


@main.command(epilog="Example: mdm key $LFN -o series.key")
@references
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; only you can read it.",
)
@reported
def key(reference: tuple[str, ...], output: Path) -> None:
    """Write the secret key of a file.

    The stock crypt4gh program reads it; files of one series have one key.
    """
    with connected() as client:
        record = _one(client.resolve(reference))
        text = write_secret_key(client.key(record))
    with appearing(output, mode=0o600) as file:
        file.write(text.encode())


_sealed_files = click.argument("file", nargs=-1, required=True, type=_here)
_secret_key = click.option(
    "--sk", "secret_key", required=True, type=_here, help="The secret key file, as `mdm key` writes it."
)


@main.command(epilog="Example: mdm decrypt *.c4gh --sk series.key")
@_sealed_files
@_secret_key
@reported
def decrypt(file: tuple[Path, ...], secret_key: Path) -> None:
    """Open files that were got with --encrypted.

    Each loses its .c4gh; the sealed files stay where they are, and so does what has the name already. One
    that does not open stops no other.
    """
    private_key = keyfiles.secret_key(secret_key)

    def decrypt_one(source: Path) -> None:
        if source.suffix != SEALED_SUFFIX:
            raise InvalidRequest(f"the name does not end in {SEALED_SUFFIX}")
        open_sealed(source, _free(source.with_suffix("")), private_key)

    _each(file, decrypt_one)


@main.command(epilog="Example: mdm reencrypt *.c4gh --sk series.key --recipient friend.pub -o friend")
@_sealed_files
@_secret_key
@click.option("--recipient", required=True, type=_here, help="A Crypt4GH public key file.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory to write to; made if it is not there.",
)
@reported
def reencrypt(file: tuple[Path, ...], secret_key: Path, recipient: Path, output: Path) -> None:
    """Hand sealed files on, to somebody who has a key pair.

    Who has the recipient's secret key opens them with any Crypt4GH tool and asks no key server. Only the
    header is written anew.
    """
    private_key, public_key = keyfiles.secret_key(secret_key), keyfiles.public_key(recipient)
    output.mkdir(parents=True, exist_ok=True)

    def reencrypt_one(source: Path) -> None:
        hand_on(source, _free(output / source.name), private_key, public_key, secrets.token_bytes)

    _each(file, reencrypt_one)


def _free(target: Path) -> Path:
    if target.exists():
        raise AlreadyExists(f"{target} is there already")
    return target


def _each(files: Sequence[Path], work: Callable[[Path], None]) -> None:
    """Do something with each file; what fails is told with its name.

    Raises:
        SystemExit: one failed; the others are done.
    """
    failures: list[MdmError] = []
    for source in files:
        try:
            work(source)
        except MdmError as error:
            tell(error, f"error: {source}: ")
            failures.append(error)
    if failures:
        raise SystemExit(exit_code(failures[0]))


@main.command(epilog="Example: mdm acl $LFN")
@references
@json_option
@reported
def acl(reference: tuple[str, ...], as_json: bool) -> None:
    """Show which rights you have on files.

    There are three, asked of three services; none implies another.
    """
    with connected() as client:
        rows = [(record.lfn, client.rights(record)) for record in client.resolve(reference)]
    if as_json:
        click.echo(json.dumps([{"lfn": lfn, **rights} for lfn, rights in rows], indent=2))
        return
    click.echo("file  key  search  nominative")
    for lfn, rights in rows:
        cells = (("yes" if has else "-").ljust(len(right)) for right, has in rights.items())
        click.echo("  ".join([*cells, str(lfn)]))


def _one(records: Sequence[FileRecord]) -> FileRecord:
    """Return the file whose key is meant: several do if they share one."""
    if len({record.key_id for record in records}) != 1:
        raise InvalidRequest("these files have different keys", advice="Name files of one series.")
    return records[0]


def _interrupted(output: Path) -> NoReturn:
    """Say how to go on, and end as programs do that SIGINT ends."""
    click.echo("interrupted; what is complete and what is in .part files stays", err=True)
    click.echo(f"       Give the same command again to go on in {output}.", err=True)
    raise SystemExit(INTERRUPTED)


def _volumes(results: Sequence[Got], output: Path, program: Path) -> list[MdmError]:
    """Make a volume of each series that has come; return why there are some that are not made."""
    series: dict[str, list[Path]] = {}
    for got in results:
        if got.path is not None:
            series.setdefault(parent(got.record.lfn), []).append(got.path)
    failures: list[MdmError] = []
    for directory, slices in series.items():
        try:
            for made in convert(slices, output, name(SitePath(directory)), program=program):
                click.echo(made, err=True)
        except MdmError as error:
            failures.append(error)
    return failures


def _tell_all(results: Sequence[Got], failures: Sequence[MdmError], output: Path, *, as_json: bool) -> None:
    """Print every file's fate: data to standard output, errors to standard error, advice once."""
    for got in results:
        if got.error is not None:
            click.echo(f"{got.record.lfn}: {got.error.message}", err=True)
    of_files = [got.error for got in results if got.error is not None]
    for advice in dict.fromkeys(error.advice for error in of_files if error.advice):
        click.echo(f"       {advice}", err=True)
    for error in failures:
        if error not in of_files:
            tell(error)
    if as_json:
        click.echo(json.dumps([_result(got) for got in results], indent=2))
    elif results:
        click.echo(f"{len(results) - len(of_files)} of {len(results)} files in {output}")


def _range(text: str) -> tuple[int, int | None]:
    match = re.fullmatch(r"(\d{1,18})-(\d{1,18})?", text)
    if match is None or (match[2] and int(match[2]) < int(match[1])):
        raise InvalidRequest("a range is A-B or A-, as in --range 0-1023")
    return int(match[1]), int(match[2]) if match[2] else None


def _details(info: FileInfo | None) -> dict[str, Any]:
    if info is None:
        return {}
    checksum = ":".join(info.checksum) if info.checksum else None
    return {"size_bytes": info.size_bytes, "checksum": checksum, "online": info.online}


def _long(entry: FileRecord, info: FileInfo | None) -> str:
    """Return a line of ``ls -l``: kind, place, size, checksum, name."""
    if info is None:
        return f"{'d' if entry.kind == 'directory' else '-'} {'':8} {'':>12} {'':8} {entry.lfn}"
    size = "?" if info.size_bytes is None else str(info.size_bytes)
    place = "online" if info.online else "nearline"
    return f"- {place:8} {size:>12} {info.checksum[1] if info.checksum else '?':8} {entry.lfn}"


def _result(got: Got) -> dict[str, Any]:
    return {
        "lfn": str(got.record.lfn),
        "guid": got.record.guid,
        "path": str(got.path) if got.path else None,
        "size_bytes": got.size_bytes or None,
        **outcome(got.error),
    }


def _plain(record: FileRecord) -> dict[str, Any]:
    return {"lfn": str(record.lfn), "guid": record.guid, "surls": list(record.surls)}


if __name__ == "__main__":
    main()

"""``mdm``: what a researcher or physician does.

The site is the ``site.json`` that ``MDM_SITE`` names, the credential that of every grid client
(``X509_USER_PROXY``, ``X509_CERT_DIR``). Whatever prints data prints it as JSON with ``--json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from srm_dicom.cli.exits import exit_code, reported, tell
from srm_dicom.client.download import open_sealed
from srm_dicom.client.files import FileRecord
from srm_dicom.client.library import SEALED_SUFFIX, Client, Got, Watcher
from srm_dicom.client.progress import watcher_of
from srm_dicom.client.site import SiteDescription
from srm_dicom.crypto.keyfile import read_secret_key, write_secret_key
from srm_dicom.errors import InvalidRequest, MdmError
from srm_dicom.identity.credential import Credential

console = Console()
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
references = click.argument("reference", nargs=-1, required=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="srm-dicom")
def main() -> None:
    """Find, get and open the images of a site."""


@contextmanager
def connected() -> Iterator[Client]:
    """Open a client from the environment."""
    site = SiteDescription.from_environment(os.environ)
    with Client(site, Credential.from_environment(os.environ)) as client:
        yield client


@main.command()
@reported
def whoami() -> None:
    """Print the name that the site's services see."""
    with connected() as client:
        click.echo(client.whoami())


@main.command()
@click.argument("query")
@click.option("-a", "--attribute", "attributes", multiple=True, help="Show this attribute too.")
@click.option("-n", "--limit", default=1000, show_default=True)
@json_option
@reported
def find(query: str, attributes: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Find images by their attributes: mdm find 'Modality = "CT" and SliceThickness < 2'."""
    with connected() as client:
        rows = client.find(query, attributes, limit)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo("  ".join([str(row["lfn"]), *(f"{name}={row[name]}" for name in attributes)]))


@main.command()
@click.argument("name")
@json_option
@reported
def ls(name: str, as_json: bool) -> None:
    """List what an LFN, GUID or SURL names in the file catalogue, and what is below it."""
    with connected() as client:
        entries = client.files.list(name)
    if as_json:
        click.echo(json.dumps([_plain(entry) for entry in entries], indent=2))
        return
    for entry in entries:
        click.echo(entry.lfn)


@main.command()
@references
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--encrypted", is_flag=True, help="Leave files as ciphertext; needs no key right.")
@json_option
@reported
def get(reference: tuple[str, ...], output: Path, encrypted: bool, as_json: bool) -> None:
    """Get files by LFN, GUID, SURL or query; an interrupted get goes on where it stopped."""
    with connected() as client, _bars(quiet=as_json) as watcher:
        results = list(client.get(reference, output, sealed=encrypted, watcher=watcher))
    if as_json:
        click.echo(json.dumps([_result(got) for got in results], indent=2))
    failures = [got for got in results if got.error is not None]
    for got in failures:
        click.echo(f"{got.record.lfn}:", err=True)
        tell(_error(got))
    if not as_json:
        click.echo(f"{len(results) - len(failures)} of {len(results)} files in {output}")
    if failures:
        raise SystemExit(exit_code(_error(failures[0])))


@main.command()
@references
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
@reported
def key(reference: tuple[str, ...], output: Path) -> None:
    """Write the secret key of a file, as the stock crypt4gh program reads it."""
    with connected() as client:
        record = _one(client.resolve(reference))
        text = write_secret_key(client.key(record))
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


@main.command()
@click.argument("file", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--sk", "secret_key", required=True, type=click.Path(path_type=Path, exists=True))
@reported
def decrypt(file: tuple[Path, ...], secret_key: Path) -> None:
    """Open files that were got with --encrypted, with a key of mdm key; each loses its .c4gh."""
    private_key = read_secret_key(secret_key.read_text())
    for source in file:
        if source.suffix != SEALED_SUFFIX:
            raise InvalidRequest(f"{source} does not end in {SEALED_SUFFIX}")
        open_sealed(source, source.with_suffix(""), private_key)


@main.command()
@references
@json_option
@reported
def acl(reference: tuple[str, ...], as_json: bool) -> None:
    """Show which of the three rights you have on files; none implies another."""
    with connected() as client:
        rows = [(record.lfn, client.rights(record)) for record in client.resolve(reference)]
    if as_json:
        click.echo(json.dumps([{"lfn": lfn, **rights} for lfn, rights in rows], indent=2))
        return
    table = Table("file", "file right", "key right", "search", "nominative", box=None)
    for lfn, rights in rows:
        table.add_row(str(lfn), *("yes" if allowed else "-" for allowed in rights.values()))
    console.print(table)


@contextmanager
def _bars(*, quiet: bool) -> Iterator[Watcher]:
    """Show how many files are staged and how many bytes have come."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, disable=quiet or not console.is_terminal, transient=True
    ) as progress:
        yield watcher_of(progress)


def _one(records: Sequence[FileRecord]) -> FileRecord:
    """Return the file whose key is meant: several do if they share one."""
    if len({record.key_id for record in records}) != 1:
        raise InvalidRequest("these files have different keys", advice="Name files of one series.")
    return records[0]


def _error(got: Got) -> MdmError:
    if got.error is None:
        raise ValueError("this file is there")
    return got.error


def _result(got: Got) -> dict[str, Any]:
    return {
        "lfn": str(got.record.lfn),
        "guid": got.record.guid,
        "path": str(got.path) if got.path else None,
        "error": got.error.message if got.error else None,
    }


def _plain(record: FileRecord) -> dict[str, Any]:
    return {"lfn": str(record.lfn), "guid": record.guid, "surls": list(record.surls)}


if __name__ == "__main__":
    main()

"""``srm-dicom keys of-patient`` and ``keys erase``: from a patient to the keys, in the inner zone.

Who a patient is comes from a file or standard input, never from the command line, and is shown nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import click

from srm_dicom import telemetry
from srm_dicom.audit.event import Action
from srm_dicom.cli.audit import note, operator
from srm_dicom.cli.exits import exit_code, reported
from srm_dicom.cli.options import config_option
from srm_dicom.daemon.common import ADMIN, Common
from srm_dicom.daemon.coredump import never_dump
from srm_dicom.daemon.inner import erasing
from srm_dicom.errors import ConfigError, InvalidRequest, KeyServerUnavailable, NotFound
from srm_dicom.plugin.api import Patient
from srm_dicom.registry.destruction import Order
from srm_dicom.registry.erasure import Belongings, Erased, Erasure

STANDARD_INPUT = Path("-")
MAX_BYTES = 1024 * 1024
MAX_NOTED = 500
_ERRORS_ONLY = 40

_patients = click.argument("patients", metavar="FILE", type=click.Path(allow_dash=True, path_type=Path))


@click.command("of-patient")
@config_option
@_patients
@click.option("--json", "as_json", is_flag=True, help="One JSON object a key.")
@reported
def of_patient(config: Path, patients: Path, *, as_json: bool) -> None:
    """List the keys of the patients in FILE: on each line an id and, after a tab, its issuer; - is stdin."""
    wanted = _read(patients)
    with _erasing(config) as (common, erasure):
        found = _found(erasure.find(wanted))
        note(
            common,
            "of-patient",
            f"{len(found.keys)} keys",
            *sorted(found.keys)[:MAX_NOTED],
            action=Action.QUERY,
        )
    for key_id, files in sorted(found.keys.items()):
        release = files[0].release
        project = release.project if release else ""
        if as_json:
            click.echo(json.dumps({"key_id": key_id, "project": project, "files": len(files)}))
        else:
            click.echo(f"{key_id}  {len(files)} files  {project}")
    if not as_json:
        _tell(found)


@click.command()
@config_option
@_patients
@click.option("--yes", is_flag=True, help="Do not ask back.")
@reported
def erase(config: Path, patients: Path, *, yes: bool) -> None:
    """Erase the patients in FILE, as for of-patient: their files' names, copies, records and keys.

    What the archive has stays there, and is registered anew if it comes again. Where a server does not answer
    the registrar goes on asking.
    """
    if patients == STANDARD_INPUT and not yes:
        raise click.UsageError("with the patients on standard input nobody can be asked: give --yes")
    wanted = _read(patients)
    with _erasing(config) as (_, erasure):
        found = _found(erasure.find(wanted))
    _tell(found)
    if not yes:  # outside: the log that is open there is every other administrator's, too
        click.confirm("Erase them? Nobody opens these files again, wherever a copy is.", abort=True)
    with _erasing(config) as (_, erasure):
        erased = erasure.erase(wanted, found, operator())
    _tell_erased(erased)
    if not erased.done:
        raise SystemExit(exit_code(KeyServerUnavailable("")))


@contextmanager
def _erasing(config: Path) -> Iterator[tuple[Common, Erasure]]:
    telemetry.configure("erase", level=_ERRORS_ONLY)
    never_dump()
    common = Common(config, ADMIN)
    with closing(common.audit), erasing(common) as erasure:
        yield common, erasure


def _read(path: Path) -> list[Patient]:
    """Read who is meant; an error says nothing of what was read, nor of a name that may be a patient's."""
    try:
        with click.open_file(str(path), "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"the file of patients cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise InvalidRequest("the file of patients is too large")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest("the file of patients is not UTF-8") from None
    patients = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.removesuffix("\r").split("\t")
        if not line.strip():
            continue
        if len(words) > 2 or not words[0].strip():
            raise InvalidRequest(f"line {number} is not a patient's id, or an id, a tab and its issuer")
        patients.append(Patient(*words))
    if not patients:
        raise InvalidRequest("the file of patients names nobody")
    return patients


def _found(found: Belongings) -> Belongings:
    if not (found.files or found.arrivals):
        raise NotFound(
            "nothing of these patients is registered here",
            advice="An id goes with the issuer that the archive gives, or with none if it gives none.",
        )
    return found


def _tell(found: Belongings) -> None:
    for directory in sorted(path for paths in found.directories.values() for path in paths):
        click.echo(directory)
    click.echo(
        f"{_files(found.files)} under {len(found.keys)} keys, {found.staged} of them staged;"
        f" {len(found.arrivals)} wait to be registered"
    )


def _tell_erased(erased: Erased) -> None:
    click.echo(
        f"names: {erased.files} removed, with what was staged; {erased.arrivals} not registered any more"
    )
    click.echo(f"catalogues: {erased.files - erased.waiting} of {erased.files} forgotten")
    for order in erased.orders:
        click.echo(f"key {order.key_id}: {how_far(order)}")
    for key_id in erased.kept:
        click.echo(f"key {key_id}: kept, other files of its series have it", err=True)
    if erased.waiting or not all(order.done for order in erased.orders):
        click.echo("not all is done; the registrar goes on asking", err=True)
    if erased.left:
        click.echo(f"{erased.left} files have come meanwhile: give the command again", err=True)


def how_far(order: Order) -> str:
    """Return how far the destruction of a key has come."""
    told = f"{len(order.confirmed)} servers have confirmed"
    return f"destroyed: {told}" if order.done else f"not yet: {told}, {order.needed or 'all'} are needed"


def _files(files: Sequence[object]) -> str:
    return f"{len(files)} files"

"""``mdm-keys``: run a key server and keep its records safe, on the machine that holds them.

It needs little beside itself (``etc/mdm-keys.requirements.txt``): whoever lends a hospital a key server
installs no storage server with it.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from mdm_keys import archive, server
from mdm_keys.ledger import DestructionLedger
from mdm_keys.resharing import own_key
from mdm_keys.server import KeyServer, KeyServerSettings, ledger_path, trusted_sites
from mdm_keys.store import KeyStore
from srm_dicom import telemetry
from srm_dicom.audit import segments
from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.audit.verify import verify
from srm_dicom.cli import keyfiles
from srm_dicom.cli.exits import reported
from srm_dicom.clock import SystemClock
from srm_dicom.crypto.keyfile import write_public_key
from srm_dicom.db.database import Database
from srm_dicom.durable import replace
from srm_dicom.web import hosting

DEFAULT_CONFIG = Path("/etc/srm-dicom/catalog.d/keys.toml")

_config = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="MDM_KEYS_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The key server's own file.",
)
_file = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="srm-dicom")
def main() -> None:
    """Run a key server, and look after its records."""
    click.get_current_context().with_resource(telemetry.aside())


@main.command()
@_config
@reported
def serve(config: Path) -> None:
    """Run the key server until it is told to stop."""
    hosting.run(lambda: hosting.catalogue(config, KeyServerSettings, KeyServer), "keys")


@main.command("verify")
@_config
@reported
def verify_audit(config: Path) -> None:
    """Find any gap or edit in this key server's audit log, which it may go on writing; exit code 1 if so."""
    logs = segments.logs([hosting.settings_of(config, KeyServerSettings)[0].audit])
    problems = [f"{name}: {one}" for name, files in logs.items() for one in verify(*files)]
    for problem in problems:
        click.echo(problem)
    if problems:
        raise SystemExit(1)
    click.echo(f"{len(logs)} logs are whole")


@main.command("public-key")
@_config
@click.option("-o", "--output", type=_file, help="Write a Crypt4GH public key file, for --recipient.")
@reported
def public_key(config: Path, output: Path | None) -> None:
    """Print this key server's own public key, for `peers` of the other key servers."""
    _, settings = hosting.settings_of(config, KeyServerSettings)
    public = server.public_key(settings.database)
    if output is None:
        click.echo(public.hex())
    else:
        output.write_text(write_public_key(public))


@main.command()
@_config
@click.option(
    "--recipient",
    "recipients",
    type=_file,
    multiple=True,
    required=True,
    help="Crypt4GH public key file of somebody who may open it; may be given several times.",
)
@click.argument("file", type=_file)
@reported
def export(config: Path, recipients: tuple[Path, ...], file: Path) -> None:
    """Write all records of this key server into FILE, sealed to its recipients; it may go on serving."""
    public = [keyfiles.public_key(path) for path in recipients]
    part = file.with_name(file.name + ".part")
    with _opened(config, f"{config.stem}-export") as here, ExitStack() as leaving:
        leaving.callback(part.unlink, missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            for piece in archive.export(here.store, here.ledger, public, secrets.token_bytes):
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        replace(part, file)
        here.tell("export", f"for {len(public)} recipients")
    click.echo(f"{file.stat().st_size} bytes for {len(public)} recipients in {file}")


@main.command("import")
@_config
@click.option(
    "--sk", "secret_key", type=_file, help="Secret key file of a recipient; by default the server's."
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@reported
def import_(config: Path, secret_key: Path | None, file: Path) -> None:
    """Add the records in FILE that this key server does not have; what was destroyed stays destroyed.

    The key server has to be stopped for it.
    """
    with _opened(config, config.stem) as here:
        private = keyfiles.secret_key(secret_key) if secret_key else own_key(here.store)
        done = archive.load(file, private, here.store, here.ledger, trusted_sites(here.settings))
        here.tell("import", f"{done.keys} keys and {done.shares} shares added")
    click.echo(f"{done.keys} keys and {done.shares} shares added, {done.destroyed} left out as destroyed")


class _Here(NamedTuple):
    """What a command works on."""

    settings: KeyServerSettings
    store: KeyStore
    ledger: DestructionLedger
    audit: AuditLog

    def tell(self, operation: str, rule: str) -> None:
        event = Event(action=Action.ADMINISTRATIVE, outcome=Outcome.ALLOWED, operation=operation, rule=rule)
        self.audit.record(event)


@contextmanager
def _opened(config: Path, role: str) -> Iterator[_Here]:
    """Open a key server's database, and the audit log of a role; one process has it at a time."""
    file, settings = hosting.settings_of(config, KeyServerSettings)
    audit = AuditLog(file.audit, role, socket.gethostname(), SystemClock())
    database = Database(settings.database)
    try:
        ledger = DestructionLedger(ledger_path(file.audit, config.stem))
        yield _Here(settings, KeyStore(database), ledger, audit)
    finally:
        audit.close()
        database.close()


if __name__ == "__main__":
    main()

"""``glite-eds-*``: the Encrypted Data Storage commands of gLite, with their options and output.

An id is a GUID or any string of the characters of one; an LFN (``lfn:/grid/...``) stands for the key of its
file. ``-c`` and ``-k`` are read as they were and name the one cipher that there is. Registering takes a
signing key that the key servers know (``MDM_SIGNING_KEY``, 32 bytes in a file); everything else takes the
rights on the key. Bytes are carried by ``gfal-copy``, as GFAL did then.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from srm_dicom.cli.edsrights import chmod, getacl, setacl
from srm_dicom.cli.edssite import Eds, Failures, check_cipher, common, connected, during, ending, of_cipher
from srm_dicom.cli.exits import reported, tell
from srm_dicom.client.appearing import appearing
from srm_dicom.client.download import open_any, open_sealed
from srm_dicom.client.files import FileRecord
from srm_dicom.clock import SystemClock
from srm_dicom.crypto import sealing
from srm_dicom.errors import (
    ConfigError,
    MdmError,
    NotAuthorised,
    NotFound,
    SourceUnavailable,
)
from srm_dicom.ids import Guid, parse_path

__all__ = [
    "chmod",
    "decrypt",
    "encrypt",
    "get",
    "getacl",
    "key_register",
    "key_unregister",
    "put",
    "rm",
    "setacl",
]

BLOCK_BYTES = 1_000_000
VALIDITY = timedelta(days=365)
STORAGE = "GLITE_EDS_SE"
COPY_S = 3600
NOT_WHOLE = (
    "warning: nothing in this file shows that it is whole and in order, as it is in files of this site's"
    " programs; segments may be missing, moved or repeated"
)

_source = click.Path(path_type=Path, exists=True, dir_okay=False)
_target = click.Path(path_type=Path, dir_okay=False)


# --- keys ----------------------------------------------------------------------------------------


@click.command(add_help_option=False)
@common
@of_cipher
@click.argument("key_id", metavar="ID")
def key_register(key_id: str, cipher: str, keysize: int, **options: Any) -> None:
    """Make a new key and register it under ID."""
    with during("glite_eds_register"), connected(**options) as eds:
        check_cipher(cipher, keysize)
        eds.register(eds.id_of(key_id), SystemClock().now() + VALIDITY)
        eds.say(f"A key has been generated and registered for ID '{key_id}'")


@click.command(add_help_option=False)
@common
@click.argument("key_id", metavar="ID")
def key_unregister(key_id: str, **options: Any) -> None:
    """Remove the key of ID from the key servers."""
    with during("glite_eds_unregister"), connected(**options) as eds:
        eds.unregister(eds.id_of(key_id))
        eds.say(f"The key has been unregistered for ID '{key_id}'")


@click.command(add_help_option=False)
@common
@click.argument("key_id", metavar="ID")
@click.argument("source", metavar="IN", type=_source)
@click.argument("target", metavar="OUT", type=_target)
@reported
def encrypt(key_id: str, source: Path, target: Path, **options: Any) -> None:
    """Encrypt the local file IN with the key of ID into OUT, a Crypt4GH file."""
    with connected(**options) as eds:
        with during("glite_eds_encrypt_init"):
            public = sealing.public_key_of(eds.keys.fetch(eds.id_of(key_id)))
        with during("glite_eds_encrypt_block"):
            seal_file(source, target, public)
        eds.say(_done("encrypted", key_id, source, target))


@click.command(add_help_option=False)
@common
@click.argument("key_id", metavar="ID")
@click.argument("source", metavar="IN", type=_source)
@click.argument("target", metavar="OUT", type=_target)
@reported
def decrypt(key_id: str, source: Path, target: Path, **options: Any) -> None:
    """Decrypt the local file IN with the key of ID into OUT, whichever Crypt4GH program has sealed it."""
    with connected(**options) as eds:
        with during("glite_eds_decrypt_init"):
            private = eds.keys.fetch(eds.id_of(key_id))
        with during("glite_eds_decrypt_block"):
            if not open_any(source, target, private):
                click.echo(NOT_WHOLE, err=True)
        eds.say(_done("decrypted", key_id, source, target))


def _done(what: str, key_id: str, source: Path, target: Path) -> str:
    return (
        f"File '{source}' has been successfully {what}\n\twith key '{key_id}'\n\tand written to '{target}'."
    )


# --- files ---------------------------------------------------------------------------------------


@click.command(add_help_option=False)
@common
@of_cipher
@click.option("-i", "--id", "key_id", help="Id of the key; by default the GUID of the LFN.")
@click.option(
    "-u", "--unencrypted", is_flag=True, help="Make and register the key only: the storage encrypts."
)
@click.argument("source", metavar="LOCAL", type=_source)
@click.argument("lfn", metavar="LFN")
@reported
def put(
    source: Path, lfn: str, key_id: str | None, unencrypted: bool, cipher: str, keysize: int, **options: Any
) -> None:
    """Register a key, encrypt LOCAL, store it (below the SURL in GLITE_EDS_SE) and name it LFN.

    What has been done is undone when a later step fails.
    """
    check_cipher(cipher, keysize)
    storage = os.environ.get(STORAGE)
    if not storage:
        raise ConfigError(
            "there is no storage to put files on", advice=f"Set {STORAGE} to a SURL of a directory."
        )
    guid = Guid(str(uuid.uuid4()))
    surl = f"{storage.rstrip('/')}/{guid}"
    with connected(**options) as eds, undoing() as undo:
        key = key_id or guid
        with during("glite_eds_register_encrypt_init"):
            public = eds.register(key, SystemClock().now() + VALIDITY)
        undo.append(lambda: eds.keys.remove(key))
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="glite-eds-") as directory:
            sent = source
            if not unencrypted:
                sent = Path(directory) / "sealed"
                with during("glite_eds_encrypt_block"):
                    seal_file(source, sent, public)
            copy(f"file://{sent.resolve()}", surl)
        undo.append(lambda: gfal("gfal-rm", surl))
        path = parse_path(lfn.removeprefix("lfn:"))
        record = FileRecord(lfn=path, guid=guid, surls=(surl,), public_key=public.hex(), key_id=key)
        undo.append(lambda: eds.client.files.unregister([f"guid:{guid}"]))  # done, and the answer lost
        eds.client.files.register([record])
        size = source.stat().st_size
        counted = {"Data Written [bytes]": str(size), **_rate(size, began_s)}
        eds.say(f"File Transfer Completed{_transferred(f'lfn:{path}', record, counted)}")


@click.command(add_help_option=False)
@common
@click.option("-i", "--id", "key_id", help="Id of the key; by default that of the LFN.")
@click.argument("lfn", metavar="LFN")
@click.argument("target", metavar="LOCAL", type=_target)
@reported
def get(lfn: str, target: Path, key_id: str | None, **options: Any) -> None:
    """Get the file LFN and decrypt it into LOCAL."""
    with connected(**options) as eds:
        record = eds.client.files.lookup(lfn)
        began_s = time.monotonic()
        if key_id is None and not _was_put(record):
            with eds.client.open(lfn) as file, ending("error: "), appearing(target) as out:
                read = written = sum(out.write(block) for block in iter(lambda: file.read(BLOCK_BYTES), b""))
        else:
            read, written = _get_put(eds, record, key_id, target)
        counted = {
            "Remote Read [bytes]": str(read),
            "Locally Written [bytes]": str(written),
            **_rate(read, began_s),
        }
        eds.say(_transferred(_url(lfn), record, counted))


@click.command(add_help_option=False)
@common
@click.option("-i", "--id", "key_id", help="Id of the key; by default that of the LFN.")
@click.argument("lfn", metavar="LFN")
@reported
def rm(lfn: str, key_id: str | None, **options: Any) -> None:
    """Remove the file LFN and its key.

    One of the two that is gone already is only warned of; while a key cannot be removed its file stays.
    """
    with connected(**options) as eds:
        began_s, gone = time.monotonic(), Failures()
        record = _record_to_remove(eds, lfn, needed=key_id is None)
        known = key_id or (record.key_id if record else "")
        unknown = (NotFound,) if known else (NotFound, NotAuthorised)  # to others than creators: no such key
        with during("glite_eds_unregister"), _warning("during glite_eds_unregister", gone, unknown):
            eds.unregister(known or (record.guid if record else ""))
        with _warning(f"cannot unlink remote file {lfn}", gone):
            if record is None:
                raise NotFound("the catalogue knows no such file")
            for surl in record.surls if _was_put(record) else ():
                gfal("gfal-rm", surl)
            eds.client.files.unregister([lfn])
        if len(gone) > 1:
            gone.end()
        spent_s = time.monotonic() - began_s
        lines = f"  File          : {_url(lfn)}  \n  Time [s]      : {spent_s:f}  \n"
        eds.say(f"\nUnlink Completed:\n\n{lines}")


def _record_to_remove(eds: Eds, lfn: str, *, needed: bool) -> FileRecord | None:
    try:
        return eds.client.files.lookup(lfn)
    except NotFound:
        if needed:
            raise
        return None


@contextmanager
def _warning(what: str, gone: Failures, unknown: tuple[type[MdmError], ...] = (NotFound,)) -> Iterator[None]:
    """Warn of what is not there and cannot be removed."""
    try:
        yield
    except unknown as error:
        tell(error, f"WARNING: {what}: ")
        gone.append(error)


def _was_put(record: FileRecord) -> bool:
    """Tell whether `put` has stored a file, under its GUID, here or elsewhere.

    Any other is the site's: it has a manifest that the site signed, and the site removes it.
    """
    return all(surl.endswith(f"/{record.guid}") for surl in record.surls)


def _get_put(eds: Eds, record: FileRecord, key_id: str | None, target: Path) -> tuple[int, int]:
    """Get a file that `put` has stored; returns how many bytes it had there, and how many it has here."""
    if not record.surls:
        raise NotFound("the catalogue knows no replica of this file")
    public = bytes.fromhex(record.public_key) if record.public_key and key_id is None else None
    with during("glite_eds_decrypt_init"):
        private = eds.keys.fetch(key_id or record.key_id or record.guid, public)
    with tempfile.TemporaryDirectory(prefix="glite-eds-") as directory:
        sealed = Path(directory) / "sealed"
        copy(record.surls[0], f"file://{sealed}")
        with during("glite_eds_decrypt_block"):
            return sealed.stat().st_size, open_sealed(sealed, target, private)


def _url(lfn: str) -> str:
    return lfn if lfn.startswith(("lfn:", "guid:")) else f"lfn:{lfn}"


def _rate(size_bytes: int, began_s: float) -> dict[str, str]:
    spent_s = max(time.monotonic() - began_s, 1e-3)
    return {"Eff.Transfer Rate[Mb/s]": f"{size_bytes / spent_s / 1e6:f}"}


def _transferred(url: str, record: FileRecord, counted: Mapping[str, str]) -> str:
    """Return what the originals print after a transfer; its ``Mb`` are megabytes, as theirs were."""
    surls = [("SURL", surl) for surl in record.surls]
    lines = [("LFN", url), ("GUID", record.guid), *surls, *counted.items()]
    return "\nTransfer Completed:\n\n" + "".join(f"  {name:24}: {value}\n" for name, value in lines)


# --- parts ---------------------------------------------------------------------------------------


def seal_file(source: Path, target: Path, public_key: bytes) -> None:
    """Write a local file sealed to a public key."""
    with source.open("rb") as clear, appearing(target) as out:
        blocks = iter(lambda: clear.read(BLOCK_BYTES), b"")
        for piece in sealing.seal([public_key], blocks, secrets.token_bytes):
            out.write(piece)


def copy(source: str, target: str) -> None:
    """Copy between a local file and a storage element.

    Raises:
        SourceUnavailable: it was not copied.
    """
    gfal("gfal-copy", "--parent", source, target)


def gfal(program: str, *arguments: str) -> None:
    """Run a program of gfal2-util.

    Raises:
        SourceUnavailable: it failed, or is not here.
    """
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=COPY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceUnavailable(f"{program} could not be run: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        raise SourceUnavailable(f"{program} failed: {lines[-1]}")


@contextmanager
def undoing() -> Iterator[list[Callable[[], object]]]:
    """Give a list of what undoes each step that was done; it is walked backwards when something fails."""
    steps: list[Callable[[], object]] = []
    try:
        yield steps
    except BaseException:
        for step in reversed(steps):
            try:
                step()
            except MdmError as error:
                click.echo(f"error: not undone: {error.message}", err=True)
        raise


if __name__ == "__main__":
    sys.exit("this is ten commands: glite-eds-key-register and so on")

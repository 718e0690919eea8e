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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.cli import edspermissions
from srm_dicom.cli.exits import reported
from srm_dicom.client.appearing import appearing
from srm_dicom.client.download import open_any, open_sealed
from srm_dicom.client.files import FileRecord
from srm_dicom.client.keys import KeyServers
from srm_dicom.client.library import Client
from srm_dicom.client.site import SiteDescription
from srm_dicom.clock import SystemClock
from srm_dicom.crypto import sealing
from srm_dicom.crypto.keyrecord import CIPHER, KEY_BYTES, issue
from srm_dicom.crypto.signing import trusting
from srm_dicom.errors import ConfigError, InvalidRequest, MdmError, NotFound, SourceUnavailable
from srm_dicom.identity.credential import Credential
from srm_dicom.ids import Guid, parse_path
from srm_dicom.rights.acl import Acl

F = TypeVar("F", bound=Callable[..., Any])

BLOCK_BYTES = 1_000_000
VALIDITY = timedelta(days=365)
OWNER = "user::pdrwlgs"
SIGNING_KEY = "MDM_SIGNING_KEY"
STORAGE = "GLITE_EDS_SE"
COPY_S = 3600
NOT_WHOLE = (
    "warning: nothing in this file shows that it is whole and in order, as it is in files of this site's"
    " programs; segments may be missing, moved or repeated"
)


@dataclass(frozen=True, slots=True)
class Eds:
    """One command's connections and how much it says."""

    client: Client
    keys: KeyServers
    signing_key: Ed25519PrivateKey | None
    threshold: int
    verbose: bool
    quiet: bool

    def say(self, text: str) -> None:
        """Print what is printed unless -q is given."""
        if not self.quiet:
            click.echo(text)

    def detail(self, text: str) -> None:
        """Print what is printed only with -v."""
        if self.verbose:
            click.echo(text, err=True)

    def id_of(self, name: str) -> str:
        """Return the id that an argument stands for."""
        if name.startswith(("lfn:", "guid:", "/")):
            record = self.client.files.lookup(name)
            if not record.key_id:
                raise NotFound("the file has no key")
            return record.key_id
        return name

    def register(self, key_id: str, until: datetime) -> bytes:
        """Make a key pair, register it under an id, and return its public half.

        Raises:
            ConfigError: there is no signing key here.
            MdmError: the key servers do not take it; none of them has it then.
        """
        if self.signing_key is None:
            raise ConfigError(
                "registering takes a signing key that the key servers know",
                advice=f"Set {SIGNING_KEY} to a file with its 32 bytes.",
            )
        private = X25519PrivateKey.generate()
        records = issue(
            private.private_bytes_raw(),
            k=self.threshold,
            n=len(self.keys.endpoints),
            valid_until=until,
            signing_key=self.signing_key,
            random_bytes=secrets.token_bytes,
            key_id=key_id,
        )
        self.keys.register(records, Acl.parse(OWNER))
        self.detail(f"registered {key_id}: {CIPHER}, {self.threshold} of {len(records)} shares")
        return private.public_key().public_bytes_raw()


@contextmanager
def connected(*, verbose: bool = False, quiet: bool = False, services: tuple[str, ...] = ()) -> Iterator[Eds]:
    """Open the site of the environment."""
    site = SiteDescription.from_environment(os.environ)
    credential = Credential.from_environment(os.environ)
    signing_key = _signing_key()
    sites = site.trusted_signers() | (trusting(signing_key.public_key()) if signing_key else {})
    endpoints = services or site.keys
    keys = KeyServers(endpoints, credential, sites=sites)
    try:
        with Client(site, credential) as client:
            yield Eds(client, keys, signing_key, threshold_of(len(endpoints)), verbose, quiet)
    finally:
        keys.close()


def threshold_of(n: int) -> int:
    """Return how many of n shares give a key by the rule of gLite: floor(log2 n) + 1, at most n."""
    return min(n, n.bit_length())


def _signing_key() -> Ed25519PrivateKey | None:
    path = os.environ.get(SIGNING_KEY)
    if not path:
        return None
    try:
        return Ed25519PrivateKey.from_private_bytes(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no signing key of 32 bytes") from error


def _common(command: F) -> F:
    """Give a command the options that all of them have."""
    options = (
        click.option(
            "-h", "--help", "wants_help", is_flag=True, is_eager=True, callback=_help, expose_value=False
        ),
        click.version_option(None, "-V", "--version", package_name="srm-dicom"),
        click.option("-v", "--verbose", is_flag=True, help="Tell what is done."),
        click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
        click.option("-s", "--service", "services", metavar="URL", multiple=True, help="Key servers to ask."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _help(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(context.get_help())
        context.exit()


_cipher = (
    click.option("-c", "--cipher", default=CIPHER, help=f"Has to be {CIPHER}."),
    click.option("-k", "--keysize", type=int, default=KEY_BYTES * 8, help=f"Has to be {KEY_BYTES * 8} bits."),
)


def _of_cipher(command: F) -> F:
    for option in reversed(_cipher):
        command = option(command)
    return command


def _check_cipher(cipher: str, keysize: int) -> None:
    if (cipher, keysize) != (CIPHER, KEY_BYTES * 8):
        raise InvalidRequest(f"the one cipher is {CIPHER} with {KEY_BYTES * 8} bits")


# --- keys ----------------------------------------------------------------------------------------


@click.command(add_help_option=False)
@_common
@_of_cipher
@click.argument("key_id", metavar="ID")
@reported
def key_register(key_id: str, cipher: str, keysize: int, **options: Any) -> None:
    """Make a new key and register it under ID."""
    _check_cipher(cipher, keysize)
    with connected(**options) as eds:
        eds.register(key_id, SystemClock().now() + VALIDITY)
        eds.say(f"Key registered for id '{key_id}'")


@click.command(add_help_option=False)
@_common
@click.argument("key_id", metavar="ID")
@reported
def key_unregister(key_id: str, **options: Any) -> None:
    """Remove the key of ID from the key servers."""
    with connected(**options) as eds:
        eds.keys.remove(eds.id_of(key_id))
        eds.say(f"Key unregistered for id '{key_id}'")


@click.command(add_help_option=False)
@_common
@click.argument("key_id", metavar="ID")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
@reported
def encrypt(key_id: str, source: Path, target: Path, **options: Any) -> None:
    """Encrypt the local file IN with the key of ID into OUT, a Crypt4GH file."""
    with connected(**options) as eds:
        public = sealing.public_key_of(eds.keys.fetch(eds.id_of(key_id)))
        seal_file(source, target, public)
        eds.detail(f"{source.stat().st_size} bytes encrypted")


@click.command(add_help_option=False)
@_common
@click.argument("key_id", metavar="ID")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
@reported
def decrypt(key_id: str, source: Path, target: Path, **options: Any) -> None:
    """Decrypt the local file IN with the key of ID into OUT, whichever Crypt4GH program has sealed it."""
    with connected(**options) as eds:
        if not open_any(source, target, eds.keys.fetch(eds.id_of(key_id))):
            click.echo(NOT_WHOLE, err=True)
        eds.detail(f"{target.stat().st_size} bytes decrypted")


# --- files ---------------------------------------------------------------------------------------


@click.command(add_help_option=False)
@_common
@_of_cipher
@click.option("-i", "--id", "key_id", help="Id of the key; by default the GUID of the LFN.")
@click.option(
    "-u", "--unencrypted", is_flag=True, help="Make and register the key only: the storage encrypts."
)
@click.argument("source", metavar="LOCAL", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("lfn", metavar="LFN")
@reported
def put(
    source: Path, lfn: str, key_id: str | None, unencrypted: bool, cipher: str, keysize: int, **options: Any
) -> None:
    """Register a key, encrypt LOCAL, store it (below the SURL in GLITE_EDS_SE) and name it LFN.

    What has been done is undone when a later step fails.
    """
    _check_cipher(cipher, keysize)
    storage = os.environ.get(STORAGE)
    if not storage:
        raise ConfigError(
            "there is no storage to put files on", advice=f"Set {STORAGE} to a SURL of a directory."
        )
    guid = Guid(str(uuid.uuid4()))
    surl = f"{storage.rstrip('/')}/{guid}"
    with connected(**options) as eds, undoing() as undo:
        key = key_id or guid
        public = eds.register(key, SystemClock().now() + VALIDITY)
        undo.append(lambda: eds.keys.remove(key))
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="glite-eds-") as directory:
            sent = source
            if not unencrypted:
                sent = Path(directory) / "sealed"
                seal_file(source, sent, public)
            copy(f"file://{sent.resolve()}", surl)
        undo.append(lambda: gfal("gfal-rm", surl))
        path = parse_path(lfn.removeprefix("lfn:"))
        record = FileRecord(lfn=path, guid=guid, surls=(surl,), public_key=public.hex(), key_id=key)
        eds.client.files.register([record])
        size, spent_s = source.stat().st_size, max(time.monotonic() - began_s, 1e-3)
        eds.say(f"LFN: lfn:{path}\nGUID: {guid}\nSURL: {surl}")
        eds.say(f"{size} bytes written in {spent_s:.3f} s, {size / spent_s / 1024:.1f} kB/s")


@click.command(add_help_option=False)
@_common
@click.option("-i", "--id", "key_id", help="Id of the key; by default that of the LFN.")
@click.argument("lfn", metavar="LFN")
@click.argument("target", metavar="LOCAL", type=click.Path(path_type=Path, dir_okay=False))
@reported
def get(lfn: str, target: Path, key_id: str | None, **options: Any) -> None:
    """Get the file LFN and decrypt it into LOCAL."""
    with connected(**options) as eds:
        record = eds.client.files.lookup(lfn)
        began_s = time.monotonic()
        if key_id is None and not _was_put(record):
            with eds.client.open(lfn) as file, appearing(target) as out:
                while block := file.read(BLOCK_BYTES):
                    out.write(block)
        else:
            _get_put(eds, record, key_id, target)
        size, spent_s = target.stat().st_size, max(time.monotonic() - began_s, 1e-3)
        eds.say(f"{size} bytes read in {spent_s:.3f} s, {size / spent_s / 1024:.1f} kB/s")


@click.command(add_help_option=False)
@_common
@click.argument("lfn", metavar="LFN")
@reported
def rm(lfn: str, **options: Any) -> None:
    """Remove the file LFN and its key."""
    with connected(**options) as eds:
        record = eds.client.files.lookup(lfn)
        if record.key_id:
            eds.keys.remove(record.key_id)
        if _was_put(record):
            for surl in record.surls:
                gfal("gfal-rm", surl)
        eds.client.files.unregister([lfn])
        eds.say(f"File and key removed: {lfn}")


def _was_put(record: FileRecord) -> bool:
    """Tell whether `put` has stored a file, under its GUID, here or elsewhere.

    Any other is the site's: it has a manifest that the site signed, and the site removes it.
    """
    return all(surl.endswith(f"/{record.guid}") for surl in record.surls)


def _get_put(eds: Eds, record: FileRecord, key_id: str | None, target: Path) -> None:
    """Get a file that `put` has stored."""
    if not record.surls:
        raise NotFound("the catalogue knows no replica of this file")
    public = bytes.fromhex(record.public_key) if record.public_key and key_id is None else None
    private = eds.keys.fetch(key_id or record.key_id, public)
    with tempfile.TemporaryDirectory(prefix="glite-eds-") as directory:
        sealed = Path(directory) / "sealed"
        copy(record.surls[0], f"file://{sealed}")
        open_sealed(sealed, target, private)


# --- permissions ---------------------------------------------------------------------------------


@click.command(add_help_option=False)
@_common
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@reported
def getacl(names: tuple[str, ...], **options: Any) -> None:
    """Print owner, group, base permissions and ACL of keys."""
    with connected(**options) as eds:
        for name in names:
            permission = eds.keys.permission(eds.id_of(name))
            click.echo(
                "\n".join(
                    ([f"# Item: {name}"] if len(names) > 1 else []) + edspermissions.listing(permission)
                )
            )


@click.command(add_help_option=False)
@_common
@click.option("-m", "--modify", multiple=True, metavar="PRINCIPAL:PERMS", help="Add or change entries.")
@click.option("-d", "--delete", multiple=True, metavar="PRINCIPAL", help="Remove entries.")
@click.option("-f", "--file", type=click.File(), help="Replace the list by that of a file, or of - .")
@click.argument("words", metavar="[ACL] ID...", nargs=-1, required=True)
@reported
def setacl(
    words: tuple[str, ...], modify: tuple[str, ...], delete: tuple[str, ...], file: Any, **options: Any
) -> None:
    """Change the ACL of keys, or replace it by a list (PRINCIPAL:PERMS,...), a file or standard input."""
    names, entries = list(words), None
    if file is not None:
        entries = edspermissions.read_entries(file)
    elif not modify and not delete:
        entries = edspermissions.read_entries([names.pop(0)])
    if not names:
        raise InvalidRequest("an id is missing")
    with connected(**options) as eds:
        for key_id in map(eds.id_of, names):
            permission = eds.keys.permission(key_id)
            if entries is not None:
                permission = replace(permission, acl=entries)
            permission = edspermissions.without(permission, delete)
            permission = edspermissions.merged(permission, edspermissions.read_entries(modify))
            eds.keys.set_permission(key_id, permission)
            eds.detail(f"ACL of {key_id} set")


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@_common
@click.argument("mode", metavar="[ugoa]*(+|-|=)[pdrwlxgs]+")
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@reported
def chmod(mode: str, names: tuple[str, ...], **options: Any) -> None:
    """Change the base permissions of keys."""
    with connected(**options) as eds:
        for key_id in map(eds.id_of, names):
            permission = edspermissions.changed_mode(eds.keys.permission(key_id), mode)
            eds.keys.set_permission(key_id, permission)
            eds.detail(f"base permissions of {key_id} set")


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
    sys.exit("this is nine commands: glite-eds-key-register and so on")

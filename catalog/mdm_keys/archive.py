"""A key server's records as one file, sealed to named Crypt4GH recipients: for the day when its disk is lost.

Lines of JSON: first what was destroyed, then every key with its shares, at last how many lines there were.
An import takes the ledger first, so that what was destroyed since the file was made, or before, does not
come back, and then all keys or none. Each record is checked as one that is registered is. A share that fresh
ones have replaced does not come back either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mdm_keys import records
from mdm_keys.ledger import DestructionLedger
from mdm_keys.store import HeldShare, Key, KeyStore, shares_of
from srm_dicom.crypto import sealing
from srm_dicom.crypto.crypt4gh import MAX_HEADER_BYTES, Header, Layout
from srm_dicom.crypto.keyrecord import is_unproven
from srm_dicom.crypto.siv import verified_reader
from srm_dicom.errors import IntegrityError
from srm_dicom.rights.acl import Acl
from srm_dicom.wire.hydra.contract import SharedKey

_CHUNK_BYTES = 1024 * 1024
_MAX_LINE_BYTES = 16 * 1024 * 1024
_BATCH = 500


class _Destroyed(msgspec.Struct, tag="destroyed", forbid_unknown_fields=True):
    key_id: str
    public_key: str


class _Share(msgspec.Struct, forbid_unknown_fields=True):
    index: int
    share: str
    charter: str


class _Key(msgspec.Struct, tag="key", forbid_unknown_fields=True):
    id: str
    owner: str
    group: str
    acl: str
    shares: list[_Share]


class _End(msgspec.Struct, tag="end", forbid_unknown_fields=True):
    lines: int


_Line = _Destroyed | _Key | _End


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import has done: keys and shares added, keys left out because they were destroyed."""

    keys: int
    shares: int
    destroyed: int


def export(
    store: KeyStore,
    ledger: DestructionLedger,
    recipients: Sequence[bytes],
    random_bytes: sealing.RandomBytes,
) -> Iterator[bytes]:
    """Yield a sealed file of everything that a server holds, as it is now.

    Args:
        store: its keys.
        ledger: what was destroyed.
        recipients: X25519 public keys; each of them alone opens the file.
        random_bytes: a source of secret, uniformly random bytes.
    """
    return sealing.seal(recipients, _lines(store, ledger), random_bytes)


def load(
    file: Path,
    private_key: bytes,
    store: KeyStore,
    ledger: DestructionLedger,
    sites: Mapping[str, Ed25519PublicKey],
) -> Imported:
    """Add what a sealed file has and the server has not; what is there stays as it is.

    Args:
        file: that `export` made.
        private_key: X25519, of a recipient.
        store: where the keys go.
        ledger: gets what was destroyed, first of all.
        sites: the registering sites' keys, by `signing.fingerprint`.

    Raises:
        InvalidRequest: the file is none, or not sealed to this key; nothing was added.
        IntegrityError: it is damaged or cut, or has a record that no site signed; no key was added.
    """
    loading = _Loading(store, ledger, sites)
    with file.open("rb") as sealed, store.transaction():
        for line in _opened(sealed, file.stat().st_size, private_key):
            loading.add(_read(line))
        return loading.end()


class _Loading:
    """One import under way."""

    def __init__(
        self, store: KeyStore, ledger: DestructionLedger, sites: Mapping[str, Ed25519PublicKey]
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._sites = sites
        self._destroyed: list[tuple[bytes, str]] = []
        self._keys: list[_Key] = []
        self._lines = 0
        self._expected = -1
        self._done = Imported(0, 0, 0)

    def add(self, line: _Line) -> None:
        """Take the next line."""
        if isinstance(line, _End):
            self._expected = line.lines
            return
        self._lines += 1
        if isinstance(line, _Destroyed):
            self._destroyed.append((bytes.fromhex(line.public_key), line.key_id))
            return
        self._replay()
        self._keys.append(line)
        if len(self._keys) >= _BATCH:
            self._flush()

    def end(self) -> Imported:
        """Add the rest.

        Raises:
            IntegrityError: the end of the file is missing.
        """
        if self._lines != self._expected:
            raise IntegrityError("the end of the file is missing")
        self._replay()
        self._flush()
        return self._done

    def _replay(self) -> None:
        if self._destroyed:
            self._ledger.add(self._destroyed)
            self._store.remove_of(self._destroyed)
            self._destroyed.clear()

    def _flush(self) -> None:
        keys = {key.id: key for key in self._keys}
        known = self._store.find(keys)
        shares = {key_id: [self._checked(key_id, one) for one in key.shares] for key_id, key in keys.items()}
        dead = {
            key_id
            for key_id, some in shares.items()
            if any((one.public_key, key_id) in self._ledger for one in some)
        }
        new = [
            Key(key.id, key.owner, key.group, Acl.stored(key.acl))
            for key in keys.values()
            if key.id not in known and key.id not in dead
        ]
        missing = [
            one
            for key_id, some in shares.items()
            for one in some
            if key_id not in dead and _is_missing(one, shares_of(known, key_id))
        ]
        self._store.create(new)
        self._store.add(missing)
        self._keys.clear()
        done = self._done
        self._done = Imported(done.keys + len(new), done.shares + len(missing), done.destroyed + len(dead))

    def _checked(self, key_id: str, share: _Share) -> HeldShare:
        return records.check(SharedKey(key_id, share.index, share.share, share.charter), self._sites)


def _is_missing(share: HeldShare, held: Iterable[HeldShare]) -> bool:
    """Tell whether a share is not here, and no newer one is that has replaced it."""
    return all(
        one.generation < share.generation or (one.generation > share.generation and is_unproven(one.charter))
        for one in held
    )


def _lines(store: KeyStore, ledger: DestructionLedger) -> Iterator[bytes]:
    lines = 0
    for one in _everything(store, ledger):
        lines += 1
        yield msgspec.json.encode(one) + b"\n"
    yield msgspec.json.encode(_End(lines)) + b"\n"


def _everything(store: KeyStore, ledger: DestructionLedger) -> Iterator[_Line]:
    for public_key, key_id in ledger:
        yield _Destroyed(key_id, public_key.hex())
    for key in store.all_keys():
        kept = [_Share(held.index, held.share.hex(), held.charter) for held in key.shares]
        yield _Key(key.id, key.owner, key.group, str(key.acl), kept)


def _opened(sealed: BinaryIO, size_bytes: int, private_key: bytes) -> Iterator[bytes]:
    """Yield the lines of a sealed file."""
    header = Header.parse(sealed.read(MAX_HEADER_BYTES))
    sealed.seek(header.size_bytes)
    reader = verified_reader(header.open(private_key), Layout(size_bytes, header.size_bytes))
    waiting = bytearray()
    for chunk in _chunks(sealed):
        waiting += reader.update(chunk)
        *lines, rest = waiting.split(b"\n")
        yield from map(bytes, lines)
        waiting = rest
        if len(waiting) > _MAX_LINE_BYTES:
            raise IntegrityError("a line of the file is too long")
    reader.finish()


def _chunks(file: BinaryIO) -> Iterable[bytes]:
    return iter(lambda: file.read(_CHUNK_BYTES), b"")


def _read(line: bytes) -> _Line:
    try:
        read: _Line = msgspec.json.decode(line, type=_Line)
    except msgspec.DecodeError as error:
        raise IntegrityError("a line of the file makes no sense") from error
    return read

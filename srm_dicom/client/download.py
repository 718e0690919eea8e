"""One file on its way to a user's disk: fetched, verified against its manifest, opened.

What arrives stays in ``<name>.part`` until it is proven to be the file that the site signed, so that an
interrupted download goes on where it stopped, and a name without ``.part`` is always a whole file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from srm_dicom.client.gridftp import Sink
from srm_dicom.crypto.crypt4gh import Header, Layout
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.crypto.siv import verified_reader
from srm_dicom.errors import IntegrityError
from srm_dicom.ids import Guid

MANIFEST_SUFFIX = ".manifest"
MAX_MANIFEST_BYTES = 64 * 1024
MAX_HEADER_BYTES = 64 * 1024
_CHUNK_BYTES = 1024 * 1024

Progress = Callable[[int], None]


class Door(Protocol):
    """Whatever serves files by their TURL: `client.gridftp.GridFtpClient`, `client.doors.Doors`."""

    def read(self, turl: str, *, limit_bytes: int = ...) -> bytes:
        """Return a file of at most `limit_bytes`."""
        ...

    def fetch(self, turl: str, sink: Sink, *, offset: int = ..., progress: Progress | None = ...) -> object:
        """Write a file into `sink`, from `offset` bytes on, telling how many bytes have come."""
        ...


def read_manifest(door: Door, turl: str, guid: Guid, signers: Mapping[str, Ed25519PublicKey]) -> Manifest:
    """Return the manifest that stands beside a file, verified.

    Raises:
        IntegrityError: nobody whom we trust signed it, or it is another file's.
    """
    text = door.read(turl + MANIFEST_SUFFIX, limit_bytes=MAX_MANIFEST_BYTES).decode("ascii", "replace")
    manifest = Manifest.verify(text, signers)
    if manifest.guid != guid:
        raise IntegrityError("the manifest beside the file is another file's")
    return manifest


def download(
    door: Door, turl: str, manifest: Manifest, target: Path, progress: Progress | None = None
) -> None:
    """Fetch the sealed file to `target`; see `fetch_part`."""
    part = part_of(target)
    fetch_part(door, turl, manifest, part, progress)
    _settle(part, target)


def part_of(target: Path) -> Path:
    """Return where a file is until it is proven."""
    return target.with_name(target.name + ".part")


def fetch_part(
    door: Door, turl: str, manifest: Manifest, part: Path, progress: Progress | None = None
) -> None:
    """Fetch the sealed file to `part`, going on where an earlier try stopped, and prove it.

    Args:
        door: where the file is served.
        turl: its name there.
        manifest: what it has to be.
        part: where it goes.
        progress: called with the bytes of the file that are here by now.

    Raises:
        IntegrityError: what came is not what the site signed; the partial file is dropped.
    """
    digest = Digest()
    if part.exists() and part.stat().st_size <= manifest.size_bytes:
        _measure(part, digest)
    continued = digest.size_bytes
    with part.open("ab" if continued else "wb") as sink:
        told = (lambda received: progress(continued + received)) if progress else None
        if continued < manifest.size_bytes:
            door.fetch(turl, _Measured(sink, digest), offset=continued, progress=told)
    try:
        manifest.check(digest)
    except IntegrityError:
        part.unlink()
        if not continued:
            raise
        fetch_part(door, turl, manifest, part, progress)  # the beginning may be another generation's


def open_sealed(source: Path, target: Path, private_key: bytes) -> None:
    """Write the clear bytes of a sealed file that this site made; `target` appears whole or not at all.

    Raises:
        IntegrityError: the key is not the file's, or a segment is not where the site put it.
    """
    part = part_of(target)
    try:
        with source.open("rb") as sealed, part.open("wb") as clear:
            copy_clear(sealed, source.stat().st_size, clear, private_key)
        _settle(part, target)
    finally:
        part.unlink(missing_ok=True)


def copy_clear(sealed: BinaryIO, size_bytes: int, clear: BinaryIO, private_key: bytes) -> None:
    """Copy the clear bytes of an open sealed file of `size_bytes`."""
    header = Header.parse(sealed.read(MAX_HEADER_BYTES))
    sealed.seek(header.size_bytes)
    reader = verified_reader(header.open(private_key), Layout(size_bytes, header.size_bytes))
    while chunk := sealed.read(_CHUNK_BYTES):
        clear.write(reader.update(chunk))
    reader.finish()


def _settle(part: Path, target: Path) -> None:
    """Give a whole file its name; it is on the disk before it has it."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


def _measure(path: Path, digest: Digest) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)


class _Measured:
    """A file that is being written, and its digest."""

    def __init__(self, file: BinaryIO, digest: Digest) -> None:
        self._file = file
        self._digest = digest

    def write(self, data: bytes | memoryview, /) -> None:
        """Write and measure."""
        self._file.write(data)
        self._digest.update(data)

"""One file on its way to a user's disk: fetched, verified against its manifest, opened.

What arrives stays in ``<name>.part`` until it is proven to be the file that the site signed, so that an
interrupted download goes on where it stopped, and a name without ``.part`` is always a whole file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from srm_dicom.client.ftp_session import Sink
from srm_dicom.crypto.crypt4gh import (
    KEY_BYTES,
    NONCE_BYTES,
    SEALED_SEGMENT_BYTES,
    Header,
    Layout,
    SegmentReader,
)
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.crypto.sealing import RandomBytes
from srm_dicom.crypto.siv import PLACES, knows_place, verified_reader
from srm_dicom.errors import IntegrityError, InternalError
from srm_dicom.ids import Guid

MANIFEST_SUFFIX = ".manifest"
MAX_MANIFEST_BYTES = 8 * 1024
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


def read_manifests(
    door: Door, turl: str, count: int, signers: Mapping[str, Ed25519PublicKey]
) -> list[Manifest]:
    """Return the manifests of the `count` files that a bundle is made of, verified, in its order.

    Raises:
        IntegrityError: nobody whom we trust signed one of them, or there are not so many.
    """
    text = door.read(turl + MANIFEST_SUFFIX, limit_bytes=count * MAX_MANIFEST_BYTES)
    lines = text.decode("ascii", "replace").split("\n")
    if len(lines) != count:
        raise IntegrityError("the directory has other files than it had")
    return [Manifest.verify(line, signers) for line in lines]


def download(
    door: Door, turl: str, manifest: Manifest, target: Path, progress: Progress | None = None
) -> None:
    """Fetch the sealed file to `target`; see `fetch_part`."""
    part = part_of(target)
    fetch_part(door, turl, manifest, part, progress)
    settle(part, target)


def part_of(target: Path) -> Path:
    """Return where a file is until it is proven."""
    return target.with_name(target.name + ".part")


def fetch_part(
    door: Door, turl: str, manifest: Manifest, path: Path, progress: Progress | None = None
) -> None:
    """Fetch the sealed file to `path`, going on where an earlier try stopped, and prove it.

    Args:
        door: where the file is served.
        turl: its name there.
        manifest: what it has to be.
        path: where it goes.
        progress: called with the bytes of the file that are here by now.

    Raises:
        IntegrityError: what came is not what the site signed; the partial file is dropped.
    """
    part = Part(path, manifest)
    continued = part.continued
    told = (lambda received: progress(continued + received)) if progress else None
    with part:
        if continued < manifest.size_bytes:
            door.fetch(turl, part, offset=continued, progress=told)
    try:
        part.prove()
    except IntegrityError:
        if not continued:
            raise
        fetch_part(door, turl, manifest, path, progress)  # the beginning may be another generation's


class Part:
    """A sealed file on its way to the disk: open while bytes come, whole when it is proven.

    Args:
        path: where it is; what an earlier try left there is continued.
        manifest: what it has to be.

    Attributes:
        continued: how many bytes an earlier try left.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self._manifest = manifest
        left = path.stat().st_size if path.exists() else 0
        self.continued = left if left <= manifest.size_bytes else 0
        self._digest = Digest()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Part:
        if self.continued:
            _measure(self.path, self._digest)
        self._file = self.path.open("ab" if self.continued else "wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def size_bytes(self) -> int:
        """How many bytes are here by now."""
        return self._digest.size_bytes

    def write(self, data: bytes | memoryview, /) -> None:
        """Write and measure, between `__enter__` and `__exit__`."""
        if self._file is None:
            raise InternalError("a file was written that is not open")
        self._file.write(data)
        self._digest.update(data)

    def prove(self) -> None:
        """Compare what is here with what the site signed.

        Raises:
            IntegrityError: it is something else, and is here no longer.
        """
        try:
            self._manifest.check(self._digest)
        except IntegrityError:
            self.path.unlink()
            raise


def open_sealed(source: Path, target: Path, private_key: bytes) -> None:
    """Write the clear bytes of a sealed file that this site made; `target` appears whole or not at all.

    Raises:
        IntegrityError: the key is not the file's, or a segment is not where the site put it.
    """
    with _opened(source, target) as (sealed, clear):
        copy_clear(sealed, source.stat().st_size, clear, private_key)


def open_any(source: Path, target: Path, private_key: bytes) -> bool:
    """Write the clear bytes of a sealed file whoever made it, as `open_sealed` does.

    Returns:
        Whether it is whole and in order. Other programs leave nothing that tells, nor does a file without
        segments: those that are there were sealed by who wrote the header, but some may be missing, moved
        or repeated.

    Raises:
        IntegrityError: the key is not the file's, or a segment is forged, or is one of a file of this site
            and not where the site put it.
    """
    with _opened(source, target) as (sealed, clear):
        layout, session_key = _header(sealed, source.stat().st_size, private_key)
        is_ours = _is_ours(sealed, layout, session_key)
        reader = verified_reader(session_key, layout) if is_ours else SegmentReader(session_key, layout)
        _copy(sealed, layout, clear, reader)
    return is_ours


def copy_clear(sealed: BinaryIO, size_bytes: int, clear: BinaryIO, private_key: bytes) -> None:
    """Copy the clear bytes of an open sealed file of `size_bytes`."""
    layout, session_key = _header(sealed, size_bytes, private_key)
    _copy(sealed, layout, clear, verified_reader(session_key, layout))


@contextmanager
def _opened(source: Path, target: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a sealed file, and a place for its clear bytes that becomes `target` if all goes well."""
    part = part_of(target)
    try:
        with source.open("rb") as sealed, part.open("wb") as clear:
            yield sealed, clear
        settle(part, target)
    finally:
        part.unlink(missing_ok=True)


def _header(sealed: BinaryIO, size_bytes: int, private_key: bytes) -> tuple[Layout, bytes]:
    """Return where things are in a sealed file, and its session key."""
    header = Header.parse(sealed.read(MAX_HEADER_BYTES))
    return Layout(size_bytes, header.size_bytes), header.open(private_key)


def _copy(sealed: BinaryIO, layout: Layout, clear: BinaryIO, reader: SegmentReader) -> None:
    sealed.seek(layout.header_bytes)
    while chunk := sealed.read(_CHUNK_BYTES):
        clear.write(reader.update(chunk))
    reader.finish()


def _is_ours(sealed: BinaryIO, layout: Layout, session_key: bytes) -> bool:
    """Tell whether the nonces of a file are of our making; the first one nearly always tells."""
    nonces = []
    for segment in range(layout.segments):
        sealed.seek(layout.header_bytes + segment * SEALED_SEGMENT_BYTES)
        nonces.append(sealed.read(NONCE_BYTES))
        if segment == 0 and knows_place(session_key, nonces, places=1):
            return True
    return knows_place(session_key, nonces, max(PLACES, layout.segments))


def hand_on(
    source: Path, target: Path, private_key: bytes, recipient: bytes, random_bytes: RandomBytes
) -> None:
    """Write a sealed file for somebody else: a header of his own over the same segments.

    Whoever has the recipient's secret key opens it, with the stock program too, and asks no key server.

    Args:
        source: a sealed file that this site made.
        target: appears whole or not at all.
        private_key: X25519, of the file.
        recipient: X25519 public key, 32 bytes.
        random_bytes: for the header's ephemeral key and nonce.

    Raises:
        InvalidRequest: the key is not the file's.
    """
    part = part_of(target)
    try:
        with source.open("rb") as sealed, part.open("wb") as out:
            header = Header.parse(sealed.read(MAX_HEADER_BYTES))
            sealed.seek(header.size_bytes)
            ephemeral_key, nonce = random_bytes(KEY_BYTES), random_bytes(NONCE_BYTES)
            out.write(header.reencrypt(private_key, recipient, ephemeral_key, nonce))
            shutil.copyfileobj(sealed, out, _CHUNK_BYTES)
        settle(part, target)
    finally:
        part.unlink(missing_ok=True)


def settle(part: Path, target: Path) -> None:
    """Give a whole file its name; it is on the disk before it has it."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


def _measure(path: Path, digest: Digest) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)

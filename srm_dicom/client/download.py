"""One file on its way to a user's disk: fetched, verified against its manifest, opened.

What arrives stays in ``<name>.part`` until it is proven to be the file that the site signed, so that an
interrupted download goes on where it stopped, and a name without ``.part`` is always a whole file.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from srm_dicom.client.appearing import appearing, part_of, settle
from srm_dicom.client.ftp_session import Sink
from srm_dicom.crypto.crypt4gh import (
    KEY_BYTES,
    NONCE_BYTES,
    SEALED_SEGMENT_BYTES,
    Header,
    Layout,
    SegmentReader,
)
from srm_dicom.crypto.digest import Proof
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.crypto.sealing import RandomBytes
from srm_dicom.crypto.siv import PLACES, knows_place, verified_reader
from srm_dicom.errors import IntegrityError, InternalError
from srm_dicom.ids import Guid

MANIFEST_SUFFIX = ".manifest"
MAX_MANIFEST_BYTES = 8 * 1024
MAX_HEADER_BYTES = 64 * 1024
_CHUNK_BYTES = 1024 * 1024

SMALL_BYTES, HELD_BYTES = 4 * 1024 * 1024, 64 * 1024 * 1024
"""A file of so many bytes at most waits in memory to be opened, and no more than so many of all of them."""

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
    fetch_part(door, turl, Part(part_of(target), manifest), progress).settle(target)


def fetch_part(door: Door, turl: str, part: Part, progress: Progress | None = None) -> Part:
    """Fetch a sealed file, going on where an earlier try stopped, prove it and return it.

    Args:
        door: where the file is served.
        turl: its name there.
        part: what it has to be, and where it goes.
        progress: called with the bytes of the file that are here by now.

    Raises:
        IntegrityError: what came is not what the site signed; the partial file is dropped.
    """
    continued = part.continued
    told = (lambda received: progress(continued + received)) if progress else None
    with part:
        if continued < part.manifest.size_bytes:
            door.fetch(turl, part, offset=continued, progress=told)
    try:
        part.prove()
    except IntegrityError:
        if not continued:
            raise
        return fetch_part(door, turl, part.anew(), progress)  # its beginning may be another generation's
    return part


class Holding:
    """How many sealed bytes may be in memory, of all files on their way together; for many threads."""

    def __init__(self, limit_bytes: int = HELD_BYTES) -> None:
        self._left_bytes = limit_bytes
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> bool:
        """Take room for a file, if it is small and there is room."""
        with self._lock:
            taken = size_bytes <= min(SMALL_BYTES, self._left_bytes)
            self._left_bytes -= size_bytes if taken else 0
            return taken

    def give(self, size_bytes: int) -> None:
        """Give room back."""
        with self._lock:
            self._left_bytes += size_bytes


class Part:
    """A sealed file on its way: open while bytes come, whole when it is proven.

    It is on the disk, unless it will be opened and is small: then it is in memory while bytes come, and what
    has come of it goes to the disk if the rest does not.

    Args:
        path: where it is; what an earlier try left there is continued.
        manifest: what it has to be.
        holding: what may be in memory; None for a file that stays sealed.

    Attributes:
        manifest: as given.
        continued: how many bytes an earlier try left.
    """

    def __init__(self, path: Path, manifest: Manifest, holding: Holding | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._holding = holding
        left = path.stat().st_size if path.exists() else 0
        self.continued = left if left <= manifest.size_bytes else 0
        self._proof = Proof()
        self._file: BinaryIO | None = None
        self._held: bytearray | None = None

    def __enter__(self) -> Part:
        if self.continued:
            _measure(self.path, self._proof)
        elif self._holding is not None and self._holding.take(self.manifest.size_bytes):
            self._held = bytearray()
            return self
        self._file = self.path.open("ab" if self.continued else "wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        elif self._held is not None and self.size_bytes < self.manifest.size_bytes:
            if self._held:
                self.path.write_bytes(self._held)
            self._let_go()

    @property
    def size_bytes(self) -> int:
        """How many bytes are here by now."""
        return self._proof.size_bytes

    def write(self, data: bytes | memoryview, /) -> None:
        """Write and measure, between `__enter__` and `__exit__`."""
        if self._held is not None:
            self._held += data
        elif self._file is not None:
            self._file.write(data)
        else:
            raise InternalError("a file was written that is not open")
        self._proof.update(data)

    def prove(self) -> None:
        """Compare what is here with what the site signed.

        Raises:
            IntegrityError: it is something else, and is here no longer.
        """
        try:
            self.manifest.check(self._proof)
        except IntegrityError:
            self.path.unlink(missing_ok=True)
            self._let_go()
            raise

    def anew(self) -> Part:
        """Return the same file with nothing of it here."""
        return Part(self.path, self.manifest, self._holding)

    def settle(self, target: Path) -> None:
        """Give the proven file its name, sealed as it is."""
        settle(self.path, target)

    def open(self, target: Path, private_key: bytes) -> None:
        """Write what is in the proven file; `target` appears whole or not at all.

        Raises:
            IntegrityError: the key is not the file's, or a segment is not where the site put it.
        """
        if self._held is None:
            open_sealed(self.path, target, private_key)
            self.path.unlink()
            return
        try:
            header = Header.parse(self._held)
            reader = verified_reader(header.open(private_key), Layout(self.size_bytes, header.size_bytes))
            with memoryview(self._held) as sealed, appearing(target) as clear:
                clear.write(reader.update(sealed[header.size_bytes :]))
                reader.finish()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._held is not None and self._holding is not None:
            self._holding.give(self.manifest.size_bytes)
        self._held = None


def open_sealed(source: Path, target: Path, private_key: bytes) -> int:
    """Write the clear bytes of a sealed file that this site made; `target` appears whole or not at all.

    Returns:
        How many they are.

    Raises:
        IntegrityError: the key is not the file's, or a segment is not where the site put it.
    """
    with source.open("rb") as sealed, appearing(target) as clear:
        return copy_clear(sealed, source.stat().st_size, clear, private_key)


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
    with source.open("rb") as sealed, appearing(target) as clear:
        layout, session_key = _header(sealed, source.stat().st_size, private_key)
        is_ours = _is_ours(sealed, layout, session_key)
        reader = verified_reader(session_key, layout) if is_ours else SegmentReader(session_key, layout)
        _copy(sealed, layout, clear, reader)
    return is_ours


def copy_clear(sealed: BinaryIO, size_bytes: int, clear: BinaryIO, private_key: bytes) -> int:
    """Copy the clear bytes of an open sealed file of `size_bytes`, and return how many they are."""
    layout, session_key = _header(sealed, size_bytes, private_key)
    _copy(sealed, layout, clear, verified_reader(session_key, layout))
    return layout.clear_bytes


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
    with source.open("rb") as sealed, appearing(target) as out:
        header = Header.parse(sealed.read(MAX_HEADER_BYTES))
        sealed.seek(header.size_bytes)
        ephemeral_key, nonce = random_bytes(KEY_BYTES), random_bytes(NONCE_BYTES)
        out.write(header.reencrypt(private_key, recipient, ephemeral_key, nonce))
        shutil.copyfileobj(sealed, out, _CHUNK_BYTES)


def _measure(path: Path, proof: Proof) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            proof.update(chunk)

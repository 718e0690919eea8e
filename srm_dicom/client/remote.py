"""A staged, sealed file as a seekable file object: only the touched segments travel and are decrypted.

The header must be the one that the site signed, so the session key is the site's; every segment must
be one that belongs in its place under that key (`siv.verified_reader`). What is read in order is fetched
ahead, in windows that double up to `MAX_WINDOW`; what was read last is kept.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable

from srm_dicom.crypto.crypt4gh import HEADER_BYTES, SEALED_SEGMENT_BYTES, SEGMENT_BYTES, Header, Layout
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.crypto.siv import verified_reader

MAX_WINDOW = 16
KEPT_SEGMENTS = 32

ReadRange = Callable[[int, int], bytes]
"""Gives so many stored bytes from an offset on."""


class SealedFile(io.RawIOBase):
    """The clear bytes of a sealed file; see `library.Client.open`.

    Args:
        read_range: where the sealed bytes come from.
        manifest: what the site signed about them.
        private_key: X25519, of the file.
        name: what to call the file; some readers want to know.
        on_close: called once when the file is closed.

    Raises:
        InvalidRequest: the key is not the file's.
        IntegrityError: the header or the first segment is not the site's.
    """

    def __init__(
        self,
        read_range: ReadRange,
        manifest: Manifest,
        private_key: bytes,
        *,
        name: str = "",
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.name = name
        self._read_range = read_range
        self._on_close = on_close
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._at = 0
        self._next = 1
        self._window = 1
        size_bytes = manifest.size_bytes
        head = read_range(0, min(size_bytes, HEADER_BYTES + SEALED_SEGMENT_BYTES))
        header = Header.parse(head)
        manifest.check_header(head[: header.size_bytes])
        self._layout = Layout(size_bytes, header.size_bytes)
        self._session_key = header.open(private_key)
        first = self._layout.window(0, SEGMENT_BYTES)
        if 0 < first.size_bytes <= len(head) - first.offset:
            self._open(0, 1, head[first.offset : first.offset + first.size_bytes])

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move; nothing is fetched."""
        self._check_open()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._layout.clear_bytes}[whence]
        if base + offset < 0:
            raise ValueError("a position is not negative")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill the buffer to the end of the segment at most; 0 is the end of the file.

        Raises:
            IntegrityError: a segment is damaged, forged or not in its place.
            MdmError: the door does not give it.
        """
        self._check_open()
        if self._at >= self._layout.clear_bytes:
            return 0
        index, skip = divmod(self._at, SEGMENT_BYTES)
        part = self._segment(index)[skip : skip + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        """Forget everything."""
        if not self.closed:
            super().close()
            self._kept.clear()
            self._session_key = b""
            self._on_close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")

    def _segment(self, index: int) -> bytes:
        if index not in self._kept:
            self._window = min(2 * self._window, MAX_WINDOW) if index == self._next else 1
            count = min(self._window, self._layout.segments - index)
            window = self._layout.window(index * SEGMENT_BYTES, count * SEGMENT_BYTES)
            self._open(index, count, self._read_range(window.offset, window.size_bytes))
        self._kept.move_to_end(index)
        return self._kept[index]

    def _open(self, index: int, count: int, sealed: bytes) -> None:
        window = self._layout.window(index * SEGMENT_BYTES, count * SEGMENT_BYTES)
        reader = verified_reader(self._session_key, self._layout, first=index)
        clear = reader.read(window, sealed)
        for number in range(count):
            self._kept[index + number] = clear[number * SEGMENT_BYTES : (number + 1) * SEGMENT_BYTES]
        self._next = index + count
        while len(self._kept) > KEPT_SEGMENTS:
            self._kept.popitem(last=False)


def buffered(raw: io.RawIOBase) -> io.BufferedReader:
    """Return a buffered reader that never asks for more than one segment at a time."""
    return io.BufferedReader(raw, SEGMENT_BYTES)

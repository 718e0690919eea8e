"""The container of every sealed file: GA4GH Crypt4GH version 1.

A file is a header and segments. The header carries the session key, sealed once for each recipient's
X25519 key; each segment is a nonce, up to 64 KiB of ChaCha20 ciphertext and its Poly1305 tag. So a
range is read by reading whole segments (`Layout.window`), and a file is handed on to somebody else by
writing a new header of 124 bytes (`Header.reencrypt`) over untouched segments.

The container proves neither origin nor completeness: cut, reordered and forged files open (section 4
of the specification has no check against it). `siv` and `manifest` add that proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from srm_dicom.errors import IntegrityError, InvalidRequest, NotSupported

MAGIC = b"crypt4gh"
VERSION = 1
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
SEGMENT_BYTES = 65_536
SEALED_SEGMENT_BYTES = NONCE_BYTES + SEGMENT_BYTES + TAG_BYTES
HEADER_BYTES = 124
"""Size of a header for one recipient, the only kind that this site writes."""

PIECE_SEGMENTS = 16
"""How many segments are sealed into one buffer: most images are one, and a large file takes no more room."""

MAX_HEADER_BYTES = 64 * 1024
PREFIX_BYTES = 16

_ADDED_BYTES = NONCE_BYTES + TAG_BYTES
_X25519_CHACHA20_POLY1305 = 0
_DATA_PARAMETERS = 0
_PARAMETERS_BYTES = 8 + KEY_BYTES

NonceOf = Callable[[int, bool], bytes]
"""Gives the nonce of a segment from its index and whether it is the last one."""

Buffer = bytes | bytearray | memoryview

Room = Callable[[int], bytearray | memoryview]
"""Gives writable bytes, so many."""


# --- header --------------------------------------------------------------------------------------


def write_header(session_key: bytes, recipient: bytes, ephemeral_key: bytes, nonce: bytes) -> bytes:
    """Return a header that gives the session key to one recipient.

    Args:
        session_key: 32 bytes.
        recipient: the recipient's X25519 public key, 32 bytes.
        ephemeral_key: the writer's X25519 private key, 32 bytes, used for this header only.
        nonce: 12 bytes, used once with this pair of keys.
    """
    writer = X25519PrivateKey.from_private_bytes(ephemeral_key)
    public = writer.public_key().public_bytes_raw()
    shared = _shared_key(writer, recipient, recipient=recipient, writer=public)
    parameters = _u32(_DATA_PARAMETERS) + _u32(0) + session_key
    sealed = ChaCha20Poly1305(shared).encrypt(nonce, parameters, None)
    packet = _u32(_X25519_CHACHA20_POLY1305) + public + nonce + sealed
    return MAGIC + _u32(VERSION) + _u32(1) + _u32(len(packet) + 4) + packet


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header: its packets, each sealed to somebody, and how many bytes it takes."""

    packets: tuple[bytes, ...]
    size_bytes: int

    @classmethod
    def parse(cls, data: Buffer) -> Header:
        """Read the header at the start of `data`, which may go on.

        Raises:
            InvalidRequest: not a Crypt4GH file, or cut inside the header.
        """
        data = bytes(data[:MAX_HEADER_BYTES])
        if data[:8] != MAGIC or _from_u32(data, 8) != VERSION:
            raise InvalidRequest("not a Crypt4GH version 1 file")
        packets: list[bytes] = []
        at = PREFIX_BYTES
        for _ in range(_from_u32(data, 12)):
            size = _from_u32(data, at)
            packet = data[at + 4 : at + size]
            if size < 4 or len(packet) != size - 4:
                raise InvalidRequest("the Crypt4GH header is cut or longer than it may be")
            packets.append(packet)
            at += size
        return cls(tuple(packets), at)

    def open(self, private_key: bytes) -> bytes:
        """Return the session key for the owner of an X25519 private key.

        Raises:
            InvalidRequest: no packet of this header is sealed to that key.
            NotSupported: the header has packets of a kind that this program does not read.
        """
        reader = X25519PrivateKey.from_private_bytes(private_key)
        opened = [plain for plain in (_open_packet(reader, packet) for packet in self.packets) if plain]
        if not opened:
            raise InvalidRequest("the secret key does not open this file")
        if len(opened) > 1 or len(opened[0]) != _PARAMETERS_BYTES or opened[0][:8] != bytes(8):
            raise NotSupported("the file has edit lists, several session keys or another cipher")
        return opened[0][8:]

    def reencrypt(self, private_key: bytes, recipient: bytes, ephemeral_key: bytes, nonce: bytes) -> bytes:
        """Return a header for another recipient; the segments stay as they are.

        Raises:
            InvalidRequest: `private_key` does not open this header.
        """
        return write_header(self.open(private_key), recipient, ephemeral_key, nonce)


def _open_packet(reader: X25519PrivateKey, packet: bytes) -> bytes | None:
    if len(packet) < 4 or _from_u32(packet, 0) != _X25519_CHACHA20_POLY1305:
        return None
    writer, nonce, sealed = packet[4:36], packet[36:48], packet[48:]
    try:
        shared = _shared_key(reader, writer, recipient=reader.public_key().public_bytes_raw(), writer=writer)
        return ChaCha20Poly1305(shared).decrypt(nonce, sealed, None)
    except (InvalidTag, InvalidRequest, ValueError):
        return None


def _shared_key(own: X25519PrivateKey, peer: bytes, *, recipient: bytes, writer: bytes) -> bytes:
    try:
        secret = own.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError as error:
        raise InvalidRequest("not an X25519 public key") from error
    return hashlib.blake2b(secret + recipient + writer).digest()[:KEY_BYTES]


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _from_u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


# --- segment arithmetic --------------------------------------------------------------------------


def sealed_size(clear_bytes: int) -> int:
    """Return the size of a file with one recipient, header included."""
    segments = -(-clear_bytes // SEGMENT_BYTES)
    return HEADER_BYTES + clear_bytes + segments * _ADDED_BYTES


@dataclass(frozen=True, slots=True)
class Window:
    """The sealed bytes that hold a clear range.

    Attributes:
        first: index of the first segment.
        offset: where that segment begins in the file.
        size_bytes: how many sealed bytes to read from there.
        skip: clear bytes to drop from the front once decrypted.
        take: clear bytes wanted after that.
    """

    first: int
    offset: int
    size_bytes: int
    skip: int
    take: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in a file of `size_bytes` whose header takes `header_bytes`."""

    size_bytes: int
    header_bytes: int = HEADER_BYTES

    def __post_init__(self) -> None:
        rest = (self.size_bytes - self.header_bytes) % SEALED_SEGMENT_BYTES
        if self.size_bytes < self.header_bytes or 0 < rest <= _ADDED_BYTES:
            raise InvalidRequest("no Crypt4GH file has this size")

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return -(-(self.size_bytes - self.header_bytes) // SEALED_SEGMENT_BYTES)

    @property
    def clear_bytes(self) -> int:
        """Size of the clear content."""
        return self.size_bytes - self.header_bytes - self.segments * _ADDED_BYTES

    def window(self, start: int, length: int) -> Window:
        """Return what to read for a clear range; a range over the end is shortened."""
        start = min(start, self.clear_bytes)
        take = max(0, min(length, self.clear_bytes - start))
        first, skip = divmod(start, SEGMENT_BYTES)
        count = -(-(skip + take) // SEGMENT_BYTES) if take else 0
        offset = self.header_bytes + first * SEALED_SEGMENT_BYTES
        size = min(count * SEALED_SEGMENT_BYTES, max(0, self.size_bytes - offset))
        return Window(first, offset, size, skip, take)


# --- segments ------------------------------------------------------------------------------------


def segments(clear: Iterable[Buffer]) -> Iterator[Buffer]:
    """Cut a clear stream into its segments; what lies in one piece is not copied."""
    waiting = bytearray()
    for piece in clear:
        rest = memoryview(piece)
        if waiting:
            lacking = SEGMENT_BYTES - len(waiting)
            waiting += rest[:lacking]
            rest = rest[lacking:]
            if len(waiting) < SEGMENT_BYTES:
                continue
            yield waiting
            waiting = bytearray()
        whole = len(rest) - len(rest) % SEGMENT_BYTES
        for at in range(0, whole, SEGMENT_BYTES):
            yield rest[at : at + SEGMENT_BYTES]
        waiting += rest[whole:]
    if waiting:
        yield waiting


def sealed_file(
    header: bytes,
    session_key: bytes,
    nonces: NonceOf,
    clear: Iterable[Buffer],
    clear_bytes: int,
    room: Room = bytearray,
) -> Iterator[bytearray | memoryview]:
    """Yield a file in pieces of `PIECE_SEGMENTS` segments, the header before the first.

    Args:
        header: what `write_header` returned for the session key.
        session_key: 32 bytes.
        nonces: of the segments.
        clear: the content, in pieces of any size, unchanged until the next piece is asked for.
        clear_bytes: how many these are together.
        room: gives each piece its place.

    Raises:
        IntegrityError: they are more or fewer.
    """
    cipher = ChaCha20Poly1305(session_key)
    last, left = -(-clear_bytes // SEGMENT_BYTES) - 1, clear_bytes
    sealed, at = room(len(header) + _next_size(left)), len(header)
    sealed[:at] = header
    for index, segment in enumerate(segments(clear)):
        if len(segment) > left:
            raise IntegrityError("the stream is longer than it was when it was measured")
        if at == len(sealed):
            yield sealed
            sealed, at = room(_next_size(left)), 0
        left -= len(segment)
        nonce, begin, end = nonces(index, index == last), at + NONCE_BYTES, at + len(segment) + _ADDED_BYTES
        sealed[at:begin] = nonce
        with memoryview(sealed) as whole, whole[begin:end] as place:
            cipher.encrypt_into(nonce, segment, None, place)
        at = end
    if left:
        raise IntegrityError("the stream is shorter than it was when it was measured")
    yield sealed


def _next_size(clear_bytes: int) -> int:
    """Return what the next piece takes when so many clear bytes are to come."""
    taken = min(clear_bytes, PIECE_SEGMENTS * SEGMENT_BYTES)
    return taken + -(-taken // SEGMENT_BYTES) * _ADDED_BYTES


class SegmentReader:
    """Opens sealed segments that come in order; holds at most one segment.

    With `nonces` every segment must have the nonce that its place in the file demands, so that a
    segment moved, repeated or taken from the end of another file is refused.
    """

    def __init__(
        self, session_key: bytes, layout: Layout, *, first: int = 0, nonces: NonceOf | None = None
    ) -> None:
        self._cipher = ChaCha20Poly1305(session_key)
        self._layout = layout
        self._index = first
        self._nonces = nonces
        self._waiting = bytearray()

    def update(self, sealed: Buffer) -> bytearray:
        """Add sealed bytes and return what the segments that they complete hold.

        Raises:
            IntegrityError: a segment is damaged, forged or not in its place.
        """
        if self._waiting:
            self._waiting += sealed
            sealed = self._waiting
        clear = bytearray(len(sealed))
        at = filled = 0
        with memoryview(sealed) as view, memoryview(clear) as room:
            while at + (size := self._segment_size()) <= len(view) and size:
                filled += self._open_into(room[filled:], view[at : at + size])
                at += size
            self._waiting = bytearray(view[at:])
        del clear[filled:]
        if self._waiting and not size:
            raise IntegrityError("the file goes on after its last segment")
        return clear

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises:
            IntegrityError: a segment is cut.
        """
        if self._waiting:
            raise IntegrityError("the file is cut inside a segment")

    def read(self, window: Window, sealed: Buffer) -> bytes:
        """Return the clear range of a window from its sealed bytes.

        Raises:
            IntegrityError: as `update`, or bytes are missing.
        """
        if len(sealed) != window.size_bytes:
            raise IntegrityError("the file is shorter than its manifest says")
        self._index = window.first
        clear = self.update(sealed)
        self.finish()
        return bytes(memoryview(clear)[window.skip : window.skip + window.take])

    def _segment_size(self) -> int:
        at = self._layout.header_bytes + self._index * SEALED_SEGMENT_BYTES
        return min(SEALED_SEGMENT_BYTES, max(0, self._layout.size_bytes - at))

    def _open_into(self, room: memoryview, segment: memoryview) -> int:
        nonce = bytes(segment[:NONCE_BYTES])
        size = len(segment) - _ADDED_BYTES
        is_last = self._index == self._layout.segments - 1
        if self._nonces is not None and nonce != self._nonces(self._index, is_last):
            raise IntegrityError(f"segment {self._index} is not where it belongs")
        try:
            self._cipher.decrypt_into(nonce, segment[NONCE_BYTES:], None, room[:size])
        except InvalidTag as error:
            raise IntegrityError(f"segment {self._index} is damaged or forged") from error
        self._index += 1
        return size

"""Same file, same bytes: sealing without randomness.

Two passes over one object. The first (`Sealer`) gives ``seal = BLAKE3(guid || clear)`` keyed with a key
that derives from the seal key; session key, ephemeral key and header nonce derive from it, and the second
pass (`Sealed.file`) encrypts.
Nonces derive from the session key and the segment's place, so a reader checks what it was given
(`segment_nonces`). The seal key alone opens nothing: without the object, the seal cannot be computed.

Rules: neither the seal nor an unkeyed hash of clear bytes leaves this module; the second pass is given
the very bytes of the first (a spool that it waits in is authenticated, and its length is checked here).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache

from blake3 import blake3

from srm_dicom.crypto import crypt4gh
from srm_dicom.crypto.derive import KEY_BYTES, derive
from srm_dicom.ids import Guid

PLACES = 16 * 1024
"""Segments of a gibibyte: as far as `knows_place` looks."""


class Sealer:
    """The first pass: absorbs the clear object.

    Attributes:
        public_key: the file's.
    """

    def __init__(self, seal_key: bytes, guid: Guid, public_key: bytes) -> None:
        """Begin a file.

        Args:
            seal_key: the site's key for sealing, at least 32 bytes.
            guid: the file's identity; the same object under another GUID gets other keys.
            public_key: the file's X25519 public key, 32 bytes.
        """
        self._seal_key = seal_key
        self._guid = guid
        self.public_key = public_key
        self._clear_bytes = 0

    def absorb(self, clear: crypt4gh.Buffer) -> None:
        """Add the next clear bytes."""
        self._mac.update(clear)
        self._clear_bytes += len(clear)

    def seal(self) -> Sealed:
        """End the first pass."""
        return Sealed(self._mac.digest(), self.public_key, self._clear_bytes)

    @cached_property
    def _mac(self) -> blake3:
        """What absorbs; a file that another process seals needs none here."""
        return blake3(self._guid.encode("ascii"), key=_mac_key(self._seal_key))


@lru_cache(maxsize=4)
def _mac_key(seal_key: bytes) -> bytes:
    return derive(seal_key, "seal")


class Sealed:
    """The second pass.

    Attributes:
        header: the first bytes of the file.
        size_bytes: of the whole file.
    """

    def __init__(self, seal: bytes, public_key: bytes, clear_bytes: int) -> None:
        self._session_key = derive(seal, "session key")
        keys = derive(seal, "header", public_key, length=KEY_BYTES + crypt4gh.NONCE_BYTES)
        ephemeral_key, nonce = keys[:KEY_BYTES], keys[KEY_BYTES:]
        self.header = crypt4gh.write_header(self._session_key, public_key, ephemeral_key, nonce)
        self._clear_bytes = clear_bytes
        self.size_bytes = crypt4gh.sealed_size(clear_bytes)

    def file(
        self, clear: Iterable[crypt4gh.Buffer], room: crypt4gh.Room = bytearray
    ) -> Iterator[bytearray | memoryview]:
        """Yield the sealed file, its header first, in pieces of about a mebibyte.

        Args:
            clear: the bytes of the first pass, in pieces of any size.
            room: gives each piece its place.

        Raises:
            IntegrityError: these are more or fewer than the first pass had.
        """
        nonces = segment_nonces(self._session_key)
        return crypt4gh.sealed_file(self.header, self._session_key, nonces, clear, self._clear_bytes, room)


def segment_nonces(session_key: bytes) -> crypt4gh.NonceOf:
    """Return the function that gives segment *i* its nonce, ``PRF(session key, i, last?)``.

    Give it to a `crypt4gh.SegmentReader` and segments that were moved, repeated or left out at the
    end are refused.
    """
    keyed = hmac.new(derive(session_key, "segment nonce"), digestmod="sha256")

    def nonce(index: int, last: bool) -> bytes:
        # Not the one-shot function: that lets go of the interpreter for every segment.
        mac = keyed.copy()
        mac.update(index.to_bytes(8, "big") + bytes([last]))
        return mac.digest()[: crypt4gh.NONCE_BYTES]

    return nonce


def verified_reader(session_key: bytes, layout: crypt4gh.Layout, *, first: int = 0) -> crypt4gh.SegmentReader:
    """Return a reader that accepts only the segments that this site sealed, each in its place."""
    return crypt4gh.SegmentReader(session_key, layout, first=first, nonces=segment_nonces(session_key))


def knows_place(session_key: bytes, nonces: Iterable[bytes], places: int = PLACES) -> bool:
    """Tell whether one of these nonces is what our programs give a segment, wherever it now stands.

    If none is, another program sealed the file, with nonces at random. If one is, the file was ours, and
    what does not fit has been changed since.

    Args:
        session_key: of the file.
        nonces: of its segments.
        places: how many segments the file may have had.
    """
    nonce_of = segment_nonces(session_key)
    left = set(nonces)
    return any(nonce_of(place, last) in left for place in range(places) for last in (False, True))

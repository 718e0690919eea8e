"""Sealed for named recipients: a Crypt4GH file of what has no manifest, such as a key server's records.

Each recipient has a packet of its own in the header, so any one of them opens the file alone, with the
stock program too. Nonces are those of `siv`, one for each place: our readers notice a segment that was
moved, repeated, or is missing at the end. Anybody may seal: who did, only a signature inside can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from srm_dicom.crypto import crypt4gh
from srm_dicom.crypto.crypt4gh import Header, Layout
from srm_dicom.crypto.siv import segment_nonces, verified_reader
from srm_dicom.errors import IntegrityError, InvalidRequest

RandomBytes = Callable[[int], bytes]
"""A source of secret, uniformly random bytes, such as `secrets.token_bytes`."""


def seal(recipients: Sequence[bytes], clear: Iterable[bytes], random_bytes: RandomBytes) -> Iterator[bytes]:
    """Yield a sealed file; holds two segments at most.

    Args:
        recipients: X25519 public keys, 32 bytes each.
        clear: the content, in pieces of any size.
        random_bytes: for the session key and the writer's ephemeral keys.

    Raises:
        InvalidRequest: nobody could open it.
    """
    if not recipients:
        raise InvalidRequest("a sealed file has a recipient at least")
    session_key = random_bytes(crypt4gh.KEY_BYTES)
    yield _header(recipients, session_key, random_bytes)
    cipher, nonce_of = ChaCha20Poly1305(session_key), segment_nonces(session_key)
    for index, (segment, last) in enumerate(_segments(clear)):
        nonce = nonce_of(index, last)
        yield nonce + cipher.encrypt(nonce, segment, None)


def unseal(private_key: bytes, sealed: bytes) -> bytes:
    """Return the content of a sealed file, which is not empty.

    Raises:
        IntegrityError: it is damaged or cut, or not sealed to this key.
    """
    try:
        header = Header.parse(sealed)
        layout = Layout(len(sealed), header.size_bytes)
        reader = verified_reader(header.open(private_key), layout)
    except InvalidRequest as error:
        raise IntegrityError(f"a sealed message does not open: {error.message}") from error
    if not layout.segments:  # of the header alone nothing tells that there was more
        raise IntegrityError("a sealed message is cut behind its header")
    clear = reader.update(memoryview(sealed)[header.size_bytes :])
    reader.finish()
    return bytes(clear)


def public_key_of(private_key: bytes) -> bytes:
    """Return the public half of an X25519 private key, both 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def _header(recipients: Sequence[bytes], session_key: bytes, random_bytes: RandomBytes) -> bytes:
    headers = [
        crypt4gh.write_header(
            session_key, recipient, random_bytes(crypt4gh.KEY_BYTES), random_bytes(crypt4gh.NONCE_BYTES)
        )
        for recipient in recipients
    ]
    prefix = crypt4gh.MAGIC + crypt4gh.VERSION.to_bytes(4, "little") + len(headers).to_bytes(4, "little")
    return prefix + b"".join(header[crypt4gh.PREFIX_BYTES :] for header in headers)


def _segments(clear: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield segments, and of each whether it is the last one."""
    waiting = bytearray()
    for piece in clear:
        waiting += piece
        while len(waiting) > crypt4gh.SEGMENT_BYTES:
            yield bytes(waiting[: crypt4gh.SEGMENT_BYTES]), False
            del waiting[: crypt4gh.SEGMENT_BYTES]
    if waiting:
        yield bytes(waiting), True

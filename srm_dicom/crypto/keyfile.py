"""Key files of the stock ``crypt4gh`` program: an unencrypted secret key and a public key, as text."""

from __future__ import annotations

import base64

from srm_dicom.errors import InvalidRequest, NotSupported

_MAGIC = b"c4gh-v1"
_KEY_BYTES = 32


def write_secret_key(private_key: bytes, comment: str = "") -> str:
    """Return the secret key file of an X25519 private key (kdf none, cipher none)."""
    fields = [b"none", b"none", private_key] + ([comment.encode()] if comment else [])
    return _armour("PRIVATE", _MAGIC + b"".join(len(f).to_bytes(2, "big") + f for f in fields))


def write_public_key(public_key: bytes) -> str:
    """Return the public key file of an X25519 public key."""
    return _armour("PUBLIC", public_key)


def read_secret_key(text: str) -> bytes:
    """Return the X25519 private key of a secret key file.

    Raises:
        InvalidRequest: not such a file.
        NotSupported: the file is protected by a passphrase.
    """
    fields = _fields(_unarmour("PRIVATE", text).removeprefix(_MAGIC))
    if len(fields) < 3 or fields[0] != b"none":
        raise NotSupported(
            "the secret key is protected by a passphrase", advice="Decrypt with the crypt4gh program."
        )
    return _key(fields[2])


def read_public_key(text: str) -> bytes:
    """Return the X25519 public key of a public key file.

    Raises:
        InvalidRequest: not such a file.
    """
    return _key(_unarmour("PUBLIC", text))


def _armour(kind: str, content: bytes) -> str:
    body = base64.b64encode(content).decode()
    return f"-----BEGIN CRYPT4GH {kind} KEY-----\n{body}\n-----END CRYPT4GH {kind} KEY-----\n"


def _unarmour(kind: str, text: str) -> bytes:
    lines = text.split("\n")
    if len(lines) < 3 or lines[0].strip() != f"-----BEGIN CRYPT4GH {kind} KEY-----":
        raise InvalidRequest(f"not a Crypt4GH {kind.lower()} key file")
    try:
        return base64.b64decode("".join(lines[1:]).partition("-")[0], validate=False)
    except ValueError as error:
        raise InvalidRequest(f"not a Crypt4GH {kind.lower()} key file") from error


def _fields(content: bytes) -> list[bytes]:
    fields: list[bytes] = []
    while content:
        size = int.from_bytes(content[:2], "big")
        fields.append(content[2 : 2 + size])
        content = content[2 + size :]
    return fields


def _key(content: bytes) -> bytes:
    if len(content) != _KEY_BYTES:
        raise InvalidRequest("a Crypt4GH key has 32 bytes")
    return content

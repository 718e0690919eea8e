"""Ed25519 signatures over canonical JSON.

A signed text is ``{"body":{...},"signature":"<hex>","signer":"<fingerprint>"}`` with sorted keys and
no white space. Reading is strict: a text that is not exactly what `sign` would have written is refused,
so there is one text for one content and nothing unsigned can ride along.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from srm_dicom.errors import IntegrityError

MAX_TEXT_CHARS = 64 * 1024


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode
"""`json.dumps` makes an encoder at each call."""


class _Signed(msgspec.Struct, forbid_unknown_fields=True):
    body: dict[str, Any]
    signature: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}\\Z")]
    signer: str


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return the one JSON text of a mapping of strings, integers, lists and mappings."""
    return _encode(content).encode()


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the name of a public key: the first 32 hex digits of its SHA-256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:32]


def trusting(*keys: Ed25519PublicKey) -> dict[str, Ed25519PublicKey]:
    """Return keys by fingerprint, as `verify` wants them."""
    return {fingerprint(key): key for key in keys}


def sign(purpose: str, body: Mapping[str, Any], key: Ed25519PrivateKey) -> str:
    """Return the signed text of a body.

    Args:
        purpose: what the text is; a signature made for one purpose is worth nothing for another.
        body: the content.
        key: the site's signing key.
    """
    content = canonical(body)
    signature = key.sign(_to_sign(purpose, content)).hex()
    return f'{{"body":{content.decode()},"signature":"{signature}","signer":"{_signer(key)}"}}'


@lru_cache(maxsize=8)
def _signer(key: Ed25519PrivateKey) -> str:
    """Return the name of the public half; a site signs every image's manifest with one key."""
    return fingerprint(key.public_key())


def verify(purpose: str, text: str, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    """Return the body of a signed text.

    Args:
        purpose: as given to `sign`.
        text: the signed text.
        keys: the keys that are trusted, by fingerprint.

    Raises:
        IntegrityError: not a signed text, an unknown signer, or a signature that is not his.
    """
    signed = _parse(text)
    key = keys.get(signed.signer)
    if key is None:
        raise IntegrityError(f"the signer of a {purpose} is not known here")
    try:
        key.verify(bytes.fromhex(signed.signature), _to_sign(purpose, canonical(signed.body)))
    except InvalidSignature as error:
        raise IntegrityError(f"the signature of a {purpose} is wrong") from error
    return signed.body


def signer_of(text: str) -> str:
    """Return the fingerprint of the key that a text claims to be signed with."""
    return _parse(text).signer


def _parse(text: str) -> _Signed:
    if len(text) > MAX_TEXT_CHARS:
        raise IntegrityError("a signed text is too long")
    try:
        signed = msgspec.json.decode(text, type=_Signed)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise IntegrityError("not a signed text") from error
    if canonical(msgspec.to_builtins(signed)).decode() != text:
        raise IntegrityError("a signed text is not in canonical form")
    return signed


def _to_sign(purpose: str, content: bytes) -> bytes:
    return b"srm-dicom " + purpose.encode() + b"\n" + content

"""Keys from keys: one HKDF call with labels, so that no two purposes ever share a key."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KEY_BYTES = 32


def derive(master: bytes, *labels: str | bytes, length: int = KEY_BYTES) -> bytes:
    """Return the key that `master` has for a purpose (RFC 5869, HKDF-Expand with SHA-256).

    Args:
        master: a uniformly random key of at least 32 bytes.
        labels: what the key is for; ``("a", "bc")`` and ``("ab", "c")`` are different purposes.
        length: bytes wanted.
    """
    if len(master) < KEY_BYTES:
        raise ValueError(f"a master key has at least {KEY_BYTES} bytes")
    return HKDFExpand(SHA256(), length, _info(labels)).derive(master)


def _info(labels: tuple[str | bytes, ...]) -> bytes:
    encoded = (label.encode() if isinstance(label, str) else label for label in labels)
    return b"srm-dicom" + b"".join(len(label).to_bytes(4, "big") + label for label in encoded)

"""Crypt4GH key files that a command is given: what is wrong with one is said with its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from srm_dicom.crypto.keyfile import read_public_key, read_secret_key
from srm_dicom.errors import MdmError


def secret_key(path: Path) -> bytes:
    """Return the X25519 private key of a secret key file.

    Raises:
        MdmError: as `keyfile.read_secret_key`.
    """
    return _read(path, read_secret_key)


def public_key(path: Path) -> bytes:
    """Return the X25519 public key of a public key file.

    Raises:
        MdmError: as `keyfile.read_public_key`.
    """
    return _read(path, read_public_key)


def _read(path: Path, read: Callable[[str], bytes]) -> bytes:
    try:
        return read(path.read_text("ascii", errors="replace"))
    except MdmError as error:
        raise type(error)(f"{path}: {error.message}", advice=error.advice) from error

"""The inner zone's own secrets: one small file each, readable by its user only.

``seal.key`` makes sealing deterministic and opens nothing. ``signing.key`` signs manifests and key
charters. ``journal.key`` seals what the registrar's journal holds. None of them can open a staged file,
and a plugin keeps its own beside them, which nothing else reads.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.durable import make_directory, sync_directory
from srm_dicom.errors import ConfigError

KEY_BYTES = 32
NAMES = ("seal.key", "signing.key", "journal.key")


@dataclass(frozen=True, slots=True)
class InnerSecrets:
    """The three keys."""

    seal_key: bytes
    signing_key: Ed25519PrivateKey
    journal_key: bytes

    @classmethod
    def create(cls, directory: Path) -> InnerSecrets:
        """Draw the keys that are missing in `directory`, and read all."""
        make_directory(directory, mode=0o700)
        for name in NAMES:
            path = directory / name
            if not path.exists():
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(secrets.token_bytes(KEY_BYTES))
                    file.flush()
                    os.fsync(descriptor)
        sync_directory(directory)
        return cls.load(directory)

    @classmethod
    def load(cls, directory: Path) -> InnerSecrets:
        """Read the keys.

        Raises:
            ConfigError: one is missing, damaged, or readable by others.
        """
        seal_key, signing_key, journal_key = (_read(directory / name) for name in NAMES)
        return cls(seal_key, Ed25519PrivateKey.from_private_bytes(signing_key), journal_key)


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path.name}: {error.strerror}", advice="srm-dicom init makes them.") from error
    if mode & 0o077:
        raise ConfigError(f"{path.name} is readable by others", advice=f"chmod 600 {path.name}")
    if len(content) != KEY_BYTES:
        raise ConfigError(f"{path.name} has not {KEY_BYTES} bytes")
    return content

"""The plugin's own keys: made once, kept in files that only the inner zone can read.

``master`` is what every project's pseudonyms derive from; ``ref`` seals `plugin_ref`. Losing `master`
means new pseudonyms; losing `ref` means registering again.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from srm_dicom.crypto.derive import derive
from srm_dicom.durable import sync_directory
from srm_dicom.errors import ConfigError

KEY_BYTES = 32


def load_or_create(path: Path) -> bytes:
    """Return the key in a file, made with mode 0600 when it is missing.

    Two processes that start at once end with the same key.

    Raises:
        ConfigError: the file is no key, or others can read it.
    """
    if not path.exists():
        _create(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path} can be read by others", advice=f"chmod 600 {path}")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path} is not a key of {KEY_BYTES} bytes")
    return key


def project_key(master: bytes, project: str) -> bytes:
    """Return the key of a project, which pseudonyms and date shifts derive from."""
    return derive(master, "project", project)


def _create(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, secrets.token_bytes(KEY_BYTES))
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first; its name may not be durable yet
    finally:
        draft.unlink()
    sync_directory(path.parent)

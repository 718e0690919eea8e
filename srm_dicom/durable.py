"""Names that outlast a power cut: a file that is synced is lost all the same if its directory is not."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: the disk does not take them.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path, mode: int = 0o777) -> None:
    """Make a directory, durably, with what is missing above it; nothing happens if it is there.

    Raises:
        OSError: it cannot be made.
    """
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode, exist_ok=True)
    sync_directory(directory.parent)


def replace(fresh: Path, path: Path) -> None:
    """Give a file that is synced the name of another, durably.

    Raises:
        OSError: the disk does not take it.
    """
    fresh.replace(path)
    sync_directory(path.parent)

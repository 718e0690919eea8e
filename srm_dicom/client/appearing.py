"""A file on a user's disk that appears whole or not at all: ``<name>.part`` until then.

A name may stand for something else. Through a symbolic link the file that it points to is written, and the
link stays; a device or a pipe is written as it is, and is never put aside for a file.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 1024 * 1024


@contextmanager
def appearing(target: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a place for bytes that becomes `target` if all goes well.

    Args:
        target: the name.
        mode: permissions of a file from its first byte on; None lets one that is there keep its own.
    """
    there = _there(target)
    if _is_special(there):
        with target.open("wb") as out:
            yield out
        return
    part = part_of(target)
    try:
        with part.open("wb") if mode is None else _private(part, mode) as out:
            if there is not None and mode is None:
                os.fchmod(out.fileno(), stat.S_IMODE(there.st_mode))
            yield out
        settle(part, target)
    finally:
        part.unlink(missing_ok=True)


def _private(part: Path, mode: int) -> BinaryIO:
    """Open a file that nobody has open already."""
    part.unlink(missing_ok=True)
    return os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")


def part_of(target: Path) -> Path:
    """Return where a file is until it is whole: where it will be, and never among devices."""
    place = target if _is_special(_there(target)) else _place(target)
    return place.with_name(place.name + ".part")


def settle(part: Path, target: Path) -> None:
    """Give a whole file its name; it is on the disk before it has it."""
    if _is_special(_there(target)):
        with part.open("rb") as file, target.open("wb") as out:
            shutil.copyfileobj(file, out, _CHUNK_BYTES)
        part.unlink()
        return
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(_place(target))


def _there(target: Path) -> os.stat_result | None:
    """Return what a name stands for; asked by its name: the kernel follows no stranger's link in /tmp."""
    try:
        return target.stat()
    except FileNotFoundError:
        return None


def _is_special(there: os.stat_result | None) -> bool:
    return there is not None and not (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode))


def _place(target: Path) -> Path:
    return Path(os.path.realpath(target)) if target.is_symlink() else target

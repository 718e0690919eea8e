"""Large files are mapped, not read: what was looked at is given back as the walk goes on."""

from __future__ import annotations

import mmap
from pathlib import Path

from srm_plugin_dicom.deidentify.view import Viewed

MAPPED_FROM_BYTES = 16 << 20
STEP_BYTES = 8 << 20


def open_bytes(path: Path) -> bytes | memoryview:
    """Return a file's bytes; those of a large file come from the disk when they are looked at.

    Raises:
        OSError: it cannot be read.
    """
    if path.stat().st_size < MAPPED_FROM_BYTES:
        return path.read_bytes()
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def forget(view: Viewed) -> None:
    """Give back the memory of a mapped file; nothing changes but how much of it is resident."""
    if isinstance(view, memoryview) and isinstance(view.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        view.obj.madvise(mmap.MADV_DONTNEED)

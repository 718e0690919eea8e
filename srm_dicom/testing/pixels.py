"""Proofs about files that came out: the same pixels, and nobody in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.filereader import dcmread

from srm_dicom.testing.images import CANARY

Image = FileDataset
"""An object as `testing.images` makes it; its attributes are named by DICOM keyword."""


def same_pixels(originals: Sequence[Image], files: Sequence[Path]) -> bool:
    """Tell whether the files hold the pixel data of the originals, each once, in any order."""
    expected = sorted(_pixels(original) for original in originals)
    return expected == sorted(_pixels(dcmread(file)) for file in files)


def identity_in(files: Iterable[Path], marks: Iterable[bytes] = (CANARY.encode(),)) -> list[Path]:
    """Return the files that hold one of the marks anywhere in their bytes."""
    wanted = tuple(marks)
    return [file for file in files if any(mark in file.read_bytes() for mark in wanted)]


def _pixels(dataset: Image) -> bytes:
    return dataset.file_meta.TransferSyntaxUID.encode() + bytes(dataset.PixelData)

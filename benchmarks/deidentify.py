"""De-identification against its peers, in one run on one core: ``python benchmarks/deidentify.py [COUNT]``.

Series of 512 KiB CT and 10 KiB MR slices are made from files that pydicom ships. Peers that are not
installed are named and left out; "pydicom" reads, visits and writes each element, which is the floor of
every tool that decodes data sets; the two walkers show what the rules cost.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from srm_dicom.rights.project import Release
from srm_plugin_dicom.deidentify import Context, Deidentifier, PixelPolicy
from srm_plugin_dicom.deidentify.elements import Limits, Reader
from srm_plugin_dicom.deidentify.part10 import open_object

Run = Callable[[list[bytes]], None]
DCMODIFY = "/usr/bin/dcmodify"
ERASED = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "InstitutionName")


def series(name: str, count: int, side: int | None) -> list[bytes]:
    """Return slices that differ in UID, number, position and pixels."""
    dataset = pydicom.dcmread(get_testdata_file(name))
    if side:
        dataset.Rows = dataset.Columns = side
    size = dataset.Rows * dataset.Columns * 2
    slices = []
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        dataset.InstanceNumber = number
        dataset.ImagePositionPatient = [-125, -125, number]
        dataset.PixelData = bytes(number % 251 for _ in range(2)) * (size // 2)
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        slices.append(buffer.getvalue())
    return slices


def ours(slices: list[bytes]) -> None:
    """De-identify, with the independent check."""
    context = Context(b"k" * 32, Release("bench", "basic", "v1"), PixelPolicy(recognizable=True))
    engine = Deidentifier(context)
    for data in slices:
        engine.deidentify(data)


def reader_alone(slices: list[bytes]) -> None:
    """Find every element and do nothing."""
    for data in slices:
        opened = open_object(data, "", Limits())
        Reader(opened.data, Limits()).data_set(opened.start, opened.syntax)


def with_pydicom(slices: list[bytes]) -> None:
    """Read, visit every element, write."""
    for data in slices:
        dataset = pydicom.dcmread(io.BytesIO(data))
        for element in dataset.iterall():
            element.value  # noqa: B018
        dataset.save_as(io.BytesIO())


def with_dcmodify(slices: list[bytes]) -> None:
    """Erase five attributes with DCMTK, one process for all files (files on disk, as it wants them)."""
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory, f"{number}.dcm") for number in range(len(slices))]
        for path, data in zip(paths, slices, strict=True):
            path.write_bytes(data)
        erase = [word for keyword in ERASED for word in ("-ea", keyword)]
        subprocess.run([DCMODIFY, "-nb", "-ie", *erase, *paths], check=True, capture_output=True)


def peers() -> Iterator[tuple[str, Run, int]]:
    """Yield (name, how, by how much fewer slices it gets)."""
    yield "srm-dicom, checked", ours, 1
    yield "our reader alone", reader_alone, 1
    yield "pydicom read and write", with_pydicom, 5
    if shutil.which(DCMODIFY):
        yield "dcmodify, 5 attributes", with_dcmodify, 2
    else:
        print("dcmodify: not installed")


def rate(run: Run, slices: list[bytes]) -> float:
    """Return the best of three runs in slices a second."""
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        run(slices)
        best = max(best, len(slices) / (time.perf_counter() - started))
    return best


def main() -> None:
    """Print a line for each peer and kind of slice, with its ratio to pydicom."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    for kind, name, side in (("CT 512 KiB", "CT_small.dcm", 512), ("MR 10 KiB", "MR_small.dcm", None)):
        slices = series(name, count, side)
        rates = {label: rate(run, slices[: max(1, count // fewer)]) for label, run, fewer in peers()}
        for label, value in rates.items():
            print(f"{kind}  {label:24} {value:8.0f} /s  x{value / rates['pydicom read and write']:.1f}")


if __name__ == "__main__":
    main()

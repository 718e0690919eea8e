"""Volumes for those who compute on NIfTI: opened slices through dcm2niix, a series at a time.

The program comes with the optional extra ``nifti``, or is found on PATH.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from srm_dicom.errors import ConfigError, ObjectRefused

PROGRAM = "dcm2niix"
TIMEOUT_S = 600.0


def find_program() -> Path:
    """Return where dcm2niix is.

    Raises:
        ConfigError: it is not installed.
    """
    package = importlib.util.find_spec(PROGRAM)
    if package is not None and package.origin is not None:
        shipped = Path(package.origin).with_name(PROGRAM)
        if shipped.exists():
            return shipped
    found = shutil.which(PROGRAM)
    if found is None:
        raise ConfigError(
            "NIfTI files are made by dcm2niix, which is not installed",
            advice="Install the extra nifti: pip install 'srm-dicom[nifti]'",
        )
    return Path(found)


def convert(
    slices: Iterable[Path], directory: Path, name: str, *, program: Path, timeout_s: float = TIMEOUT_S
) -> list[Path]:
    """Write the volumes that slices of one series make, and what dcm2niix tells of them as JSON.

    Args:
        slices: DICOM files.
        directory: where ``<name>.nii.gz`` and ``<name>.json`` go; several volumes get names of their own.
        name: of the volume, without suffix.
        program: dcm2niix.
        timeout_s: for the whole series.

    Raises:
        ObjectRefused: the slices make no volume, or the program took too long.
    """
    with tempfile.TemporaryDirectory(prefix="mdm-nifti-") as temporary:
        source, made = Path(temporary, "in"), Path(temporary, "out")
        source.mkdir()
        made.mkdir()
        for number, path in enumerate(slices):
            (source / f"{number:06}.dcm").symlink_to(path.resolve())
        options = ("-z", "y", "-b", "y", "-ba", "y", "-f", name)
        try:
            subprocess.run(
                [program, *options, "-o", made, source], capture_output=True, check=False, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise ObjectRefused(f"dcm2niix did not end within {timeout_s:g} s") from error
        if not list(made.glob("*.nii.gz")):
            raise ObjectRefused("dcm2niix makes no volume of this series")
        return [Path(shutil.move(path, directory / path.name)) for path in sorted(made.iterdir())]

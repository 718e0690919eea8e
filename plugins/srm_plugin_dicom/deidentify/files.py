"""De-identifies files and trees on disk, through exactly the code that stages.

The files of a tree that have the same series instance UID are that series.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from srm_dicom.errors import ObjectRefused
from srm_plugin_dicom.deidentify.engine import Context, Output, deidentifier, deidentify
from srm_plugin_dicom.deidentify.paging import STEP_BYTES, forget, open_bytes
from srm_plugin_dicom.deidentify.part10 import looks_like_an_object
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.report import Report
from srm_plugin_dicom.deidentify.series import Received

_NO_FILE = "not a DICOM file"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file; exactly one of `report` and `refusal` is set."""

    name: Path
    report: Report | None = None
    refusal: str = ""


def pairs(source: Path, target: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Yield (relative name, file to read, file to write), in the order of names."""
    if source.is_file():
        yield Path(source.name), source, target / source.name if target.is_dir() else target
        return
    for directory, subdirectories, names in os.walk(source):
        subdirectories.sort()
        for name in sorted(names):
            path = Path(directory, name)
            relative = path.relative_to(source)
            yield relative, path, target / relative


def deidentify_file(name: Path, source: Path, target: Path, context: Context) -> Outcome:
    """De-identify one file; a refused one leaves nothing behind.

    Raises:
        OSError: the file cannot be read or written.
        SeriesNeeded: it leaves only with the others of its series; see `deidentify_series`.
    """
    data = open_bytes(source)
    if not looks_like_an_object(data):
        return Outcome(name, refusal=_NO_FILE)
    try:
        output = deidentify(data, "", "", context)
    except ObjectRefused as error:
        return Outcome(name, refusal=error.message)
    _write(target, output)
    return Outcome(name, report=output.report)


def deidentify_series(
    files: Sequence[tuple[Path, Path, Path]], context: Context, most_bytes: int
) -> list[Outcome]:
    """De-identify the files of a series that leave only together; all of them, or none.

    Args:
        files: relative name, file to read and file to write of each.
        context: see `engine.deidentify`.
        most_bytes: the largest series that is held in memory; a larger one is refused, and not read.

    Raises:
        OSError: a file cannot be read or written.
    """
    if sum(source.stat().st_size for _, source, _ in files) > most_bytes:
        refusal = refused(Reason.TOO_LARGE, "its series").message
        return [Outcome(name, refusal=refusal) for name, _, _ in files]
    received = [Received(bytearray(source.read_bytes())) for _, source, _ in files]
    try:
        outputs = deidentifier(context).deidentify_series(received)
    except ObjectRefused as error:
        return [Outcome(name, refusal=error.message) for name, _, _ in files]
    for (_, _, target), output in zip(files, outputs, strict=True):
        _write(target, output)
    return [Outcome(name, report=output.report) for (name, _, _), output in zip(files, outputs, strict=True)]


def _write(target: Path, output: Output) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            for part in output:
                view = memoryview(part)
                for at in range(0, len(view), STEP_BYTES):
                    file.write(view[at : at + STEP_BYTES])
                    forget(view)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)

"""De-identification against its peers, in one run on one core: ``python benchmarks/deidentify.py [COUNT]``.

Series of 512 KiB CT and 10 KiB MR slices are made from files that pydicom ships. Peers that are not
installed are named and left out; "pydicom" reads, visits and writes each element, which is the floor of
every tool that decodes data sets; the two walks show what the rules cost.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from srm_dicom.rights.project import Release
from srm_dicom.testing.archives import SYSTEM_PATH, Orthanc
from srm_plugin_dicom.deidentify import Context, PixelPolicy
from srm_plugin_dicom.deidentify.draft import Drafter
from srm_plugin_dicom.deidentify.elements import Limits
from srm_plugin_dicom.deidentify.engine import deidentifier
from srm_plugin_dicom.deidentify.keyed import ProjectKey
from srm_plugin_dicom.deidentify.profile import Profile, profile
from srm_plugin_dicom.deidentify.series import Received

Run = Callable[[list[bytes]], None]
OURS = "srm-dicom, checked"
CONTEXT = Context(b"k" * 32, Release("bench", "basic", "v1"), PixelPolicy(recognizable=True))
warnings.simplefilter("ignore")  # pydicom's, about values that its peers write


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
    engine = deidentifier(CONTEXT)  # one for all objects of a release, as where files are staged
    for data in slices:
        engine.deidentify(data)


def walked(its_profile: Profile) -> Run:
    """Return the walk alone, without the check, by the rules of a profile."""
    drafter = Drafter(its_profile, ProjectKey(CONTEXT.project_key), CONTEXT.policy, Limits())

    def walk(slices: list[bytes]) -> None:
        for data in slices:
            drafter.draft(Received(data))

    return walk


def with_pydicom(slices: list[bytes]) -> None:
    """Read, visit every element, write."""
    for data in slices:
        dataset = pydicom.dcmread(io.BytesIO(data))
        for element in dataset.iterall():
            element.value  # noqa: B018
        dataset.save_as(io.BytesIO())


def with_dicognito(slices: list[bytes]) -> None:
    """De-identify with dicognito, one anonymizer for all files."""
    from dicognito.anonymizer import Anonymizer  # noqa: PLC0415

    anonymizer = Anonymizer()
    for data in slices:
        dataset = pydicom.dcmread(io.BytesIO(data))
        anonymizer.anonymize(dataset)
        dataset.save_as(io.BytesIO())


def with_dicom_anonymizer(slices: list[bytes]) -> None:
    """De-identify with dicom-anonymizer's default rules."""
    from dicomanonymizer import anonymize_dataset  # noqa: PLC0415

    for data in slices:
        dataset = pydicom.dcmread(io.BytesIO(data))
        anonymize_dataset(dataset)
        dataset.save_as(io.BytesIO())


def with_deid(slices: list[bytes]) -> None:
    """De-identify with deid's default recipe, which also takes sequences and private attributes."""
    from deid.dicom import get_identifiers, replace_identifiers  # noqa: PLC0415

    for data in slices:
        dataset = pydicom.dcmread(io.BytesIO(data))
        found = get_identifiers([dataset], strip_sequences=True, remove_private=True)
        (cleaned,) = replace_identifiers(
            [dataset], ids=found, save=False, remove_private=True, strip_sequences=True
        )
        cleaned.save_as(io.BytesIO())


def with_dcmanon(slices: list[bytes]) -> None:
    """De-identify with dcmanon, which is Rust."""
    from dcmanon import Anonymizer  # noqa: PLC0415

    anonymizer = Anonymizer()
    for data in slices:
        anonymizer.anonymize(io.BytesIO(data))


class OrthancAnonymizes:
    """Lets Orthanc anonymize what it holds already, an object a call, and reads the results."""

    def __init__(self, archive: Orthanc) -> None:
        self._archive = archive
        self._connection = HTTPConnection(archive.web_url.split("/")[2])

    def hold(self, slices: list[bytes]) -> None:
        """Give it a series, instead of what it held."""
        self._archive.clear()
        for data in slices:
            self._archive.add_file(data)

    def __call__(self, slices: list[bytes]) -> None:
        """De-identify as many as it was given."""
        for instance in json.loads(self._ask("GET", "/instances"))[: len(slices)]:
            self._ask("POST", f"/instances/{instance}/anonymize", json.dumps({"Force": True}))

    def _ask(self, method: str, target: str, body: str | None = None) -> bytes:
        self._connection.request(method, target, body)
        return self._connection.getresponse().read()


def peers() -> Iterator[tuple[str, Run, int]]:
    """Yield (name, how, by how much fewer slices it gets)."""
    yield OURS, ours, 1
    yield "walk", walked(profile("basic")), 1
    yield "walk, empty table", walked(Profile("empty", "v0", (), {})), 1
    yield "pydicom read and write", with_pydicom, 10
    for module, run, fewer in (
        ("dicognito", with_dicognito, 10),
        ("dicomanonymizer", with_dicom_anonymizer, 10),
        ("deid", with_deid, 10),
        ("dcmanon", with_dcmanon, 1),
    ):
        if find_spec(module):
            yield module, run, fewer
        else:
            print(f"{module}: not installed")


def rate(run: Run, slices: list[bytes], clock: Callable[[], float] = time.process_time) -> float:
    """Return the best of four runs in slices a second of this process's own time on the core."""
    best = 0.0
    for _ in range(4):
        started = clock()
        run(slices)
        best = max(best, len(slices) / (clock() - started))
    return best


def orthanc(kind: str, slices: list[bytes]) -> dict[str, float]:
    """Return Orthanc's rate, if it is installed."""
    if not shutil.which("Orthanc", path=SYSTEM_PATH):
        print("Orthanc: not installed")
        return {}
    with tempfile.TemporaryDirectory() as directory:
        archive = Orthanc(Path(directory) / kind.replace(" ", ""), {})
        try:
            anonymizes = OrthancAnonymizes(archive)
            anonymizes.hold(slices)
            return {"Orthanc, by the clock": rate(anonymizes, slices, time.perf_counter)}
        finally:
            archive.stop()


def main() -> None:
    """Print a line for each peer and kind of slice, with what we are ahead of it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    for kind, name, side in (("CT 512 KiB", "CT_small.dcm", 512), ("MR 10 KiB", "MR_small.dcm", None)):
        slices = series(name, count, side)
        rates = {label: rate(run, slices[: max(1, count // fewer)]) for label, run, fewer in peers()}
        rates |= orthanc(kind, slices[: max(1, count // 5)])
        for label, value in rates.items():
            print(f"{kind}  {label:24} {value:8.0f} /s  we: x{rates[OURS] / value:.1f}")


if __name__ == "__main__":
    main()

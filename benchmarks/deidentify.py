"""De-identification against its peers, in one run on one core: ``python benchmarks/deidentify.py [COUNT]``.

Series of 512 KiB CT and 10 KiB MR slices are made from files that pydicom ships; in each slice differs what
scanners write anew. The last kind of stream has slices of nine series by turns, which is what our program
likes least: it is fast where one slice is like the last. Peers that are not installed are named and left out;
"pydicom" reads, visits and writes each element, which is the floor of every tool that decodes data sets; the
two walks show what the rules cost.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import pydicom
from pydicom.data import get_testdata_file

from srm_dicom.rights.project import Release
from srm_dicom.testing.archives import SYSTEM_PATH, Orthanc
from srm_plugin_dicom.deidentify import Context, PixelPolicy
from srm_plugin_dicom.deidentify.drafter import Drafter
from srm_plugin_dicom.deidentify.elements import Limits
from srm_plugin_dicom.deidentify.engine import deidentifier
from srm_plugin_dicom.deidentify.keyed import ProjectKey
from srm_plugin_dicom.deidentify.profile import Profile, profile
from srm_plugin_dicom.deidentify.series import Received

Run = Callable[[list[bytes]], None]
OURS = "srm-dicom, checked"
CONTEXT = Context(b"k" * 32, Release("bench", "basic", "v1"), PixelPolicy(recognizable=True))
warnings.simplefilter("ignore")  # pydicom's, about values that its peers write


def series(name: str, count: int, side: int | None = None, patient: int = 1) -> list[bytes]:
    """Return the slices of an examination: what scanners write anew in each of them differs in each."""
    dataset = pydicom.dcmread(get_testdata_file(name))
    if side:
        pixels = dataset.PixelData * (side * side // (dataset.Rows * dataset.Columns))
        dataset.Rows = dataset.Columns = side
    else:
        pixels = dataset.PixelData
    root = f"1.3.12.2.1107.5.2.6.{24119 + patient}.30000005110713{patient:06}"
    dataset.PatientID, dataset.PatientName = f"PID{4711 * patient:07}", f"Beispiel^Nummer {patient}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{root}.1", f"{root}.2"
    dataset.FrameOfReferenceUID = f"{root}.3"
    chance = random.Random(patient)
    seconds = chance.randrange(8 * 3600, 16 * 3600)
    slices = []
    for number in range(1, count + 1):
        seconds += chance.randrange(4)
        dataset.SOPInstanceUID = f"{root}.4.{chance.randrange(1 << 40)}{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        moment = time.strftime("%H%M%S", time.gmtime(seconds))
        place = f"{0.8 * number - 120:.4f}"
        new = {
            "InstanceCreationTime": f"{moment}.{chance.randrange(10**6):06}",
            "AcquisitionTime": f"{moment}.{chance.randrange(10**6):06}",
            "ContentTime": f"{moment}.{chance.randrange(10**6):06}",
            "InstanceNumber": number,
            "ImagePositionPatient": ["-83.9063", "-91.2000", place],
            "SliceLocation": place,
            "LargestImagePixelValue": 4000 - chance.randrange(900),
            "WindowCenter": 600 + chance.randrange(50),
            "WindowWidth": 1600 + chance.randrange(90),
        }
        for keyword in new.keys() & set(dataset.dir()):
            setattr(dataset, keyword, new[keyword])
        turned = 2 * (number % (len(pixels) // 2))
        dataset.PixelData = pixels[turned:] + pixels[:turned]
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
        """Give it a series, instead of what it held; connections that rested it has closed."""
        self._connection.close()
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


def rates(
    runs: Sequence[tuple[str, Run, int]], examinations: Iterable[list[bytes]]
) -> dict[str, list[float]]:
    """Return each run's slices a second of this process's own time on the core, by examination.

    Every examination is of another patient, and no slice is seen twice, as where files are staged: what is
    learnt of the first slices of each is in the time. All have the same one by turns; the very first, with
    which programs get ready, does not count.
    """
    found: dict[str, list[float]] = {label: [] for label, _, _ in runs}
    for number, slices in enumerate(examinations):
        for label, run, fewer in runs:
            some = slices[: max(1, len(slices) // fewer)]
            clock = time.process_time
            if isinstance(run, OrthancAnonymizes):
                clock = time.perf_counter
                run.hold(some)
            started = clock()
            run(some)
            if number:
                found[label].append(len(some) / (clock() - started))
    return found


@contextmanager
def orthanc() -> Iterator[list[tuple[str, Run, int]]]:
    """Yield how Orthanc does it, if it is installed."""
    if not shutil.which("Orthanc", path=SYSTEM_PATH):
        print("Orthanc: not installed")
        yield []
        return
    with tempfile.TemporaryDirectory() as directory:
        archive = Orthanc(Path(directory) / "archive", {})
        try:
            yield [("Orthanc, by the clock", OrthancAnonymizes(archive), 5)]
        finally:
            archive.stop()


def mixed(count: int, patients: Sequence[int]) -> list[bytes]:
    """Return slices of nine series of three scanners by turns, of three patients each."""
    names = ("MR_small.dcm", "MR_small_implicit.dcm", "CT_small.dcm")
    each = [series(name, -(-count // 9), patient=patient) for name in names for patient in patients]
    return [data for turn in zip(*each, strict=True) for data in turn][:count]


def main() -> None:
    """Print a line for each peer and kind of slice, with what we are ahead of it: medians of five."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    kinds = {
        "CT 512 KiB": lambda run: series("CT_small.dcm", count, 512, run),
        "MR 10 KiB": lambda run: series("MR_small.dcm", count, None, run),
        "mixed, by turns": lambda run: mixed(count, range(3 * run, 3 * run + 3)),
    }
    with orthanc() as archive:
        runs = [*peers(), *archive]
        for kind, made in kinds.items():
            found = rates(runs, (made(run) for run in range(1, 7)))
            for label, values in found.items():
                ahead = median(we / they for we, they in zip(found[OURS], values, strict=True))
                print(f"{kind:15} {label:24} {median(values):8.0f} /s  we: x{ahead:.2f}")


if __name__ == "__main__":
    main()

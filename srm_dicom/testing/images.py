"""Images for tests and the demo: made here, synthetic, of patients that do not exist.

A series has a phantom that changes from slice to slice and a header full of identity, nested and
private too; every identifying text holds the word CANARY, so that one search of some bytes tells whether
anything got through. The same arguments make the same objects.
"""

from __future__ import annotations

import base64
import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filereader import dcmread
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

CANARY = "CANARY"
Modality = Literal["CT", "MR", "PT", "CR"]


@dataclass(frozen=True, slots=True)
class Patient:
    """Somebody who does not exist."""

    name: str = f"{CANARY}^PATIENT"
    id: str = f"{CANARY}-4711"
    issuer: str = f"{CANARY} HOSPITAL"
    birth_date: str = "19450508"
    sex: str = "F"


@dataclass(frozen=True, slots=True)
class SeriesSpec:
    """What to make.

    Attributes:
        seed: another seed makes other UIDs.
        study: series with the same patient and study belong to one study.
        rows, columns: size of each slice in pixels of 16 bits.
    """

    modality: Modality = "CT"
    slices: int = 5
    patient: Patient = Patient()
    study: str = "1"
    number: int = 1
    rows: int = 64
    columns: int = 64
    date: str = "20240117"
    seed: str = "srm-dicom"


_SOP_CLASS: dict[str, str] = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
}
_BODY_PART = {"CT": "CHEST", "MR": "KNEE", "PT": "ABDOMEN", "CR": "HAND"}
_FREE_TEXT = (
    "AccessionNumber",
    "InstitutionName",
    "InstitutionAddress",
    "StationName",
    "StudyDescription",
    "SeriesDescription",
    "InstitutionalDepartmentName",
    "PatientAddress",
    "PatientComments",
    "AdditionalPatientHistory",
    "DeviceSerialNumber",
    "ProtocolName",
    "StudyID",
    "ImageComments",
    "MedicalRecordLocator",
    "OtherPatientIDs",
)
_IDENTIFYING = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
)
_PEOPLE = ("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "OtherPatientNames")


def make_series(spec: SeriesSpec | None = None) -> list[FileDataset]:
    """Return the slices of a series, in order."""
    spec = spec or SeriesSpec()
    return [_make_slice(spec, index) for index in range(spec.slices)]


def make_patients(count: int, spec: SeriesSpec | None = None) -> list[FileDataset]:
    """Return one series for each of several patients."""
    spec = spec or SeriesSpec()
    found: list[FileDataset] = []
    for index in range(count):
        patient = replace(spec.patient, name=f"{CANARY}^PATIENT {index}", id=f"{CANARY}-{index}")
        found += make_series(replace(spec, patient=patient, study=f"{spec.study}.{index}"))
    return found


def shipped(name: str) -> FileDataset:
    """Return one of the files that the pydicom package has in itself, such as ``CT_small.dcm``."""
    path = get_testdata_file(name, download=False)
    if path is None:
        raise FileNotFoundError(name)
    return dcmread(str(path))


def save(datasets: Iterable[FileDataset], directory: Path) -> list[Path]:
    """Write each object as a DICOM file named by number."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, dataset in enumerate(datasets):
        path = directory / f"{index:04}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def identities(datasets: Sequence[Dataset]) -> tuple[bytes, ...]:
    """Return byte strings that must not be found in anything that leaves: texts and every real UID."""
    found = {CANARY.encode()}
    for dataset in datasets:
        found.update(str(dataset.get(keyword)).encode() for keyword in _IDENTIFYING if dataset.get(keyword))
    return tuple(sorted(found))


def written_forms(identity: bytes) -> set[bytes]:
    """Return a text as it might be written down: itself, in hex, in base64, in UTF-16."""
    return {
        identity,
        identity.hex().encode(),
        base64.b64encode(identity),
        identity.decode().encode("utf-16-le"),
    }


def uid_of(*parts: object) -> str:
    """Return a UID of the UUID branch that the parts determine."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _make_slice(spec: SeriesSpec, index: int) -> FileDataset:
    study = (spec.seed, spec.patient.id, spec.study)
    instance = uid_of(*study, spec.number, index)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(_SOP_CLASS[spec.modality])
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID = _SOP_CLASS[spec.modality]
    dataset.SOPInstanceUID = instance
    dataset.StudyInstanceUID = uid_of(*study)
    dataset.SeriesInstanceUID = uid_of(*study, spec.number)
    dataset.FrameOfReferenceUID = uid_of(*study, "frame")
    _describe_patient(dataset, spec)
    _describe_acquisition(dataset, spec, index)
    _hide_identity(dataset, spec)
    _draw(dataset, spec, index)
    return dataset


def _describe_patient(dataset: Dataset, spec: SeriesSpec) -> None:
    dataset.PatientName = spec.patient.name
    dataset.PatientID = spec.patient.id
    dataset.IssuerOfPatientID = spec.patient.issuer
    dataset.PatientBirthDate = spec.patient.birth_date
    dataset.PatientSex = spec.patient.sex
    dataset.PatientAge = "078Y"
    for keyword in _PEOPLE:
        setattr(dataset, keyword, f"{CANARY}^{keyword.upper()[:40]}")
    for keyword in _FREE_TEXT:
        setattr(dataset, keyword, f"{CANARY} {keyword}"[:16])


def _describe_acquisition(dataset: Dataset, spec: SeriesSpec, index: int) -> None:
    dataset.Modality = spec.modality
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.BodyPartExamined = _BODY_PART[spec.modality]
    dataset.BurnedInAnnotation = "NO"
    dataset.Manufacturer = "Synthetic"
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, keyword, spec.date)
    for keyword in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(dataset, keyword, "131415")
    dataset.SeriesNumber = spec.number
    dataset.InstanceNumber = index + 1
    if spec.modality != "CR":
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-100, -100, 5 * index]
        dataset.SliceThickness = 5
        dataset.SliceLocation = 5 * index
    _describe_modality(dataset, spec.modality)


def _describe_modality(dataset: Dataset, modality: Modality) -> None:
    if modality == "CT":
        dataset.KVP, dataset.RescaleIntercept, dataset.RescaleSlope = 120, -1024, 1
    elif modality == "MR":
        dataset.MagneticFieldStrength, dataset.EchoTime, dataset.RepetitionTime = 1.5, 30, 500
        dataset.ScanningSequence, dataset.SequenceVariant = "SE", "NONE"
    elif modality == "PT":
        dataset.Units, dataset.RescaleIntercept, dataset.RescaleSlope = "BQML", 0, 1


def _hide_identity(dataset: Dataset, spec: SeriesSpec) -> None:
    """Put the name where a careless de-identifier does not look."""
    deeper = Dataset()
    deeper.CodeMeaning = f"{CANARY} NESTED"
    item = Dataset()
    item.ScheduledProcedureStepDescription = f"{CANARY} STEP"
    item.RequestedProcedureID = f"{CANARY} ID"
    item.ScheduledProtocolCodeSequence = Items([deeper])
    dataset.RequestAttributesSequence = Items([item])
    reference = Dataset()
    reference.ReferencedSOPClassUID = dataset.SOPClassUID
    reference.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    dataset.ReferencedImageSequence = Items([reference])
    block = dataset.private_block(0x0029, f"{CANARY} HEADER", create=True)
    block.add_new(0x10, "LO", spec.patient.name)


def _draw(dataset: Dataset, spec: SeriesSpec, index: int) -> None:
    dataset.Rows, dataset.Columns = spec.rows, spec.columns
    dataset.PixelSpacing = [0.8, 0.8]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    phantom = _phantom(spec.rows, spec.columns)
    turned = 2 * spec.columns * (index % spec.rows) + 2 * (spec.number % spec.columns)
    dataset.PixelData = phantom[turned:] + phantom[:turned]


@lru_cache(maxsize=4)
def _phantom(rows: int, columns: int) -> bytes:
    """Return a bright ellipse with a gradient and two holes, 12 bits deep, little endian."""
    pixels = array("H")
    for row in range(rows):
        y = 2 * row / rows - 1
        for column in range(columns):
            x = 2 * column / columns - 1
            inside = (x / 0.8) ** 2 + (y / 0.9) ** 2 < 1
            hole = (abs(x) - 0.35) ** 2 + y**2 < 0.04
            pixels.append(0 if hole or not inside else 1000 + (row * 7 + column * 13) % 600)
    return pixels.tobytes()

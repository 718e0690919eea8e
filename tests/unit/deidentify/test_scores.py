"""A made data set of patients, studies and series, scored as the MIDI-B challenge scores one.

Each answer is one action that is required of one attribute or image: what research needs is retained, what
identifies is removed, dates of a patient move together, UIDs and patients are mapped consistently, pixels are
kept, and text in them is hidden. The score is the share of right answers.
"""

import io
import itertools
from collections import Counter
from datetime import date, timedelta

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, UltrasoundImageStorage

from srm_dicom.rights.project import Release
from srm_plugin_dicom.deidentify import Context, PixelPolicy, SiteProfile, Trust, deidentify
from srm_plugin_dicom.deidentify.blank import Rectangle
from srm_plugin_dicom.deidentify.options import Option
from srm_plugin_dicom.deidentify.pixels import Blanking

SITE = SiteProfile("midi", 1, (Option.MODIFIED_DATES, Option.PATIENT, Option.DESCRIPTORS))
MACHINE = Trust("GE MEDICAL SYSTEMS")
POLICY = PixelPolicy(blankings=(Blanking(MACHINE, 24, 24, (Rectangle(0, 0, 24, 6),)),))
CONTEXT = Context(b"k" * 32, Release("p", "midi", SITE.version), POLICY, (SITE,))
NAMES = ("Quixote^Zebulon", "Zephyrine^Ottoline", "Yxkull^Wendelin")
RETAINED = {
    "Modality": "CT", "PatientSex": "F", "PatientAge": "064Y", "PatientWeight": 71.5, "SliceThickness": 5,
    "KVP": 120, "Exposure": 200, "ConvolutionKernel": "STANDARD", "RescaleSlope": 1,
    "RescaleIntercept": -1024, "PatientPosition": "HFS", "BodyPartExamined": "ABDOMEN",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "StudyTime": "101500", "PixelSpacing": [0.7, 0.7], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "Manufacturer": "GE MEDICAL SYSTEMS",
}  # fmt: skip
REMOVED = {
    "PatientName": "", "PatientBirthDate": "19450612", "OtherPatientNames": "Zeb^Q",
    "PatientAddress": "7 Windmill Ln", "AccessionNumber": "ACC7719203",
    "ReferringPhysicianName": "Panza^Sancho", "InstitutionName": "La Mancha General",
    "StationName": "WINDMILL01", "OperatorsName": "Rocinante^R", "PatientComments": "call 555-0142",
    "StudyID": "MRN88412", "RequestingPhysician": "Dulcinea^T", "DeviceSerialNumber": "SN-44120-X",
    "ImageComments": "Zebulon again",
}  # fmt: skip
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


def made():
    """Yield images: three patients, two studies each, two series of three slices, and an ultrasound image."""
    for patient, name in enumerate(NAMES):
        for study, series, number in itertools.product(range(2), range(2), range(3)):
            yield image(patient, name, study, series, number)
        yield ultrasound(image(patient, name, 0, 2, 0))


def image(patient, name, study, series, number):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    root = f"1.2.999.{patient + 1}"
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = f"{root}.{study}", f"{root}.{study}.9"
    dataset.SeriesInstanceUID = f"{root}.{study}.{series}"
    dataset.SOPInstanceUID = f"{root}.{study}.{series}.{number + 1}"
    for keyword, value in (RETAINED | REMOVED).items():
        setattr(dataset, keyword, value)
    dataset.PatientName, dataset.PatientID = name, f"PID-{patient}-77120"
    day = date(2011, 5, 3) + timedelta(40 * study + patient)
    for keyword in DATES:
        setattr(dataset, keyword, f"{day + timedelta(series):%Y%m%d}")
    dataset.StudyDescription = f"CT ABDOMEN {name}"
    dataset.InstanceNumber, dataset.ImagePositionPatient = number + 1, [0, 0, 5 * number]
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = f"{root}.{study}.{series}.1"
    dataset.ReferencedImageSequence = [reference]
    dataset.Rows = dataset.Columns = 24
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = np.random.default_rng(number).integers(0, 4096, (24, 24), np.uint16).tobytes()
    return dataset


def ultrasound(dataset):
    dataset.SOPClassUID, dataset.BurnedInAnnotation = UltrasoundImageStorage, "YES"
    return dataset


def cleaned(dataset):
    policy = CONTEXT if dataset.get("BurnedInAnnotation") else PLAIN
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(bytes(deidentify(buffer.getvalue(), "", "", policy))))


PLAIN = Context(b"k" * 32, Release("p", "midi", SITE.version), PixelPolicy(), (SITE,))


class Scores:
    """Counts right answers by action, and says which were wrong."""

    def __init__(self):
        self.required, self.wrong = Counter(), []

    def answer(self, action, what, *, right):
        self.required[action] += 1
        if not right:
            self.wrong.append((action, what))


def score():
    scores = Scores()
    uids, patients, shifts = {}, {}, {}
    for before in made():
        after = cleaned(before)
        text = after.to_json()
        for keyword, value in RETAINED.items():
            scores.answer("tag_retained", keyword, right=after.get(keyword) == value)
        for keyword in ("InstanceNumber", "ImagePositionPatient", "Rows", "Columns"):
            scores.answer("tag_retained", keyword, right=after.get(keyword) == before[keyword].value)
        for keyword, value in (REMOVED | {"PatientName": before.PatientName}).items():
            gone = str(value) not in text and not any(
                part in text for part in str(before.PatientName).split("^")
            )
            scores.answer("text_removed", keyword, right=gone and str(after.get(keyword)) != str(value))
        scores.answer("text_retained", "StudyDescription", right=after.StudyDescription == "CT ABDOMEN")
        scores.answer("text_notnull", "PatientID", right=bool(after.PatientID))
        moved = {(pydicom.valuerep.DA(before[each].value) - pydicom.valuerep.DA(after[each].value)).days
                 for each in DATES}  # fmt: skip
        same = shifts.setdefault(before.PatientID, moved)
        for keyword in DATES:
            scores.answer("date_shifted", keyword, right=len(moved) == 1 and same == moved and moved != {0})
        pairs = [(before[each].value, after[each].value) for each in UIDS]
        pairs += [(one.ReferencedImageSequence[0].ReferencedSOPInstanceUID for one in (before, after))]
        for old, new in map(tuple, pairs):
            scores.answer("uid_changed", old, right=old != new)
            scores.answer("uid_consistent", old, right=uids.setdefault(old, new) == new)
        one = patients.setdefault(before.PatientID, after.PatientID)
        scores.answer("patid_consistent", one, right=one == after.PatientID != before.PatientID)
        was, now = before.pixel_array, after.pixel_array
        if before.get("BurnedInAnnotation"):
            scores.answer("pixels_hidden", before.SOPInstanceUID, right=not now[:6].any())
            was, now = was[6:], now[6:]
        scores.answer("pixels_retained", before.SOPInstanceUID, right=np.array_equal(was, now))
    distinct = len(set(uids.values())) == len(uids) and len(set(patients.values())) == len(NAMES)
    scores.answer("uid_consistent", "all differ", right=distinct)
    return scores


@pytest.fixture(scope="module")
def scores():
    return score()


def test_the_score(scores):
    required = sum(scores.required.values())
    assert required > 2000
    assert set(scores.required) == {
        *("tag_retained", "text_removed", "text_retained", "text_notnull", "date_shifted", "uid_changed"),
        *("uid_consistent", "patid_consistent", "pixels_hidden", "pixels_retained"),
    }
    assert (required - len(scores.wrong)) / required >= 0.999, scores.wrong


def test_nothing_identifying_was_left(scores):
    assert [each for each in scores.wrong if each[0] in ("text_removed", "pixels_hidden")] == []

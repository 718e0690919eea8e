"""Names outside: keyed, stable, and of characters that every client leaves alone."""

import hmac
import re
import uuid
from io import BytesIO

import pydicom
import pytest

from srm_dicom.crypto.derive import derive
from srm_dicom.ids import parse_guid
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import TestObject
from srm_plugin_dicom.deidentify import Context, deidentify
from srm_plugin_dicom.deidentify.keyed import ProjectKey
from srm_plugin_dicom.header import texts
from srm_plugin_dicom.naming import Names

RELEASE = Release("p", "basic", "v1")
NAMES = Names(b"k" * 32, RELEASE)
HEADER = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "4711",
    "StudyInstanceUID": "1.2.3",
    "Modality": "CT",
    "BodyPartExamined": "MUSTERMANN",
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Erika's scanner",
    "Rows": "512",
    "SliceThickness": "0.75",
    "KVP": "nan",
    "PixelSpacing": "0.5\\0.5",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
}


def test_components_say_nothing():
    parts = NAMES.components("4711", "", "1.2.3", "1.2.3.4", "1.2.3.4.5")
    assert all(re.fullmatch(r"[a-z2-7]{16}(\.dcm\.c4gh)?", part) for part in parts)
    assert parts[3].endswith(".dcm.c4gh")
    assert len(set(parts)) == 4


def test_names_are_what_an_hmac_makes_of_the_original():
    """RFC 2104, over the length and the bytes of each part."""
    mac = hmac.digest(derive(b"k" * 32, "deidentify", "uid"), b"\0\0\0\x051.2.3", "sha256")
    made = uuid.UUID(int=int(ProjectKey(b"k" * 32).uid(b"1.2.3").removeprefix(b"2.25.")))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    assert (made.bytes[:6], made.bytes[9:]) == (mac[:6], mac[9:16])


def test_names_are_stable_and_of_one_project():
    assert NAMES.components("a", "b", "1", "2", "3") == Names(b"k" * 32, RELEASE).components(
        "a", "b", "1", "2", "3"
    )
    assert NAMES.group("1.2") != Names(b"l" * 32, RELEASE).group("1.2")
    assert NAMES.components("ab", "", "1", "2", "3")[0] != NAMES.components("b", "a", "1", "2", "3")[0]


def test_a_guid_is_of_one_release():
    guid = NAMES.guid("1.2.3")
    assert parse_guid(guid) == guid == NAMES.guid("1.2.3\0")
    assert guid != Names(b"k" * 32, Release("p", "basic-dates", "v1")).guid("1.2.3")


def test_the_directory_is_called_as_the_patient_in_the_file():
    made = bytes(deidentify(TestObject().file(), "", "", Context(b"k" * 32, RELEASE)))
    assert NAMES.components("PID-0815-4711", "", "1", "2", "3")[0].encode() in made


def test_only_proven_values_may_be_searched():
    assert NAMES.attributes(HEADER) == {
        "Modality": "CT",
        "Manufacturer": "SIEMENS",
        "Rows": 512,
        "SliceThickness": 0.75,
        "PixelSpacing": "0.5\\0.5",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    }


def test_nominative_values_are_those_that_join():
    assert NAMES.nominative(HEADER) == {
        "PatientName": "Mustermann^Erika",
        "PatientID": "4711",
        "StudyInstanceUID": "1.2.3",
    }


@pytest.mark.parametrize(
    ("character_set", "patient_id", "issuer"),
    [
        ("ISO_IR 100", "Müller-7", "Köln"),
        ("ISO_IR 144", "Пациент 7", "Москва"),
        ("ISO_IR 192", "日本-Ω-é", "台灣"),
        ("GB18030", "王小东", "北京"),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", "山田7", "東京"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ", ""),
        ("ISO_IR 192", "A\\Ü", "first\\second"),
    ],
)
def test_a_patient_has_one_name_however_the_id_is_encoded(character_set, patient_id, issuer):
    """What C-FIND tells as text, and what the object has as bytes, is one patient."""
    dataset = pydicom.dcmread(BytesIO(TestObject().file()))
    dataset.SpecificCharacterSet = character_set.split("\\")
    dataset.PatientID, dataset.IssuerOfPatientID = patient_id, issuer
    out = BytesIO()
    dataset.save_as(out)
    found = texts(pydicom.dcmread(BytesIO(out.getvalue())))
    told = NAMES.components(found["PatientID"], found.get("IssuerOfPatientID", ""), "1", "2", "3")[0]
    made = bytes(deidentify(out.getvalue(), "", "", Context(b"k" * 32, RELEASE)))
    assert pydicom.dcmread(BytesIO(made)).PatientID == told
    assert told == NAMES.components(patient_id, issuer, "1", "2", "3")[0]


def test_an_id_in_no_known_character_set_still_has_one_name():
    dataset = pydicom.dcmread(BytesIO(TestObject().file()))
    file = BytesIO()
    dataset.save_as(file)
    raw = file.getvalue().replace(b"PID-0815-4711", b"PID-\xe9815-4711")
    told = NAMES.components(str(pydicom.dcmread(BytesIO(raw)).PatientID), "", "1", "2", "3")[0]
    assert told.encode() in bytes(deidentify(raw, "", "", Context(b"k" * 32, RELEASE)))


def test_what_is_longer_than_its_kind_of_value_is_is_not_kept():
    """A metadata server takes no more of a value, and a series would never be registered for it."""
    long = "x" * 5000
    assert NAMES.nominative({"PatientName": "A" * 64, "PatientID": long}) == {"PatientName": "A" * 64}
    assert NAMES.attributes({"PixelSpacing": "\\".join(["0.5"] * 2000)}) == {}

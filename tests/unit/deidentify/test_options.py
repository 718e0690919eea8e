"""What each option lets leave beside the basic profile, and that it lets nothing else leave."""

import io
import struct

import pydicom
import pytest
from pydicom.data import get_testdata_file

from srm_dicom.errors import ObjectRefused
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import EXPLICIT, IMPLICIT, TestObject, Writer
from srm_plugin_dicom.deidentify import Context, SiteProfile, deidentify
from srm_plugin_dicom.deidentify.checker import Checker
from srm_plugin_dicom.deidentify.options import Option
from srm_plugin_dicom.deidentify.profile import profile


def clean(data, *options):
    site = SiteProfile("own", 1, options)
    context = Context(b"k" * 32, Release("p", "own", site.version), site_profiles=(site,))
    return bytes(deidentify(data, "", "", context))


def read(data, *options):
    return pydicom.dcmread(io.BytesIO(clean(data, *options)))


def of_class(write, sop_class, extra):
    made = TestObject(write, extra={0x00080016: write.element(0x00080016, "UI", sop_class)} | extra)
    made.pixels = b""
    return made


def code(write, value, scheme=b"DCM", meaning=b"anything"):
    return (
        write.element(0x00080100, "SH", value)
        + write.element(0x00080102, "SH", scheme)
        + write.element(0x00080104, "LO", meaning)
    )


def content(write, kind, *rest, name=b"121206"):
    """Return a content item: what it is, how it is called, and its value's elements."""
    named = write.sequence(0x0040A043, code(write, name))
    ordered = [
        write.element(0x0040A010, "CS", b"CONTAINS"),
        write.element(0x0040A040, "CS", kind),
        named,
        *rest,
    ]
    return b"".join(ordered)


TEXTS = {
    b"TEXT": (0x0040A160, "UT", b"Erika was here"),
    b"PNAME": (0x0040A123, "PN", b"Mustermann^Erika"),
    b"DATE": (0x0040A121, "DA", b"20040119"),
    b"DATETIME": (0x0040A120, "DT", b"20040119120000"),
    b"TIME": (0x0040A122, "TM", b"120001"),
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("undefined", [False, True])
def test_of_reports_coded_and_numeric_content_leaves(syntax, undefined):
    write = Writer(syntax)
    number = write.sequence(
        0x0040A300,
        write.sequence(0x004008EA, code(write, b"mm", b"UCUM")) + write.element(0x0040A30A, "DS", b"12"),
    )
    known = write.sequence(0x0040A168, code(write, b"121206", meaning=b"Erika's"))
    unknown = write.sequence(0x0040A168, code(write, b"ERIKA", b"99LOCAL"))
    below = write.sequence(0x0040A730, content(write, b"NUM", number))
    items = [content(write, kind, write.element(*value)) for kind, value in TEXTS.items()]
    items += [
        content(write, b"NUM", number),
        content(write, b"CODE", known),
        content(write, b"CODE", unknown),
    ]
    items += [
        content(write, b"TEXT", write.element(*TEXTS[b"TEXT"]), below),
        content(write, b"CONTAINER", below),
    ]
    root = {
        0x0040A040: write.element(0x0040A040, "CS", b"CONTAINER"),
        0x0040A491: write.element(0x0040A491, "CS", b"COMPLETE"),
        0x0040A730: write.sequence(0x0040A730, *items, undefined=undefined),
    }
    made = of_class(write, b"1.2.840.10008.5.1.4.1.1.88.33", root)
    with pytest.raises(ObjectRefused, match="reports"):
        clean(made.file())
    data = clean(made.file(), Option.STRUCTURED)
    assert not [value for _, _, value in TEXTS.values() if value in data]
    assert b"Erika" not in data
    report = pydicom.dcmread(io.BytesIO(data))
    assert [item.ValueType for item in report.ContentSequence] == ["NUM", "CODE", "CONTAINER"]
    assert report.ContentSequence[0].MeasuredValueSequence[0].NumericValue == 12
    assert report.ContentSequence[2].ContentSequence[0].ValueType == "NUM"
    assert report.CompletionFlag == "COMPLETE"


@pytest.mark.parametrize("name", ["test-SR.dcm", "reportsi.dcm"])
def test_real_reports(name):
    path = get_testdata_file(name)
    before = pydicom.dcmread(path)
    with open(path, "rb") as file:  # noqa: PTH123
        data = clean(file.read(), Option.STRUCTURED)
    after = pydicom.dcmread(io.BytesIO(data))
    assert after.SOPClassUID == before.SOPClassUID
    texts = {
        str(item.value) for item in before.iterall() if item.VR in ("PN", "UT") and len(str(item.value)) > 4
    }
    assert texts
    assert not [text for text in texts if text.encode("latin1") in data]


def test_of_descriptions_public_words_leave():
    write = Writer()
    described = {
        0x00081030: write.element(0x00081030, "LO", b"CT Abdomen Mustermann 19.01.2004 w/o contrast"),
        0x0008103E: write.element(0x0008103E, "LO", b"Erika 4711"),
    }
    made = TestObject(extra=described)
    dataset = read(made.file(), Option.DESCRIPTORS)
    assert dataset.StudyDescription == "CT ABDOMEN W CONTRAST"
    assert "SeriesDescription" not in dataset
    assert [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence] == ["113100", "113105"]
    assert "StudyDescription" not in read(made.file())


def test_a_patient_who_is_called_like_a_public_word_is_refused():
    write = Writer()
    made = TestObject(
        extra={
            0x00100010: write.element(0x00100010, "PN", b"CHEST^Erika"),
            0x00081030: write.element(0x00081030, "LO", b"Chest PA"),
        }
    )
    with pytest.raises(ObjectRefused, match="check"):
        clean(made.file(), Option.DESCRIPTORS)


def test_of_presentation_states_coordinates_leave():
    write = Writer()
    text = write.sequence(0x00700008, write.element(0x00700006, "ST", b"Erika"))
    line = write.element(0x00700022, "FL", struct.pack("<4f", 1, 2, 3, 4)) + write.element(
        0x00700023, "CS", b"POLYLINE"
    )
    annotation = write.element(0x00700002, "CS", b"ERIKA") + text + write.sequence(0x00700009, line)
    made = of_class(
        write,
        b"1.2.840.10008.5.1.4.1.1.11.1",
        {
            0x00700001: write.sequence(0x00700001, annotation),
            0x00700080: write.element(0x00700080, "CS", b"ERIKA"),
            0x00700084: write.element(0x00700084, "PN", b"Erika"),
        },
    )
    with pytest.raises(ObjectRefused, match="presentation"):
        clean(made.file())
    data = clean(made.file(), Option.GRAPHICS)
    assert b"rika" not in data.lower()
    graphic = pydicom.dcmread(io.BytesIO(data)).GraphicAnnotationSequence[0]
    assert graphic.GraphicLayer == "LAYER"
    assert list(graphic.GraphicObjectSequence[0].GraphicData) == [1, 2, 3, 4]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_safe_private_numbers_leave_and_nothing_else_of_their_block(syntax):
    write = Writer(syntax)

    def block(creator):
        return {
            0x00190010: write.element(0x00190010, "LO", creator),
            0x0019100C: write.element(0x0019100C, "IS", b"1000"),
            0x0019100D: write.element(0x0019100D, "CS", b"ERIKA"),
            0x0019100F: write.element(0x0019100F, "LO", b"Erika"),
            0x00191023: write.element(0x00191023, "DS", b"2.5"),
        }

    safe, foreign = (
        read(TestObject(write, extra=block(creator)).file(), Option.SAFE_PRIVATE)
        for creator in (b"SIEMENS MR HEADER", b"ERIKA")
    )
    assert [element.tag for element in safe if element.tag.is_private] == [0x00190010, 0x0019100C]
    assert safe[0x0019100C].value == 1000
    assert not [element for element in foreign if element.tag.is_private]
    assert not [element for element in read(TestObject(write, extra=block(b"SIEMENS MR HEADER")).file())
                if element.tag.is_private]  # fmt: skip


def test_the_check_knows_safe_private_attributes():
    write = Writer()
    site = SiteProfile("own", 1, (Option.SAFE_PRIVATE,))
    creator = write.element(0x00190010, "LO", b"SIEMENS MR HEADER")
    number, text = write.element(0x0019100C, "IS", b"1000"), write.element(0x0019100C, "IS", b"Erika")
    checker = Checker(profile("own", site.version, (site,)))
    checker.check(creator + number, [], EXPLICIT, b"")
    for wrong in (number, creator + text, creator.replace(b"SIEMENS", b"ERIKA M") + number):
        with pytest.raises(ObjectRefused):
            checker.check(wrong, [], EXPLICIT, b"")
    with pytest.raises(ObjectRefused):
        Checker(profile("basic")).check(creator + number, [], EXPLICIT, b"")

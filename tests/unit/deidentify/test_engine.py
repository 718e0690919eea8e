"""Objects in, objects out: what leaves, in which form, and what does not."""

import io
import struct

import pydicom
import pytest
from pydicom.data import get_testdata_file

from srm_dicom.errors import ObjectRefused
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    TestObject,
    Writer,
)
from srm_plugin_dicom.deidentify import Context, PixelPolicy, Trust, deidentify
from srm_plugin_dicom.deidentify.elements import Limits

SYNTAXES = [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN]


def context(profile="basic", key=b"k" * 32, **policy):
    return Context(key, Release("project", profile, "v1"), PixelPolicy(**policy))


def clean(data, using=None, syntax=""):
    return bytes(deidentify(data, syntax, "", using or context()))


def read(data):
    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_pixels_and_geometry_stay_and_the_syntax_too(syntax):
    write = Writer(syntax)
    made = TestObject(write, extra={0x00280030: write.element(0x00280030, "DS", b"0.5\\0.5")})
    dataset = read(clean(made.file()))
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert dataset.PixelData == bytes(range(32))
    assert (dataset.Rows, dataset.Columns, list(dataset.PixelSpacing)) == (4, 4, [0.5, 0.5])
    assert dataset.Modality == "CT"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_bare_data_set_gives_the_same_bytes_as_its_file(syntax):
    made = TestObject(Writer(syntax))
    file = made.file()
    start = 132 + 12 + struct.unpack_from("<L", file, 140)[0]
    assert clean(file[start:], syntax=syntax) == clean(file)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do_and_pixels_are_not_copied(kind):
    data = kind(TestObject().file())
    output = deidentify(data, "", "", context())
    assert any(isinstance(part, memoryview) and len(part) == 32 for part in output)


def test_what_was_done_is_stated():
    dataset = read(clean(TestObject().file(), context("basic-dates")))
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.DeidentificationMethod == "srm-dicom basic-dates v1"
    codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107"]
    assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"
    assert dataset.file_meta.ImplementationVersionName == "basic-dates v1"


def test_names_are_keyed_and_consistent():
    first, second = TestObject(), TestObject()
    second.extra[0x00080018] = second.writer.element(0x00080018, "UI", b"1.2.3.4.5.7")
    a, b = read(clean(first.file())), read(clean(second.file()))
    other = read(clean(first.file(), context(key=b"l" * 32)))
    assert a.StudyInstanceUID == b.StudyInstanceUID != "1.2.3.4.5"
    assert a.PatientID == b.PatientID
    assert len(a.PatientID) == 16
    assert a.SOPInstanceUID != b.SOPInstanceUID
    assert a.file_meta.MediaStorageSOPInstanceUID == a.SOPInstanceUID
    assert {other.PatientID, other.StudyInstanceUID}.isdisjoint({a.PatientID, a.StudyInstanceUID})
    assert a.StudyInstanceUID.startswith("2.25.")
    assert len(a.StudyInstanceUID) <= 64


def test_the_issuer_is_part_of_the_patient():
    made = TestObject()
    made.extra[0x00100021] = made.writer.element(0x00100021, "LO", b"HOSPITAL B")
    assert read(clean(made.file())).PatientID != read(clean(TestObject().file())).PatientID


def test_output_is_the_same_whatever_was_walked_before():
    plain = TestObject().file()
    expected = clean(plain, context(key=b"m" * 32))
    warm = context(key=b"n" * 32)
    for rows in (4, 8):
        clean(TestObject(rows=rows, pixels=Writer().element(0x7FE00010, "OW", bytes(64))).file(), warm)
    assert clean(plain, context(key=b"m" * 32)) == expected
    assert len(clean(plain, warm)) == len(expected)


def test_order_and_lengths_are_canonical():
    write = Writer()
    reference = write.element(0x00081155, "UI", b"1.2.3.9") + write.element(0x00081150, "UI", b"1.2.3.8")
    defined, undefined = (
        TestObject(extra={0x00081140: write.sequence(0x00081140, reference, undefined=flag)})
        for flag in (False, True)
    )
    unordered = TestObject()
    data = unordered.data_set()
    elements = [encoded for _, encoded in sorted(unordered.elements().items())]
    shuffled = b"".join([*reversed(elements[:-1]), elements[-1]])
    assert clean(defined.file()) == clean(undefined.file())
    assert clean(shuffled, syntax=EXPLICIT) == clean(data, syntax=EXPLICIT)


def test_group_lengths_private_overlays_and_the_rest_behind_go():
    write = Writer()
    made = TestObject(
        extra={
            0x00080000: write.element(0x00080000, "UL", bytes(4)),
            0x00090010: write.element(0x00090010, "LO", b"SECRET CREATOR"),
            0x60003000: write.element(0x60003000, "OW", b"SECRET OVERLAY"),
            0x50003000: write.element(0x50003000, "OW", b"SECRET CURVE"),
        },
        behind=write.element(0xFFFCFFFC, "OB", b"SECRET PADDING") + b"SECRET GARBAGE",
        preamble=b"SECRET".ljust(128),
        meta=write.element(0x00020016, "AE", b"SECRET AE"),
    )
    made.pixels = write.element(0x7FE00010, "OW", bytes(range(32)) + b"SECRET")
    data = clean(made.file())
    assert b"SECRET" not in data
    assert data == clean(TestObject().file())


def test_nested_content_in_unknown_representation_is_cleaned():
    implicit, write = Writer(IMPLICIT), Writer()
    inner = implicit.element(0x00081155, "UI", b"1.2.3.9") + implicit.element(0x00104000, "LT", b"SECRET")
    plain = write.element(0x00081155, "UI", b"1.2.3.9")
    for undefined in (False, True):
        wrapped = implicit.sequence(0x00081140, inner, undefined=undefined)[8:]
        length = 0xFFFFFFFF if undefined else None
        made = TestObject(extra={0x00081140: write.element(0x00081140, "UN", wrapped, length)})
        expected = TestObject(extra={0x00081140: write.sequence(0x00081140, plain)})
        assert clean(made.file()) == clean(expected.file())


@pytest.mark.parametrize(("said", "meant"), [(EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT)])
def test_elements_that_are_not_encoded_as_the_file_says(said, meant):
    honest, lying = TestObject(Writer(said)), TestObject(Writer(meant))
    assert clean(lying.data_set(), syntax=said) == clean(honest.file())


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_a_file_without_preamble_or_meta_information(syntax):
    made = TestObject(Writer(syntax))
    expected = clean(made.file())
    assert clean(made.data_set()) == expected
    assert clean(made.file()[132:]) == expected


def test_a_blank_representation_is_none():
    write = Writer()
    blank = write.element(0x00280120, "US", b"\1\0").replace(b"US", b"  ")
    plain = {0x00280120: write.u16(0x00280120, 1)}
    assert clean(TestObject(extra={0x00280120: blank}).file()) == clean(TestObject(extra=plain).file())


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_compressed_pixels_of_an_icon_are_stepped_over(vr):
    write = Writer()
    icon = write.sequence(0x00880200, write.fragments(b"\xff\xd8SECRET", vr=vr), undefined=True)
    assert clean(TestObject(extra={0x00880200: icon}).file()) == clean(TestObject().file())


def test_concepts_leave_with_their_public_meaning_or_not_at_all():
    write = Writer()

    def code(value, meaning):
        return (
            write.element(0x00080100, "SH", value)
            + write.element(0x00080102, "SH", b"SCT")
            + write.element(0x00080104, "LO", meaning)
        )

    made = TestObject(
        extra={0x00082218: write.sequence(0x00082218, code(b"69536005", b"Erika's head"), code(b"1", b"x"))}
    )
    known, unknown = read(clean(made.file(), context(recognizable=True))).AnatomicRegionSequence
    assert (known.CodeValue, known.CodeMeaning) == ("69536005", "Head")
    assert len(unknown) == 0


def test_dates_move_together_and_back():
    write = Writer()
    made = TestObject(
        extra={
            0x00080020: write.element(0x00080020, "DA", b"20040119"),
            0x00080022: write.element(0x00080022, "DA", b"20040120"),
            0x00080030: write.element(0x00080030, "TM", b"072730"),
            0x00100030: write.element(0x00100030, "DA", b"19450612"),
        }
    )
    moved = read(clean(made.file(), context("basic-dates")))
    days = [pydicom.valuerep.DA(text) for text in (moved.StudyDate, moved.AcquisitionDate)]
    assert (days[1] - days[0]).days == 1
    assert moved.StudyDate < "20040119"
    assert moved.StudyTime == "072730"
    assert not moved.PatientBirthDate
    assert read(clean(made.file(), context("full-dates"))).StudyDate == "20040119"
    assert not read(clean(made.file())).StudyDate


def test_a_value_in_a_wrong_representation_does_not_leave():
    write = Writer()
    for vr in ("LO", "UN", "PN"):
        made = TestObject(extra={0x00180050: write.element(0x00180050, vr, b"Mustermann")})
        assert b"Mustermann" not in clean(made.file())


RESEARCH = [
    "Modality",
    "ImageType",
    "Manufacturer",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "SliceLocation",
    "SpacingBetweenSlices",
    "KVP",
    "ExposureTime",
    "XRayTubeCurrent",
    "Exposure",
    "GantryDetectorTilt",
    "TableHeight",
    "ConvolutionKernel",
    "ReconstructionDiameter",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PhotometricInterpretation",
    "InstanceNumber",
    "SeriesNumber",
    "AcquisitionNumber",
    "PatientPosition",
    "EchoTime",
    "RepetitionTime",
    "FlipAngle",
    "InversionTime",
    "EchoTrainLength",
    "MagneticFieldStrength",
    "ImagingFrequency",
    "ScanningSequence",
    "SequenceVariant",
    "MRAcquisitionType",
    "NumberOfAverages",
    "SAR",
    "WindowCenter",
    "WindowWidth",
]


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_what_research_needs_stays(name):
    path = get_testdata_file(name)
    before = pydicom.dcmread(path)
    with open(path, "rb") as file:  # noqa: PTH123
        after = read(clean(file.read(), context(recognizable=True)))
    kept = [keyword for keyword in RESEARCH if keyword in before]
    assert len(kept) > 20
    assert [keyword for keyword in kept if after.get(keyword) != before[keyword].value] == []
    assert after.PixelData == before.PixelData


def test_functional_groups_stay():
    write = Writer()
    plane = write.sequence(0x00209113, write.element(0x00200032, "DS", b"1\\2\\3"))
    frames = write.sequence(0x52009230, *([plane] * 3), undefined=True)
    made = TestObject(extra={0x52009230: frames})
    groups = read(clean(made.file())).PerFrameFunctionalGroupsSequence
    assert [list(group.PlanePositionSequence[0].ImagePositionPatient) for group in groups] == [[1, 2, 3]] * 3


def test_the_report_tells_rules_and_no_values():
    report = deidentify(TestObject().file(), "", "", context()).report
    text = report.as_json()
    assert "Mustermann" not in text
    assert "4711" not in text
    assert ("00100020", "replaced by a keyed pseudonym", "table E.1-1: Z/D") in report.lines()


REFUSALS = {
    "1.2.840.10008.5.1.4.1.1.104.1": "encapsulated documents",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
    "1.2.840.10008.5.1.4.1.1.88.33": "structured reports",
    "1.2.840.10008.5.1.4.1.1.11.1": "presentation states",
    "1.2.840.10008.5.1.4.1.1.9.1.1": "waveforms",
    "1.2.840.10008.5.1.4.1.1.77.1.4.1": "video",
    "1.2.3.4": "this SOP class",
}


@pytest.mark.parametrize(("sop_class", "reason"), REFUSALS.items())
def test_kinds_of_objects_that_cannot_be_proven(sop_class, reason):
    made = TestObject()
    made.extra[0x00080016] = made.writer.element(0x00080016, "UI", sop_class.encode())
    with pytest.raises(ObjectRefused, match=reason):
        clean(made.file())


@pytest.mark.parametrize(
    ("said", "policy", "passes"),
    [
        (b"", {}, False),
        (b"NO", {}, False),
        (b"NO", {"trusted": (Trust("MAKER", "ONE"),)}, True),
        (b"", {"trusted": (Trust("MAKER"),)}, False),
        (b"", {"clean": (Trust("MAKER"),)}, True),
        (b"YES", {"clean": (Trust("MAKER"),)}, False),
    ],
)
def test_pixels_that_may_show_text(said, policy, passes):
    judge_text(b"US", said, policy, passes)


def judge_text(modality, said, policy, passes):
    write = Writer()
    made = TestObject(
        extra={
            0x00080060: write.element(0x00080060, "CS", modality),
            0x00080070: write.element(0x00080070, "LO", b"Maker"),
            0x00081090: write.element(0x00081090, "LO", b"One"),
            0x00280301: write.element(0x00280301, "CS", said),
        }
    )
    if passes:
        assert clean(made.file(), context(**policy))
    else:
        with pytest.raises(ObjectRefused, match="text"):
            clean(made.file(), context(**policy))


@pytest.mark.parametrize(("said", "passes"), [(b"NO", True), (b"", False), (b"YES", False)])
def test_of_a_doubtful_origin_any_machine_may_say_that_it_is_clean(said, passes):
    judge_text(b"OT", said, {}, passes)


@pytest.mark.parametrize("label", [{0x00080008: b"DERIVED\\PRIMARY\\LABEL\\NONE"}, {0x00480010: b"YES"}])
def test_labels_of_slides_are_refused(label):
    write = Writer()
    slide = {0x00080016: write.element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.77.1.6")}
    assert clean(TestObject(extra=dict(slide)).file())
    slide |= {tag: write.element(tag, "CS", value) for tag, value in label.items()}
    with pytest.raises(ObjectRefused, match="label"):
        clean(TestObject(extra=slide).file())


def test_pixels_of_what_has_no_pixels_do_not_leave():
    write = Writer()
    plan = {0x00080016: write.element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.481.5")}
    assert clean(TestObject(extra=dict(plan), pixels=b"").file())
    with pytest.raises(ObjectRefused, match="pixel data"):
        clean(TestObject(extra=plan).file())


def test_unused_bits_must_be_unused():
    write = Writer()
    narrow = {0x00280101: write.u16(0x00280101, 12), 0x00280102: write.u16(0x00280102, 11)}
    quiet = write.element(0x7FE00010, "OW", b"\xff\x0f" * 16)
    loud = write.element(0x7FE00010, "OW", b"\xff\x0f" * 15 + b"\x00\x40")
    assert clean(TestObject(extra=dict(narrow), pixels=quiet).file())
    with pytest.raises(ObjectRefused, match="bits"):
        clean(TestObject(extra=dict(narrow), pixels=loud).file())
    padding = {0x00280120: write.u16(0x00280120, 0x4000)}
    assert clean(TestObject(extra=narrow | padding, pixels=loud).file())


def test_broken_objects_are_refused():
    write = Writer()
    plain = TestObject().file()
    twice = TestObject(extra={0x00100021: write.element(0x00100020, "LO", b"again")})
    lying = TestObject(extra={0x00100020: write.element(0x00100020, "LO", b"4711", 0xFFFE)})
    short = TestObject(pixels=write.element(0x7FE00010, "OW", bytes(30)))
    for broken in (plain[:-1], plain[:300], twice.file(), lying.file(), short.file()):
        with pytest.raises(ObjectRefused):
            clean(broken)


def test_deep_nesting_is_refused_quickly():
    write = Writer()
    for undefined in (True, False):
        body = b""
        for _ in range(3000 if undefined else 300):
            body = write.sequence(0x00081140, body, undefined=undefined)
        with pytest.raises(ObjectRefused, match="deeply"):
            clean(TestObject(extra={0x00081140: body}).file())


def test_a_deflate_bomb_is_refused():
    made = TestObject(Writer(DEFLATED), rows=1024, columns=1024)
    made.pixels = made.writer.element(0x7FE00010, "OW", bytes(1 << 21))
    bounded = Context(b"k" * 32, Release("p", "basic", "v1"), limits=Limits(inflated_bytes=1 << 20))
    with pytest.raises(ObjectRefused, match="larger"):
        clean(made.file(), bounded)

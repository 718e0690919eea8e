"""Images that may show a face: how they are known, and that they stay."""

import pytest

from srm_dicom.errors import ObjectRefused
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import TestObject, Writer
from srm_plugin_dicom.deidentify import Context, PixelPolicy, deidentify


def context(**policy):
    return Context(b"k" * 32, Release("project", "basic", "v1"), PixelPolicy(**policy))


def clean(data, using=None):
    return bytes(deidentify(data, "", "", using or context()))


@pytest.mark.parametrize(
    ("said", "face"),
    [
        ({0x0008103E: b"t1_mprage_sag"}, True),
        ({0x00081030: b"MRT Kopf"}, True),
        ({0x00204000: b"the code 69536005 somewhere"}, True),
        ({0x00081030: b"Surface coil, femoral head"}, False),
        ({0x00081030: b"Head and neck", 0x00180015: b"CHEST"}, False),
        ({0x0008103E: b"Brain MIP", 0x00080008: b"DERIVED\\SECONDARY\\PROJECTION IMAGE"}, False),
        ({0x0008103E: b"Abdomen"}, False),
        ({0x00081030: b"Unklarer Befund", 0x00180015: b"KOPF"}, True),
        ({0x0008103E: b"t1 Sch\xe4del", 0x00180015: b"MISC"}, True),
        ({0x0008103E: b"t1 brain", 0x00180015: b"OTHER"}, True),
        ({0x0008103E: b"legs", 0x00180015: b"BEINE"}, False),
    ],
)
def test_a_head_without_a_body_part_is_known_by_its_descriptions(said, face):
    write = Writer()
    said = {0x00180050: b"1.0"} | said
    made = TestObject(extra={tag: write.element(tag, "LO", value) for tag, value in said.items()})
    made.extra[0x00080060] = write.element(0x00080060, "CS", b"MR")
    if face:
        with pytest.raises(ObjectRefused, match="face"):
            clean(made.file())
    else:
        assert clean(made.file())


def test_contours_may_show_a_face_too():
    write = Writer()
    contours = {0x00080016: write.element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.481.3")}
    with pytest.raises(ObjectRefused, match="face"):
        clean(TestObject(extra=contours, pixels=b"").file())
    assert clean(TestObject(extra=contours, pixels=b"").file(), context(recognizable=True))


def test_thin_slices_of_heads_need_a_statement():
    write = Writer()
    made = TestObject(
        extra={
            0x00180015: write.element(0x00180015, "CS", b"HEAD"),
            0x00180050: write.element(0x00180050, "DS", b"1.0"),
        }
    )
    with pytest.raises(ObjectRefused, match="face"):
        clean(made.file())
    assert clean(made.file(), context(recognizable=True))
    made.extra[0x00180050] = write.element(0x00180050, "DS", b"5.0")
    assert clean(made.file())
    for nothing in (b"NaN", b"inf", b"1e999", b"1_0", b"thick", b""):
        made.extra[0x00180050] = write.element(0x00180050, "DS", nothing)
        with pytest.raises(ObjectRefused, match="face"):
            clean(made.file())


@pytest.mark.parametrize(
    ("part", "face"),
    [
        *(
            (part, True)
            for part in ("HEADNECK", "WHOLEBODY", "CALVARIUM", "ZYGOMA", "CEREBELLUM", "SCALP", "MOUTH")
        ),
        *((part, False) for part in ("CHEST", "NECK", "ABDOMEN", "KNEE", "CSPINE", "HEART")),
    ],
)
def test_parts_of_the_body_that_have_a_face(part, face):
    write = Writer()
    said = {
        0x00180015: write.element(0x00180015, "CS", part.encode()),
        0x00180050: write.element(0x00180050, "DS", b"1"),
    }
    if face:
        with pytest.raises(ObjectRefused, match="face"):
            clean(TestObject(extra=said).file())
    else:
        assert clean(TestObject(extra=said).file())

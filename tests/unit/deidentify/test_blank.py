"""Rectangles are black in every frame, everything else is what it was, and the header says so."""

import io
import os
import struct
import sys
from types import ModuleType

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from srm_dicom.errors import ObjectRefused
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, RLE, TestObject, Writer
from srm_plugin_dicom.deidentify import Context, PixelPolicy, Trust, deidentify, detector
from srm_plugin_dicom.deidentify.blank import Rectangle
from srm_plugin_dicom.deidentify.pixels import Blanking

CORNER = (Rectangle(0, 0, 2, 1), Rectangle(1, 0, 2, 2), Rectangle(3, 3, 9, 9))
MASK = np.zeros((4, 4), bool)
MASK[0, 0:3] = MASK[1, 1:3] = MASK[3, 3] = True


def context(rectangles=CORNER, rows=4, columns=4, maker="MAKER", detector=None):
    rule = Blanking(Trust(maker), rows, columns, rectangles)
    policy = PixelPolicy(blankings=(rule,), detector=detector, recognizable=True)
    return Context(b"k" * 32, Release("p", "basic", "v1"), policy)


def ultrasound(write, pixels, **values):
    """Return an image that says that it shows text."""
    numbers = {0x00280100: 8, 0x00280101: 8, 0x00280102: 7} | {
        int(key[1:], 16): n for key, n in values.items()
    }
    extra = {tag: write.u16(tag, value) for tag, value in numbers.items()} | {
        0x00080060: write.element(0x00080060, "CS", b"US"),
        0x00080070: write.element(0x00080070, "LO", b"Maker"),
        0x00280301: write.element(0x00280301, "CS", b"YES"),
    }
    return TestObject(write, extra=extra, pixels=pixels)


def clean(made, using=None):
    return pydicom.dcmread(io.BytesIO(bytes(deidentify(made.file(), "", "", using or context()))))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
def test_every_frame_of_native_pixels(syntax):
    write = Writer(syntax)
    made = ultrasound(write, write.element(0x7FE00010, "OB", bytes(range(1, 33))))
    made.extra[0x00280008] = write.element(0x00280008, "IS", b"2")
    dataset = clean(made)
    expected = np.arange(1, 33, dtype="u1").reshape(2, 4, 4)
    expected[:, MASK] = 0
    assert np.array_equal(dataset.pixel_array, expected)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert dataset.BurnedInAnnotation == "NO"
    codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113101"]


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_in_both_orders(planar):
    write = Writer()
    made = ultrasound(
        write, write.element(0x7FE00010, "OB", bytes(range(1, 49))), x00280002=3, x00280006=planar
    )
    made.extra[0x00280004] = write.element(0x00280004, "CS", b"RGB")
    before = pydicom.dcmread(io.BytesIO(made.file())).pixel_array.copy()
    before[MASK] = 0
    assert np.array_equal(clean(made).pixel_array, before)


def test_black_is_black_in_luminance_too():
    write = Writer()
    made = ultrasound(write, write.element(0x7FE00010, "OB", b"\x50" * 48), x00280002=3, x00280006=0)
    made.extra[0x00280004] = write.element(0x00280004, "CS", b"YBR_FULL")
    assert clean(made).PixelData[:6] == b"\0\x80\x80" * 2


def test_words_of_either_order():
    for syntax in (EXPLICIT, BIG_ENDIAN):
        write = Writer(syntax)
        numbers = struct.pack(write.order + "16H", *range(1, 17))
        words = {"x00280100": 16, "x00280101": 16, "x00280102": 15}
        expected = np.arange(1, 17).reshape(4, 4)
        expected[MASK] = 0
        made = ultrasound(write, write.element(0x7FE00010, "OW", numbers), **words)
        assert np.array_equal(clean(made).pixel_array, expected)


def test_compressed_frames_leave_native():
    write = Writer(RLE)
    segment = b"\x0f" + bytes(range(1, 17))
    stream = struct.pack("<16L", 1, 64, *([0] * 14)) + segment + b"\0"
    dataset = clean(ultrasound(write, write.fragments(stream)))
    expected = np.arange(1, 17, dtype="u1").reshape(4, 4)
    expected[MASK] = 0
    assert dataset.file_meta.TransferSyntaxUID == EXPLICIT
    assert np.array_equal(dataset.pixel_array, expected)


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm", "JPEG2000.dcm"])
def test_real_compressed_images(name):
    pytest.importorskip("pylibjpeg")
    pytest.importorskip("libjpeg")
    pytest.importorskip("openjpeg")
    path = get_testdata_file(name)
    before = pydicom.dcmread(path)
    pixels = before.pixel_array.copy()
    pixels[10:20, 5:40] = 0
    maker = str(before.get("Manufacturer", ""))
    using = context((Rectangle(5, 10, 35, 10),), before.Rows, before.Columns, maker)
    with open(path, "rb") as file:  # noqa: PTH123
        output = deidentify(file.read(), "", "", using)
    after = pydicom.dcmread(io.BytesIO(bytes(output)))
    assert after.file_meta.TransferSyntaxUID == EXPLICIT
    assert np.array_equal(after.pixel_array, pixels)


@pytest.mark.parametrize(
    "using",
    [
        context(rows=8),
        context(maker="OTHER"),
        context(columns=8),
        Context(b"k" * 32, Release("p", "basic", "v1")),
    ],
)
def test_another_size_or_maker_is_refused(using):
    write = Writer()
    with pytest.raises(ObjectRefused, match="text"):
        clean(ultrasound(write, write.element(0x7FE00010, "OB", bytes(16))), using)


def test_pixels_that_share_their_bytes_are_refused():
    write = Writer()
    made = ultrasound(write, write.element(0x7FE00010, "OB", bytes(32)), x00280002=3, x00280006=0)
    made.extra[0x00280004] = write.element(0x00280004, "CS", b"YBR_FULL_422")
    with pytest.raises(ObjectRefused, match="text"):
        clean(made)


class Reading:
    """A detector that reads what it is told to."""

    def __init__(self, finds):
        self.finds = finds

    def shows_text(self, file):
        assert pydicom.dcmread(io.BytesIO(file)).PatientIdentityRemoved == "YES"
        return self.finds


def test_a_detector_is_one_gate_more():
    assert clean(TestObject(), context(detector=Reading(finds=False)))
    with pytest.raises(ObjectRefused, match="text"):
        clean(TestObject(), context(detector=Reading(finds=True)))


def test_rapidocr_reads_what_a_person_reads():
    pytest.importorskip("rapidocr")
    from srm_plugin_dicom.deidentify.detector import RapidText  # noqa: PLC0415

    found = {}
    for name in ("examples_ybr_color.dcm", "MR_small.dcm"):
        with open(get_testdata_file(name), "rb") as file:  # noqa: PTH123
            found[name] = RapidText().shows_text(file.read())
    assert found == {"examples_ybr_color.dcm": True, "MR_small.dcm": False}


def test_the_recogniser_is_not_to_call_its_maker(monkeypatch):
    """From the inner zone, with images of patients in its memory; it decides as it is loaded."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    told = []

    class Loaded(ModuleType):
        def __getattr__(self, name):
            told.append(os.environ.get("ORT_DISABLE_TELEMETRY"))
            return lambda **_: None

    monkeypatch.setitem(sys.modules, "rapidocr", Loaded("rapidocr"))
    detector._engine.__wrapped__()
    assert set(told) == {"1"}

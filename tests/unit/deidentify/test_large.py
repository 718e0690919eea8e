"""What lies elsewhere and is read piece by piece becomes what it would in memory: bytes, report, refusal."""

import random
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import data_store
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.misc import is_dicom
from pydicom.uid import RLELossless

from srm_dicom.errors import ObjectRefused, Overloaded
from srm_dicom.rights.project import Release
from srm_dicom.scratch.making import MOST_PACKET_BYTES
from srm_dicom.scratch.spool import SealedSpool
from srm_dicom.testing.dicom_bytes import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, RLE, TestObject, Writer
from srm_dicom.testing.images import CANARY, SeriesSpec, make_series
from srm_dicom.testing.sink import MemorySlot
from srm_plugin_dicom.deidentify import Context, PixelPolicy, Trust, large, view
from srm_plugin_dicom.deidentify.blank import Rectangle
from srm_plugin_dicom.deidentify.checker import Checker
from srm_plugin_dicom.deidentify.engine import Deidentifier
from srm_plugin_dicom.deidentify.pixels import Blanking
from srm_plugin_dicom.deidentify.reasons import Reason
from srm_plugin_dicom.deidentify.series import Received
from srm_plugin_dicom.delivery import Delivery
from srm_plugin_dicom.moves import MemoryBudget

HERE = Path(__file__).parent
FILES = sorted(
    path
    for below in (
        HERE / "corpus",
        Path(pydicom.__file__).parent / "data/test_files",
        Path(data_store.__file__).parent,
    )
    for path in below.rglob("*")
    if path.suffix == ".dcm" or (path.is_file() and is_dicom(path))
)
RELEASE = Release("p", "basic", "v1")
ANY = Context(b"k" * 32, RELEASE, PixelPolicy(clean=(Trust(""),), recognizable=True))
STRICT = Context(b"k" * 32, RELEASE)


def blanking(rows, columns, maker):
    rule = Blanking(Trust(maker), rows, columns, (Rectangle(0, 0, 2, 1), Rectangle(1, 0, 2, 2)))
    return Context(b"k" * 32, RELEASE, PixelPolicy(blankings=(rule,), recognizable=True))


def as_bytes(image):
    whole = BytesIO()
    image.save_as(whole, enforce_file_format=True)
    return whole.getvalue()


class Elsewhere:
    """Bytes that count how much of them was asked for at once."""

    def __init__(self, data):
        self._data = data
        self.size_bytes = len(data)
        self.most = 0

    def read(self, start, stop):
        self.most = max(self.most, stop - start)
        return self._data[start:stop]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(view, "PIECE_BYTES", 1000)
    monkeypatch.setattr(large, "HEADER_BYTES", (200, 3000, 1 << 22))


def delivered(context, data, syntax="", *names):
    """Return what becomes of an object in its slot."""
    slot = MemorySlot()
    with Delivery(context, MemoryBudget(1 << 30), 1 << 30) as delivery, suppress(ObjectRefused):
        delivery.deliver(Received(data, syntax, *names), slot)
    assert slot.committed is not bool(slot.reason)
    return (bytes(slot.data), slot.report) if slot.committed else slot.reason


def both(context, data, *more):
    """Return what becomes of an object in memory, and of the same elsewhere."""
    return delivered(context, bytearray(data), *more), delivered(context, view.View(Elsewhere(data)), *more)


@pytest.mark.parametrize("context", [ANY, STRICT], ids=["all that can", "strict"])
def test_every_file_of_the_corpora(context):
    assert len(FILES) > 150
    left = 0
    for path in FILES:
        in_memory, elsewhere = both(context, path.read_bytes())
        assert elsewhere == in_memory, path.name
        left += isinstance(in_memory, tuple)
    assert left > (100 if context is ANY else 20)


def test_images_full_of_identity():
    for modality in ("CT", "MR", "PT", "CR"):
        for image in make_series(SeriesSpec(modality, 2)):
            in_memory, elsewhere = both(ANY, as_bytes(image))
            assert elsewhere == in_memory
            assert CANARY.encode() not in elsewhere[0]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_data_sets_that_are_cut_or_have_something_behind(syntax):
    made = TestObject(Writer(syntax), behind=b"\xfc\xff\xfc\xff" + b"Mustermann" * 9)
    whole = made.data_set()
    for data, more in ((made.file(), ()), (whole, (syntax,))):
        for cut in (*range(0, len(data), 37), len(data)):
            in_memory, elsewhere = both(ANY, data[:cut], *more)
            assert elsewhere == in_memory, cut


def test_bytes_that_were_changed():
    generator = random.Random(7)
    data = as_bytes(make_series(SeriesSpec("CT", 1, rows=8, columns=8))[0])
    for _ in range(200):
        changed = bytearray(data)
        for _ in range(generator.randrange(1, 4)):
            changed[generator.randrange(len(data))] = generator.randrange(256)
        in_memory, elsewhere = both(ANY, bytes(changed))
        assert elsewhere == in_memory


@pytest.mark.parametrize("compressed", [False, True])
def test_rectangles_in_every_frame(compressed):
    image = pydicom.dcmread(get_testdata_file("emri_small.dcm"))
    if compressed:
        image.compress(RLELossless)
    image.Manufacturer = "Maker"
    context = blanking(image.Rows, image.Columns, "MAKER")
    in_memory, elsewhere = both(context, as_bytes(image))
    assert elsewhere == in_memory
    assert isinstance(elsewhere, tuple)
    plain, _ = delivered(ANY, as_bytes(image))
    assert elsewhere[0] != plain


def test_a_frame_that_is_not_clean_leaves_nothing():
    """The frames ahead of it are in the slot by then, which is given up."""
    write = Writer(RLE)
    frame = bytes.fromhex("02000000 40000000 52000000" + "00000000" * 13) + (b"\x0f" + bytes(16) + b"\0") * 2
    frames = {0x00280008: write.element(0x00280008, "IS", b"3")}
    for streams, fate in (([frame] * 3, None), ([frame, frame, b"GIF89a"], Reason.STREAM)):
        made = TestObject(write, extra=frames, pixels=write.fragments(*streams))
        in_memory, elsewhere = both(ANY, made.file())
        assert elsewhere == in_memory
        assert (isinstance(elsewhere, tuple) and not fate) or elsewhere.startswith(fate.value)


def test_no_more_than_the_header_and_a_piece_is_read_at_once(monkeypatch):
    monkeypatch.setattr(view, "PIECE_BYTES", 1 << 16)
    monkeypatch.setattr(large, "HEADER_BYTES", (1 << 14,))
    write = Writer()
    pixels = write.element(0x7FE00010, "OW", bytes(2 * 1024 * 1024 * 4))
    frames = {0x00280008: write.element(0x00280008, "IS", b"4")}
    stored = Elsewhere(TestObject(write, 1024, 1024, frames, pixels).file())
    assert isinstance(delivered(ANY, view.View(stored)), tuple)
    assert stored.most == 1 << 16


def test_what_needs_the_whole_has_a_bound(monkeypatch):
    data = TestObject(Writer(DEFLATED)).file()
    assert isinstance(delivered(ANY, view.View(Elsewhere(data))), tuple)
    with Delivery(ANY, MemoryBudget(len(data) - 1), 1 << 30) as delivery, pytest.raises(Overloaded):
        delivery.deliver(Received(view.View(Elsewhere(data))), MemorySlot())
    monkeypatch.setattr("srm_plugin_dicom.delivery.MOST_BYTES", len(data) - 1)
    assert delivered(ANY, view.View(Elsewhere(data))) == Reason.TOO_LARGE.value


def test_a_small_object_does_not_become_what_a_stager_has_no_memory_for():
    """By default: three copies of what it becomes may be in memory, which nobody has counted."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = struct.pack("<HH2sH", 0x0008, 0x0016, b"UI", 0) + struct.pack(
        "<HH2sHL", 9, 0x1001, b"OB", 0, 257 << 20
    )
    bomb = squeeze.compress(head)
    for _ in range(257):
        bomb += squeeze.compress(bytes(1 << 20))
    assert delivered(ANY, bomb + squeeze.flush(), DEFLATED) == Reason.TOO_LARGE.value


@pytest.mark.parametrize(("count", "leaves"), [(9_900, True), (10_100, False)])
def test_a_report_fits_into_what_a_worker_may_say(count, leaves):
    """An object with ever so many attributes, each told of, would end one worker after the other."""
    write = Writer()
    made = TestObject(write)
    private = {tag: write.element(tag, "OB", b"") for tag in range(0x00091000, 0x00091000 + count)}
    made.extra = dict(sorted((made.elements() | private).items()))
    fate = delivered(ANY, made.file())
    if leaves:
        assert count * len("00091000") < len(fate[1]) < MOST_PACKET_BYTES - 1024
    else:
        assert fate.startswith(Reason.TOO_LARGE.value)


def test_a_detector_of_text_sees_the_whole():
    class Detector:
        def shows_text(self, file):
            seen.append(len(file))
            return True

    seen = []
    context = Context(b"k" * 32, RELEASE, PixelPolicy(detector=Detector()))
    in_memory, elsewhere = both(context, TestObject().file())
    assert in_memory == elsewhere
    assert elsewhere.startswith(Reason.BURNED_IN.value)
    assert seen[0] == seen[1]


def test_the_check_is_over_what_is_streamed_too(monkeypatch):
    checked = []
    true_check = Checker.check
    monkeypatch.setattr(
        Checker, "check", lambda self, *args: checked.append(len(args[1])) or true_check(self, *args)
    )
    monkeypatch.setattr(
        "srm_plugin_dicom.deidentify.frames.native", lambda *_: [b"\xe0\x7f\x10\0OW\0\0\x20\0\0\0", bytes(34)]
    )
    data = TestObject().file()
    assert Deidentifier(ANY).deidentify(view.View(Elsewhere(data))).report
    assert delivered(ANY, view.View(Elsewhere(data))) == f"{Reason.CHECK.value} (pixel data)"
    assert checked == [0, 0]


def test_it_may_lie_in_the_sealed_spool(tmp_path):
    image = make_series(SeriesSpec("CT", 1, rows=1024, columns=1024))[0]
    data = as_bytes(image)
    spool = SealedSpool(tmp_path, memory_bytes=0, max_bytes=1 << 30)
    spool.write(data)
    assert spool.size_bytes > 2 << 20
    assert delivered(ANY, view.View(spool)) == delivered(ANY, bytearray(data))
    spool.close()

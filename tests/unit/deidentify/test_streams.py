"""Compressed pixels: what decoding does not need goes, what it needs stays to the bit."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from srm_dicom.errors import ObjectRefused
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import JPEG_2000, JPEG_LOSSLESS, RLE, TestObject, Writer
from srm_plugin_dicom.deidentify import Context, PixelPolicy, Trust, deidentify, jpeg, jpeg2000

ANY = Context(b"k" * 32, Release("p", "basic", "v1"), PixelPolicy(clean=(Trust(""),), recognizable=True))


def join(parts):
    return b"".join(parts)


def segment(marker, body):
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


HUFFMAN = segment(0xC4, b"\0" + bytes(16))
FRAME = segment(0xC3, b"\x10\0\4\0\4\1\1\x11\0")
SCAN = segment(0xDA, b"\1\1\0\1\0\0") + b"entropy\xff\x00coded\xff\xd0more"
JPEG = b"\xff\xd8" + FRAME + HUFFMAN + SCAN + b"\xff\xd9"


def test_jpeg_comments_and_application_segments_go():
    dirty = (
        b"\xff\xd8" + segment(0xE1, b"Exif\0\0GPS SECRET") + segment(0xFE, b"SECRET") + FRAME + HUFFMAN
        + segment(0xED, b"SECRET") + SCAN + b"\xff\xd9SECRET"
    )  # fmt: skip
    assert join(jpeg.clean(memoryview(dirty), lossless_ls=False)) == JPEG


def test_jpeg_segments_that_change_colours_stay_in_their_shortest_form():
    adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\1SECRET")
    jfif = segment(0xE0, b"JFIF\0\1\2\1\0\x48\0\x48\1\1SEC")
    dirty = b"\xff\xd8" + jfif + adobe + JPEG[2:]
    clean = join(jpeg.clean(memoryview(dirty), lossless_ls=False))
    assert b"SEC" not in clean
    assert b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0\1" in clean
    assert b"JFIF\0\1\1" in clean


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"GIF89a",
        JPEG[:-2],
        JPEG[:30],
        b"\xff\xd8" + segment(0xF0, b"?") + JPEG[2:],
        b"\xff\xd8" + FRAME + segment(0xC4, b"\0" + bytes(16) + b"SECRET") + SCAN + b"\xff\xd9",
        b"\xff\xd8" + segment(0xC3, FRAME[4:] + b"SECRET") + HUFFMAN + SCAN + b"\xff\xd9",
        b"\xff\xd8" + FRAME + segment(0xDD, b"\0\0SECRET") + SCAN + b"\xff\xd9",
        b"\xff\xd8" + FRAME + segment(0xF8, b"\2\1\1SECRET") + SCAN + b"\xff\xd9",
    ],
)
def test_jpeg_that_cannot_be_walked_is_refused(stream):
    with pytest.raises(ObjectRefused):
        jpeg.clean(memoryview(stream), lossless_ls=False)


def codestream(comment, tile_comment=b"", after=b"", slack=b""):
    size = segment(0x51, bytes(34) + b"\0\1" + bytes(3))
    coding, quantisation = segment(0x52, bytes(10)), segment(0x5C, b"\0\x40" + slack)
    data = b"\xff\x93coded data"
    length = (12 + len(tile_comment) + len(data)).to_bytes(4, "big")
    tile = b"\xff\x90\x00\x0a\0\0" + length + b"\0\1" + tile_comment + data
    return b"\xff\x4f" + size + coding + quantisation + comment + tile + after + b"\xff\xd9"


def test_jpeg_2000_comments_go_and_lengths_fit():
    comment = b"\xff\x64\x00\x0a\0\1SECRET"
    dirty = codestream(comment, comment, comment, b"SECRET") + b"SECRET"
    assert join(jpeg2000.clean(memoryview(dirty))) == codestream(b"")


def box(kind, body):
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def test_of_a_jp2_file_the_codestream_stays():
    file = box(b"jP  ", b"\r\n\x87\n") + box(b"uuid", b"SECRET") + box(b"jp2c", codestream(b""))
    assert join(jpeg2000.clean(memoryview(file + box(b"xml ", b"SECRET")))) == codestream(b"")


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\0\0\0\x0cjP  ",
        codestream(b"")[:-4],
        codestream(b"\xff\x70\0\2"),
        codestream(b"", after=segment(0x52, bytes(10))),
        b"\xff\x4f" + segment(0x52, b"") + b"\xff\xd9",
    ],
)
def test_jpeg_2000_that_cannot_be_walked_is_refused(stream):
    with pytest.raises(ObjectRefused):
        jpeg2000.clean(memoryview(stream))


def test_one_fragment_a_frame_and_an_empty_table():
    write = Writer(JPEG_LOSSLESS)
    frames = write.element(0x00280008, "IS", b"2")
    split = write.fragments(JPEG[:20], JPEG[20:] + b"\0", JPEG, table=b"")
    made = TestObject(write, extra={0x00280008: frames}, pixels=split)
    dataset = pydicom.dcmread(io.BytesIO(bytes(deidentify(made.file(), "", "", ANY))))
    assert (
        list(generate_frames(dataset.PixelData, number_of_frames=2)) == [JPEG + b"\0" * (len(JPEG) & 1)] * 2
    )
    whole = TestObject(write, extra={0x00280008: frames}, pixels=write.fragments(JPEG, JPEG))
    assert bytes(deidentify(whole.file(), "", "", ANY)) == bytes(deidentify(made.file(), "", "", ANY))


def test_bytes_between_and_behind_rle_segments_go():
    high, low = b"\xf1\x00", b"\x0f" + bytes(range(16))
    header = [2, 64, 64 + len(high) + 6, *([0] * 13)]
    frame = b"".join(n.to_bytes(4, "little") for n in header) + high + b"SECRET" + low + b"SECRET"
    write = Writer(RLE)
    made = TestObject(write, pixels=write.fragments(frame))
    data = bytes(deidentify(made.file(), "", "", ANY))
    assert b"SECRET" not in data
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert np.array_equal(dataset.pixel_array.ravel(), np.arange(16))


def test_unused_bits_of_rle_pixels_must_be_unused():
    write = Writer(RLE)
    narrow = {0x00280101: write.u16(0x00280101, 12), 0x00280102: write.u16(0x00280102, 11)}
    low = b"\x0f" + bytes(range(16))
    for high, passes in ((b"\xf1\x0f", True), (b"\xf2\x0f\x00\x40", False)):
        header = [2, 64, 64 + len(high), *([0] * 13)]
        frame = b"".join(n.to_bytes(4, "little") for n in header) + high + low
        made = TestObject(write, extra=dict(narrow), pixels=write.fragments(frame)).file()
        if passes:
            assert deidentify(made, "", "", ANY)
        else:
            with pytest.raises(ObjectRefused, match="bits"):
                deidentify(made, "", "", ANY)


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "SC_rgb_rle_2frame.dcm", "SC_rgb_rle_32bit_2frame.dcm", "rtdose_rle.dcm"]
)
def test_real_rle_decodes_the_same(name):
    path = get_testdata_file(name)
    cleaned = bytes(deidentify(open(path, "rb").read(), "", "", ANY))  # noqa: PTH123, SIM115
    before, after = pydicom.dcmread(path), pydicom.dcmread(io.BytesIO(cleaned))
    assert np.array_equal(before.pixel_array, after.pixel_array)


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_2000, RLE])
def test_native_pixels_in_a_compressed_syntax_are_refused(syntax):
    with pytest.raises(ObjectRefused):
        deidentify(TestObject(Writer(syntax)).file(), "", "", ANY)


def bitmap(writer, pixels):
    narrow = {
        tag: writer.u16(tag, value) for tag, value in ((0x00280100, 1), (0x00280101, 1), (0x00280102, 0))
    }
    return TestObject(writer, extra=narrow, pixels=pixels)


def test_rle_of_single_bits():
    header = struct.pack("<16L", 1, 64, *([0] * 14))
    made = bitmap(Writer(RLE), Writer(RLE).fragments(header + b"\x01\x0f\xf0SECRET"))
    data = bytes(deidentify(made.file(), "", "", ANY))
    assert b"SECRET" not in data
    assert header + b"\x01\x0f\xf0" in data


def deflated(body):
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


def test_frames_that_are_deflated_or_plain():
    pixels = bytes(range(32))
    for syntax, stream in (
        ("1.2.840.10008.1.2.1.98", pixels),
        ("1.2.840.10008.1.2.8.1", deflated(pixels) + b"SECRET"),
    ):
        write = Writer(syntax)
        data = bytes(deidentify(TestObject(write, pixels=write.fragments(stream)).file(), "", "", ANY))
        assert b"SECRET" not in data
        assert pixels in data
        for wrong in (stream[:-20], deflated(pixels + b"SECRET"), pixels + b"SECRET"):
            with pytest.raises(ObjectRefused):
                deidentify(TestObject(write, pixels=write.fragments(wrong)).file(), "", "", ANY)


def test_a_missing_delimiter_at_the_end_of_a_file():
    write = Writer(JPEG_LOSSLESS)
    whole = TestObject(write, pixels=write.fragments(JPEG)).file()
    assert bytes(deidentify(whole[:-8], "", "", ANY)) == bytes(deidentify(whole, "", "", ANY))


NAME = b"Zebulon^Quixote!"
CODES = b"\0" + bytes((2, *[0] * 15)) + b"\0\1"
UNUSED = {
    "quantisation": segment(0xDB, b"\3" + NAME.ljust(64)),
    "quantisation of two bytes": segment(0xDB, b"\x13" + NAME.ljust(128)),
    "codes of differences": segment(0xC4, b"\3" + CODES[1:]),
    "codes of runs": segment(0xC4, b"\x10" + bytes((2, *[0] * 15)) + b"ab"),
}


@pytest.mark.parametrize("table", UNUSED)
def test_jpeg_tables_that_nothing_uses_go(table):
    kept = segment(0xC4, CODES)
    clean = b"\xff\xd8" + FRAME + kept + SCAN + b"\xff\xd9"
    for hidden in (UNUSED[table], UNUSED[table] * 2):
        dirty = clean[:2] + hidden + clean[2:]
        assert join(jpeg.clean(memoryview(dirty), lossless_ls=False)) == clean
    if UNUSED[table][1] == 0xC4:
        both = segment(0xC4, UNUSED[table][4:] + CODES)
        assert join(jpeg.clean(memoryview(clean.replace(kept, both)), lossless_ls=False)) == clean


def test_jpeg_tables_that_are_used_stay():
    lossy = segment(0xC0, b"\x08\0\4\0\4\1\1\x11\1")
    tables = segment(0xDB, b"\1" + bytes(range(1, 65))) + segment(0xC4, CODES)
    tables += segment(0xC4, b"\x11" + CODES[1:])
    scan = segment(0xDA, b"\1\1\1\0\x3f\0") + b"\x81\x82"
    stream = b"\xff\xd8" + tables + lossy + scan + b"\xff\xd9"
    assert join(jpeg.clean(memoryview(stream), lossless_ls=False)) == stream


@pytest.mark.parametrize(
    "stream",
    [
        JPEG.replace(HUFFMAN, segment(0xC4, b"\0" + bytes((*[0] * 7, 15, *[0] * 8)) + NAME[:15])),
        JPEG.replace(HUFFMAN, segment(0xC4, b"\0" + bytes((2, *[0] * 15)) + b"\1\1")),
        JPEG.replace(HUFFMAN, segment(0xCC, NAME)),
        JPEG.replace(HUFFMAN, segment(0xCC, b"\0\x10\0")),
        JPEG.replace(b"\xff\xd0more", NAME[:15] + b"\xff\xd0\x81\x82\x83\xff\xd1\x84"),
        JPEG.replace(b"\xff\xd0more", b"\xff\xd0" + NAME[:15] + b"\0\xff\xd1\x84" + bytes(range(128, 200))),
    ],
)
def test_text_where_a_decoder_of_jpeg_looks_for_none(stream):
    with pytest.raises(ObjectRefused, match="walked"):
        jpeg.clean(memoryview(stream), lossless_ls=False)


def test_conditions_of_arithmetic_coding_stay():
    stream = JPEG.replace(HUFFMAN, segment(0xCC, b"\0\x10\x01\x31\x10\x05"))
    assert join(jpeg.clean(memoryview(stream), lossless_ls=False)) == stream


MAIN_HEADER = {
    "coding of a component": (segment(0x53, bytes(7)), NAME),
    "coding of a component with precincts": (segment(0x53, b"\0\1" + bytes(5) + b"\x88"), NAME),
    "quantisation of a component": (segment(0x5D, b"\0\0\x40"), NAME),
    "quantisation of a component, derived": (segment(0x5D, b"\0\1\x40\x40"), NAME),
}


@pytest.mark.parametrize("place", MAIN_HEADER)
def test_behind_jpeg_2000_segments_of_components(place):
    clean, hidden = MAIN_HEADER[place]
    dirty = segment(clean[1], clean[4:] + hidden)
    # What is behind quantisation could be of more levels, where a component has its own.
    for inside in ("comment", "tile_comment") if clean[1] == 0x53 else ("comment",):
        made = join(jpeg2000.clean(memoryview(codestream(**{"comment": b"", inside: dirty}))))
        assert made == codestream(**{"comment": b"", inside: clean})
    with pytest.raises(ObjectRefused, match="walked"):
        jpeg2000.clean(memoryview(codestream(b"", segment(0x5D, b"\0\0\x40" + NAME))))
    with pytest.raises(ObjectRefused, match="walked"):
        jpeg2000.clean(memoryview(codestream(segment(0x53, bytes(7)), slack=NAME)))


@pytest.mark.parametrize("marker", [0x51, 0x52, 0x5C])
def test_behind_the_segments_of_a_jpeg_2000_tile(marker):
    whole = {0x51: bytes(34) + b"\0\1" + bytes(3), 0x52: bytes(10), 0x5C: b"\0\x40"}[marker]
    try:
        made = join(jpeg2000.clean(memoryview(codestream(b"", segment(marker, whole + NAME)))))
    except ObjectRefused:
        return
    assert made == codestream(b"", segment(marker, whole))


SIZED = {
    JPEG_LOSSLESS: lambda rows, columns, samples: (
        b"\xff\xd8"
        + segment(0xC3, struct.pack(">BHHB", 16, rows, columns, samples) + b"\1\x11\0" * samples)
        + SCAN
        + b"\xff\xd9"
    ),
    "1.2.840.10008.1.2.4.80": lambda rows, columns, samples: (
        b"\xff\xd8"
        + segment(0xF7, struct.pack(">BHHB", 16, rows, columns, samples) + b"\1\x11\0" * samples)
        + segment(0xDA, b"\1\1\0\0\0\0")
        + b"\x81\x82\xff\xd9"
    ),
    JPEG_2000: lambda rows, columns, samples: (
        b"\xff\x4f"
        + segment(
            0x51,
            struct.pack(">H8LH", 0, columns + 3, rows + 2, 3, 2, 9, 9, 0, 0, samples) + bytes(3 * samples),
        )
        + codestream(b"")[45:]
    ),
}


@pytest.mark.parametrize("syntax", SIZED)
def test_a_stream_that_has_more_pixels_than_the_header_says_is_refused(syntax):
    """What no viewer shows, a decoder gives out: rows below the image, a further component."""
    write = Writer(syntax)
    whole = TestObject(write, pixels=write.fragments(SIZED[syntax](4, 4, 1)))
    assert bytes(deidentify(whole.file(), "", "", ANY))
    for size in ((5, 4, 1), (4, 5, 1), (4, 4, 3)):
        made = TestObject(write, pixels=write.fragments(SIZED[syntax](*size)))
        with pytest.raises(ObjectRefused, match="description"):
            deidentify(made.file(), "", "", ANY)


def test_lines_that_are_told_behind_the_scan_count():
    write = Writer(JPEG_LOSSLESS)
    unsaid = SIZED[JPEG_LOSSLESS](0, 4, 1)
    for lines, passes in ((4, True), (5, False)):
        stream = unsaid[:-2] + segment(0xDC, struct.pack(">H", lines)) + b"\xff\xd9"
        made = TestObject(write, pixels=write.fragments(stream))
        if passes:
            assert bytes(deidentify(made.file(), "", "", ANY))
        else:
            with pytest.raises(ObjectRefused, match="description"):
                deidentify(made.file(), "", "", ANY)


@pytest.mark.parametrize(
    ("allocated", "stored", "high", "pixel", "passes"),
    [
        (8, 7, 6, 0x7F, True),
        (8, 7, 6, 0x80, False),
        (8, 4, 3, 0x1F, False),
        (16, 12, 15, 0x0F, False),
        (32, 12, 11, 0x00, False),
    ],
)
def test_unused_bits_of_rle_pixels_of_any_size(allocated, stored, high, pixel, passes):
    write = Writer(RLE)
    said = ((0x00280100, allocated), (0x00280101, stored), (0x00280102, high))
    runs = [bytes((0xF1, value)) for value in (pixel, *[0] * (allocated // 8 - 1))]
    places = [64 + 2 * index for index in range(len(runs))]
    frame = struct.pack("<16L", len(runs), *places, *[0] * (15 - len(runs))) + b"".join(runs)
    made = TestObject(
        write, extra={tag: write.u16(tag, value) for tag, value in said}, pixels=write.fragments(frame)
    )
    if passes:
        assert deidentify(made.file(), "", "", ANY)
    else:
        with pytest.raises(ObjectRefused, match="bits"):
            deidentify(made.file(), "", "", ANY)


@pytest.mark.parametrize(
    ("preset", "passes"),
    [
        (struct.pack(">5H", 4095, 18, 67, 276, 64), True),
        (bytes(10), True),
        (struct.pack(">5H", 0, 3, 7, 21, 64), True),
        (b"SMITH^JOHN", False),
        (b"mueller,jo", False),
        (struct.pack(">5H", 4095, 18, 67, 5000, 64), False),
        (struct.pack(">5H", 255, 18, 67, 76, 0x4A4F), False),
    ],
)
def test_preset_parameters_of_jpeg_ls(preset, passes):
    stream = b"\xff\xd8" + segment(0xF8, b"\1" + preset) + JPEG[2:].replace(b"\xff\xd0", b"\x11\x22")
    if passes:
        assert preset in join(jpeg.clean(memoryview(stream), lossless_ls=True))
    else:
        with pytest.raises(ObjectRefused, match="walked"):
            jpeg.clean(memoryview(stream), lossless_ls=True)


def test_letters_in_the_sizes_of_a_jpeg_2000():
    precincts = segment(0x52, b"\1" + bytes(4) + bytes((15,)) + bytes(4) + NAME)
    with pytest.raises(ObjectRefused, match="walked"):
        jpeg2000.clean(memoryview(codestream(b"").replace(segment(0x52, bytes(10)), precincts)))
    with pytest.raises(ObjectRefused, match="walked"):
        jpeg2000.clean(memoryview(codestream(segment(0x53, b"\0\1" + bytes((15,)) + bytes(4) + NAME))))
    assert join(
        jpeg2000.clean(memoryview(codestream(segment(0x53, b"\0\1" + bytes((15,)) + bytes(4) + b"w" * 16))))
    )


def test_no_more_is_remembered_of_streams_than_machines_write():
    """Of a header as large as an object may be, another one for each, memory would be full."""
    table = segment(0xC4, (b"\0\1" + bytes(15) + b"\3") * 3600)
    scan = segment(0xC0, b"\x08\0\x08\0\x08\1\1\x11\0") + segment(0xDA, b"\1\1\0\0\x3f\0") + b"\x12\x34"
    tracemalloc.start()
    for number in range(8):
        interval = segment(0xDD, number.to_bytes(2, "big"))
        image = b"\xff\xd8" + interval + table * 8 + scan + b"\xff\xd9"
        assert jpeg.clean(memoryview(image), lossless_ls=False, described=(8, 8, 1))
        comment = struct.pack(">HHH", 0xFF60, 60_000, number) + bytes(59_996)
        made = codestream(b"", slack=b"").replace(b"\xff\x52", comment * 8 + b"\xff\x52", 1)
        assert jpeg2000.clean(memoryview(made))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 << 20

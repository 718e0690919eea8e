"""Looks for a name in every place beyond the table where one was ever found, or could be put.

What leaves is searched as it is, inflated, and for the name in UTF-16 and in base64.
"""

import base64
import io
import re
import struct
import zlib

import pydicom
import pytest

from srm_dicom.errors import ObjectRefused
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_2000,
    JPEG_LOSSLESS,
    RLE,
    TestObject,
    Writer,
)
from srm_plugin_dicom.deidentify import Context, PixelPolicy, SiteProfile, Trust, current_version, deidentify
from srm_plugin_dicom.deidentify.options import Option

NAME = b"Zebulon^Quixote"
FORMS = (
    NAME,
    NAME.decode().encode("utf-16-le"),
    NAME.decode().encode("utf-16-be"),
    *(base64.b64encode(b" " * shift + NAME)[4 if shift else 0 : 16] for shift in range(3)),
    NAME[::-1],
    NAME.hex().encode(),
)
OPTIONS = (Option.MODIFIED_DATES, Option.PATIENT, Option.DEVICE, Option.DESCRIPTORS)
OPTIONS += (Option.STRUCTURED, Option.GRAPHICS, Option.SAFE_PRIVATE)
LENIENT = SiteProfile("lenient", 1, OPTIONS)
POLICY = PixelPolicy(clean=(Trust(""),), recognizable=True)
NATIVE = (EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN)


def leaves(made, profile="basic"):
    """Return what leaves of an object, in every way that somebody may look at it."""
    release = Release("p", profile, current_version(profile, (LENIENT,)))
    output = deidentify(made.file(), "", "", Context(b"k" * 32, release, POLICY, (LENIENT,)))
    data = bytes(output)
    pydicom.dcmread(io.BytesIO(data)).PixelData  # noqa: B018 - it must be readable
    return data + b"".join(output.parts[1:])


def assert_hidden_nowhere(made, profile="basic"):
    assert any(form in made.file() for form in FORMS) or made.writer.syntax == DEFLATED
    found = leaves(made, profile)
    assert [form for form in FORMS if form in found or form in re.sub(rb"\0", b"", found)] == []


def segment(marker, body):
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


FRAME = segment(0xC3, b"\x10\0\4\0\4\1\1\x11\0")
TABLES = segment(0xC4, b"\0" + bytes(16))
SCAN = segment(0xDA, b"\1\1\0\1\0\0") + b"entropy\xff\x00coded"
JPEG = b"\xff\xd8" + FRAME + TABLES + SCAN + b"\xff\xd9"
JFIF, ADOBE = b"JFIF\0\1\2\0\0\1\0\1\2\2", b"Adobe\0\x64\0\0\0\0\1"
TILE = b"\xff\x90\0\x0a\0\0\0\0\0\x19\0\1\xff\x93coded data!"
SIZE = b"\0\0" + b"\0\0\0\4" * 2 + bytes(24) + b"\0\1" + bytes(3)
MAIN = b"\xff\x4f" + segment(0x51, SIZE) + segment(0x52, bytes(10)) + segment(0x5C, b"\0\x40")
CODESTREAM = MAIN + TILE + b"\xff\xd9"
RUNS = b"\x0f" + bytes(16)
RLE_FRAME = struct.pack("<16L", 2, 64, 64 + len(RUNS) + 1, *([0] * 13)) + RUNS + b"\0" + RUNS + b"\0"


def box(kind, body):
    return (8 + len(body)).to_bytes(4, "big") + kind + body


STREAMS = {
    "JPEG comment": (JPEG_LOSSLESS, [b"\xff\xd8" + segment(0xFE, NAME) + JPEG[2:]]),
    "JPEG Exif": (JPEG_LOSSLESS, [b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + NAME) + JPEG[2:]]),
    **{
        f"JPEG APP{number}": (JPEG_LOSSLESS, [b"\xff\xd8" + segment(0xE0 + number, NAME) + JPEG[2:]])
        for number in range(16)
    },
    "JFIF thumbnail": (JPEG_LOSSLESS, [b"\xff\xd8" + segment(0xE0, JFIF + NAME) + JPEG[2:]]),
    "behind Adobe's": (JPEG_LOSSLESS, [b"\xff\xd8" + segment(0xEE, ADOBE + NAME) + JPEG[2:]]),
    "between JPEG tables and scan": (
        JPEG_LOSSLESS,
        [b"\xff\xd8" + FRAME + TABLES + segment(0xFE, NAME) + SCAN + b"\xff\xd9"],
    ),
    "after the end of a JPEG": (JPEG_LOSSLESS, [JPEG + NAME]),
    "a second JPEG in the frame": (JPEG_LOSSLESS, [JPEG + JPEG[:2] + segment(0xFE, NAME) + JPEG[2:]]),
    "JPEG-LS comment": ("1.2.840.10008.1.2.4.80", [b"\xff\xd8" + segment(0xFE, NAME) + JPEG[2:]]),
    "JPEG 2000 comment": (JPEG_2000, [MAIN + segment(0x64, b"\0\1" + NAME) + TILE + b"\xff\xd9"]),
    "after the tiles": (JPEG_2000, [MAIN + TILE + segment(0x64, b"\0\1" + NAME) + b"\xff\xd9"]),
    "after the codestream": (JPEG_2000, [CODESTREAM + NAME]),
    "behind a size": (JPEG_2000, [b"\xff\x4f" + segment(0x51, SIZE + NAME) + CODESTREAM[45:]]),
    "behind step sizes": (JPEG_2000, [MAIN[:-6] + segment(0x5C, b"\0\x40" + NAME) + TILE + b"\xff\xd9"]),
    "JP2 box": (
        JPEG_2000,
        [box(b"jP  ", b"\r\n\x87\n") + box(b"xml ", NAME) + box(b"jp2c", CODESTREAM) + box(b"uuid", NAME)],
    ),
    "between RLE segments": (
        RLE,
        [struct.pack("<16L", 2, 64, 64 + 64, *([0] * 13)) + (RUNS + NAME).ljust(64, b"\0") + RUNS],
    ),
    "after RLE segments": (RLE, [RLE_FRAME + NAME]),
    "in RLE offsets": (RLE, [RLE_FRAME[:12] + NAME.ljust(52, b"\0") + RLE_FRAME[64:]]),
    "deflated frame": (
        "1.2.840.10008.1.2.8.1",
        [zlib.compress(bytes(32), wbits=-15) + NAME],
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", STREAMS)
def test_compressed_streams(place):
    syntax, streams = STREAMS[place]
    write = Writer(syntax)
    for table in (b"", NAME + b"\0"):
        assert_hidden_nowhere(TestObject(write, pixels=write.fragments(*streams, table=table)))


BEHIND_THE_CODE = {
    "entropy-coded data of a JPEG": (JPEG_LOSSLESS, JPEG[:-2] + NAME + b"\xff\xd9"),
    "those of a JPEG, padded": (JPEG_LOSSLESS, JPEG[:-2] + NAME + b"\0\xff\xff\xd9"),
    "those of a JPEG, in UTF-16": (JPEG_LOSSLESS, JPEG[:-2] + FORMS[1] + b"\xff\xd9"),
    "those of its first scan": (JPEG_LOSSLESS, JPEG[:-2] + NAME + SCAN + b"\xff\xd9"),
    "those of a JPEG-LS": ("1.2.840.10008.1.2.4.80", JPEG[:-2] + NAME + b"\xff\xd9"),
    "packets of a tile-part": (JPEG_2000, MAIN + TILE[:6] + b"\0\0\0\0" + TILE[10:] + NAME + b"\xff\xd9"),
    "packets of a tile-part of known length": (
        JPEG_2000,
        MAIN + TILE[:6] + (0x19 + len(NAME)).to_bytes(4, "big") + TILE[10:-1] + NAME + b"!" + b"\xff\xd9",
    ),
}


@pytest.mark.parametrize("place", BEHIND_THE_CODE)
def test_text_that_no_decoder_reads(place):
    syntax, stream = BEHIND_THE_CODE[place]
    write = Writer(syntax)
    with pytest.raises(ObjectRefused, match="walked"):
        leaves(TestObject(write, pixels=write.fragments(stream)))


SEGMENTS = {
    f"JPEG 2000 segment {number:02X}": number for number in (0x50, 0x59, 0x5E, 0x5F, 0x60, 0x74, 0x77)
}


@pytest.mark.parametrize("place", SEGMENTS)
def test_text_in_segments_of_numbers(place):
    write = Writer(JPEG_2000)
    hidden = segment(SEGMENTS[place], b"\0\0" + NAME)
    for stream in (MAIN + hidden + TILE + b"\xff\xd9", MAIN + TILE[:12] + hidden + TILE[12:] + b"\xff\xd9"):
        with pytest.raises(ObjectRefused, match="walked"):
            leaves(TestObject(write, pixels=write.fragments(stream)))


@pytest.mark.parametrize("position", [0, 11, 12, 15])
def test_overlays_in_unused_bits_of_compressed_pixels(position):
    write = Writer(JPEG_LOSSLESS)
    extra = {
        0x00280101: write.u16(0x00280101, 12),
        0x00280102: write.u16(0x00280102, 11),
        0x60020102: write.u16(0x60020102, position),
    }
    made = TestObject(write, extra=extra, pixels=write.fragments(JPEG))
    if position < 12:
        assert leaves(made)
    else:
        with pytest.raises(ObjectRefused, match="bits"):
            leaves(made)


def palette(write, descriptor, table):
    return {
        0x00281101: write.element(0x00281101, "US", struct.pack(write.order + "3H", *descriptor)),
        0x00281201: write.element(0x00281201, "OW", table),
    }


@pytest.mark.parametrize("syntax", NATIVE)
def test_behind_the_entries_of_a_lookup_table(syntax):
    write = Writer(syntax)
    table = bytes(range(0, 256, 8))
    assert leaves(TestObject(write, extra=palette(write, (16, 0, 16), table)))
    assert leaves(TestObject(write, extra=palette(write, (32, 0, 8), table)))
    none = {0x00281201: palette(write, (16, 0, 16), table)[0x00281201]}
    for extra in (palette(write, (16, 0, 16), table + NAME), palette(write, (8, 0, 16), table), none):
        with pytest.raises(ObjectRefused, match="description"):
            leaves(TestObject(write, extra=extra))
    inside = b"".join(
        (
            write.element(0x00283002, "US", struct.pack(write.order + "3H", 16, 0, 16)),
            write.element(0x00283006, "OW", table + NAME),
        )
    )
    with pytest.raises(ObjectRefused, match="description"):
        leaves(TestObject(write, extra={0x00283000: write.sequence(0x00283000, inside)}))


def test_fragments_that_belong_to_no_frame():
    write = Writer(JPEG_LOSSLESS)
    two = {0x00280008: write.element(0x00280008, "IS", b"2")}
    assert_hidden_nowhere(TestObject(write, extra=dict(two), pixels=write.fragments(JPEG, NAME, JPEG)))
    for streams in ((JPEG, NAME), (NAME, JPEG)):
        with pytest.raises(ObjectRefused):
            leaves(TestObject(write, extra=dict(two), pixels=write.fragments(*streams)))


NUMBERS = struct.pack("<12H", *range(1, 60, 5))


def graphic(write):
    text = write.element(0x00700006, "ST", NAME)
    return write.sequence(
        0x00700001, write.sequence(0x00700008, text) + write.element(0x00700022, "FL", b"NAME")
    )


def icon(write):
    inside = write.u16(0x00280010, 4) + write.element(0x7FE00010, "OW", NAME)
    return write.sequence(0x00880200, inside)


def private(write):
    return b"".join(
        (
            write.element(0x00090010, "LO", NAME),
            write.element(0x00091001, "PN", NAME),
            write.sequence(0x00091002, write.element(0x00100010, "PN", NAME), undefined=True),
            write.element(0x00091003, "UN", NAME),
        )
    )


def nested_private(write):
    return write.sequence(0x00081140, private(write) + write.element(0x00081155, "UI", b"1.2.3"))


ELEMENTS = {
    "overlay": (0x60003000, lambda w: w.element(0x60003000, "OW", NAME)),
    "overlay's label": (0x60001500, lambda w: w.element(0x60001500, "LO", NAME)),
    "last overlay group": (0x601E3000, lambda w: w.element(0x601E3000, "OW", NAME)),
    "curve": (0x50003000, lambda w: w.element(0x50003000, "OW", NAME)),
    "audio of a curve": (0x50FE200C, lambda w: w.element(0x50FE200C, "OW", NAME)),
    "graphic annotation": (0x00700001, graphic),
    "icon": (0x00880200, icon),
    "private block": (0x00090010, private),
    "private block in an item": (0x00081140, nested_private),
    "ICC profile": (0x00282000, lambda w: w.element(0x00282000, "OB", b"desc" + NAME)),
    "a UID": (0x0020000D, lambda w: w.element(0x0020000D, "UI", NAME)),
    "one of several UIDs": (0x0008001A, lambda w: w.element(0x0008001A, "UI", b"1.2.840.10008.1.1\\" + NAME)),
    "behind a UID": (0x00200052, lambda w: w.element(0x00200052, "UI", b"1.2.840.10008.1.4.1.1\0" + NAME)),
    "image type": (0x00080008, lambda w: w.element(0x00080008, "CS", b"ORIGINAL\\PRIMARY\\" + NAME)),
    "a number": (0x00180050, lambda w: w.element(0x00180050, "DS", b"5\\" + NAME)),
    "behind a number": (0x00180050, lambda w: w.element(0x00180050, "DS", b"5.0 \0" + NAME)),
    "character set": (0x00080005, lambda w: w.element(0x00080005, "CS", b"ISO_IR 100\\" + NAME)),
    "an escape sequence": (0x00080070, lambda w: w.element(0x00080070, "LO", b"SIEMENS\x1b$B" + NAME)),
    "UTF-16": (0x00081030, lambda w: w.element(0x00081030, "UT", FORMS[1])),
    "base64": (0x00204000, lambda w: w.element(0x00204000, "LT", base64.b64encode(NAME))),
    "a window's explanation": (0x00281055, lambda w: w.element(0x00281055, "LO", NAME)),
    "a LUT's explanation": (0x00283003, lambda w: w.element(0x00283003, "LO", NAME)),
    "a mask's description": (0x00286101, lambda w: w.element(0x00286101, "CS", NAME)),
    "a digital signature": (0xFFFAFFFA, lambda w: w.sequence(0xFFFAFFFA, w.element(0x04000120, "OB", NAME))),
    "original attributes": (
        0x04000561,
        lambda w: w.sequence(0x04000561, w.sequence(0x04000550, w.element(0x00100010, "PN", NAME))),
    ),
    "encrypted attributes": (
        0x04000500,
        lambda w: w.sequence(0x04000500, w.element(0x04000520, "OB", NAME)),
    ),
    "a code's meaning": (
        0x00082218,
        lambda w: w.sequence(
            0x00082218,
            w.element(0x00080100, "SH", b"69536005")
            + w.element(0x00080102, "SH", b"SCT")
            + w.element(0x00080103, "SH", NAME[:15])
            + w.element(0x00080104, "LO", NAME),
        ),
    ),
    "a private code": (
        0x00082218,
        lambda w: w.sequence(
            0x00082218, w.element(0x00080100, "SH", NAME[:15]) + w.element(0x00080102, "SH", b"99NAME")
        ),
    ),
    "a group length": (0x00100000, lambda w: w.element(0x00100000, "UT", NAME)),
    "a retired comment": (0x00084000, lambda w: w.element(0x00084000, "LT", NAME)),
    "data set trailing padding": (0xFFFCFFFC, lambda w: w.element(0xFFFCFFFC, "OB", NAME)),
    "command group": (0x00000010, lambda w: w.element(0x00000010, "LO", NAME)),
    "meta group inside": (0x00020016, lambda w: w.element(0x00020016, "AE", NAME)),
    "directory group": (0x00041130, lambda w: w.element(0x00041130, "CS", NAME)),
    "an unknown even tag": (0x00410042, lambda w: w.element(0x00410042, "LO", NAME)),
    "letters where a histogram has numbers": (0x00603020, lambda w: w.element(0x00603020, "UL", NAME)),
    "letters in a vector of frames": (0x00540010, lambda w: w.element(0x00540010, "US", NAME)),
    "letters in a table of floats": (0x0018605A, lambda w: w.element(0x0018605A, "FL", NAME + b" " + NAME)),
    "letters in a list of tags": (0x00280009, lambda w: w.element(0x00280009, "AT", NAME)),
    "letters among pixel values": (0x00186058, lambda w: w.element(0x00186058, "UL", NUMBERS + NAME + b"\0")),
    "letters ahead of a vector": (0x00540020, lambda w: w.element(0x00540020, "US", NAME + b"\0" + NUMBERS)),
    "letters in numbers of two bytes": (
        0x00540080,
        lambda w: w.element(0x00540080, "US", struct.pack(f"{w.order}15H", *NAME) + bytes(2)),
    ),
    "letters in a vector of floats": (
        0x00186060,
        lambda w: w.element(0x00186060, "FL", NUMBERS + NAME + b"\0"),
    ),
    "two floats of letters": (0x00189098, lambda w: w.element(0x00189098, "FD", NAME + b"!")),
    "letters in a grid": (0x00640009, lambda w: w.element(0x00640009, "OF", bytes(48) + NAME + b"\0")),
    "letters in the transparency of a palette": (
        0x00281204,
        lambda w: w.element(0x00281204, "OW", NUMBERS + NAME + b"\0"),
    ),
    "letters in a segmented palette": (
        0x00281221,
        lambda w: w.element(0x00281221, "OW", NUMBERS + NAME + b"\0"),
    ),
    "extended offset table": (0x7FE00001, lambda w: w.element(0x7FE00001, "OV", NAME + b"\0")),
}


@pytest.mark.parametrize("profile", ["basic", "full-dates", "devices", "lenient"])
@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("place", ELEMENTS)
def test_elements(place, syntax, profile):
    tag, make = ELEMENTS[place]
    write = Writer(syntax)
    made = TestObject(write, extra={tag: make(write)})
    if (place, syntax) == ("meta group inside", IMPLICIT):  # which makes it part of the real one, and broken
        with pytest.raises(ObjectRefused):
            leaves(made, profile)
    else:
        assert_hidden_nowhere(made, profile)


@pytest.mark.parametrize("syntax", NATIVE)
def test_around_pixels(syntax):
    write = Writer(syntax)
    for made in (
        TestObject(write, pixels=write.element(0x7FE00010, "OW", bytes(32) + NAME)),
        TestObject(write, preamble=b"II*\0" + NAME.ljust(124)),
        TestObject(write, meta=Writer().element(0x00020102, "OB", NAME)),
        TestObject(write, behind=NAME),
        TestObject(write, behind=write.element(0x7FE10010, "LO", NAME)),
    ):
        assert_hidden_nowhere(made)


def test_behind_a_deflate_stream():
    made = TestObject(Writer(DEFLATED))
    data = made.file() + NAME
    output = deidentify(data, "", "", Context(b"k" * 32, Release("p", "basic", "v1"), POLICY))
    assert NAME not in bytes(output)


@pytest.mark.parametrize("bits", [1, 8, 12])
def test_overlays_in_unused_bits(bits):
    write = Writer()
    extra = {0x00280101: write.u16(0x00280101, bits), 0x00280102: write.u16(0x00280102, bits - 1)}
    pixels = b"".join(struct.pack("<H", 1 | bit << 14) for bit in (0, 1, 1, 0) * 4)
    with pytest.raises(ObjectRefused, match="bits"):
        leaves(TestObject(write, extra=extra, pixels=write.element(0x7FE00010, "OW", pixels)))


REFUSED = {
    "encapsulated PDF": b"1.2.840.10008.5.1.4.1.1.104.1",
    "encapsulated CDA": b"1.2.840.10008.5.1.4.1.1.104.2",
    "encapsulated STL, a face": b"1.2.840.10008.5.1.4.1.1.104.3",
    "raw data": b"1.2.840.10008.5.1.4.1.1.66",
    "report": b"1.2.840.10008.5.1.4.1.1.88.11",
    "presentation state": b"1.2.840.10008.5.1.4.1.1.11.1",
    "waveform": b"1.2.840.10008.5.1.4.1.1.9.1.2",
    "voice": b"1.2.840.10008.5.1.4.1.1.9.4.1",
    "video": b"1.2.840.10008.5.1.4.1.1.77.1.1.1",
    "a maker's own": b"1.2.840.113619.4.26",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_kinds_that_have_no_clean_form(kind):
    write = Writer()
    with pytest.raises(ObjectRefused):
        leaves(TestObject(write, extra={0x00080016: write.element(0x00080016, "UI", REFUSED[kind])}))


@pytest.mark.parametrize("number", [100, 101, 102, 103, 104, 105, 106, 107, 108, 110, 111, 112])
def test_video_and_streams_that_nobody_walks(number):
    write = Writer(f"1.2.840.10008.1.2.4.{number}")
    with pytest.raises(ObjectRefused, match="transfer syntax"):
        leaves(TestObject(write, pixels=write.fragments(NAME)))

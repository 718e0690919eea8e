"""Plants a canary in every place that identity could hide in, and looks for each in what leaves.

A canary is unique to its attribute and depth: a string, a date, a time, a UID or bytes that no object
has by itself. Objects are written byte by byte, so that nothing is too wrong to be planted.
"""

import io
import itertools
import re
from struct import pack

import pydicom
import pytest
from pydicom.datadict import DicomDictionary

from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, TestObject, Writer
from srm_plugin_dicom.deidentify import PROFILES, Context, PixelPolicy, deidentify, luts, tables

SYNTAXES = [EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN]
# Needed to be an image at all; canaries in them would be another object.
STRUCTURE = {0x00080016, 0x00080060, 0x00280301, 0x00080005}
NUMBERS = {"US", "SS", "UL", "SL", "FL", "FD", "UV", "SV", "AT", "OW", "OF", "OD", "OL", "OV"}
ITEM_PATH = (0x00081140, 0x0040A170, 0x00081140)  # sequences that are cleaned, not removed


def canary(vr, number):
    """Return a value that its representation allows and nothing else has."""
    if vr == "DA":
        return b"%08d" % (17010101 + number)
    if vr == "TM":
        return b"0717%02d.%06d" % (number % 60, 700000 + number)
    if vr == "DT":
        return b"%08d0717" % (17010101 + number)
    if vr == "UI":
        return b"1.2.999.7777.%d" % number
    if vr in ("DS", "IS"):
        return b"7077%07d" % number
    if vr == "AS":
        return b"%03dY" % (number % 1000)
    if vr == "CS":
        return b"CNRY%07dX" % number
    if vr in NUMBERS:
        return b"CNRY%011d;" % number
    return b"CANARY%07dX" % number


def findable(vr):
    """Tell whether a canary of this representation cannot occur by chance."""
    return vr != "AS"


class Planter:
    """Plants canaries and remembers them."""

    def __init__(self, syntax):
        self.write = Writer(syntax)
        self.planted = {}
        self._numbers = itertools.count(1)

    def element(self, tag, vr):
        value = canary(vr, next(self._numbers))
        if findable(vr):
            self.planted[value] = f"{tag:08X} {vr}"
        return self.write.element(tag, vr, value)

    def elements(self, attributes):
        return {tag: self.element(tag, vr) for tag, vr in sorted(attributes.items())}


def listed():
    """Return every attribute of table E.1-1 that a data set can have, with its representation."""
    found = {row.tag: row.vrs[0].decode() for row in tables.table() if row.tag >> 16 >= 8}
    found |= {0x50000010: "US", 0x50003000: "OW", 0x60003000: "OW", 0x60004000: "LT", 0x00091001: "LO"}
    return {tag: vr for tag, vr in found.items() if vr != "SQ" and tag not in STRUCTURE}


def unlisted():
    """Return every attribute of the dictionary that says something in text, a date or a UID."""
    known = {row.tag for row in tables.table()}
    return {
        tag: vr
        for tag, (vr, *_) in DicomDictionary.items()
        if tag not in known | STRUCTURE and tag >> 16 >= 8 and vr not in NUMBERS | {"SQ", "DS", "IS", "OB"}
        and " or " not in vr and tag < 0x7FE00010
    }  # fmt: skip


def leaks(planter, made, profile="basic", **policy):
    context = Context(b"k" * 32, Release("p", profile, "v1"), PixelPolicy(recognizable=True, **policy))
    output = deidentify(made.file(), "", "", context)
    data = bytes(output)
    pydicom.dcmread(io.BytesIO(data)).PixelData  # noqa: B018 - it must be readable
    places = (data, re.sub(rb"\0", b"", data), b"".join(output.parts[1:]))
    return [what for value, what in planter.planted.items() if any(value in place for place in places)]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_top_level_of_the_table(syntax):
    planter = Planter(syntax)
    planted = planter.elements(listed())
    assert len(planter.planted) > 500
    assert leaks(planter, TestObject(planter.write, extra=planted)) == []


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_three_levels_deep(syntax, undefined):
    planter = Planter(syntax)
    body = b""
    for tag in ITEM_PATH:
        planted = planter.elements(listed())
        planted[tag] = planter.write.sequence(tag, body, undefined=undefined)
        body = b"".join(encoded for _, encoded in sorted(planted.items()))
    made = TestObject(planter.write, extra={0x00081140: planter.write.sequence(0x00081140, body)})
    if syntax != DEFLATED:
        assert all(value in made.file() for value in planter.planted)
    assert leaks(planter, made) == []


@pytest.mark.parametrize("sequence", sorted(row.tag for row in tables.table() if row.vrs[0] == b"SQ"))
def test_inside_each_sequence_of_the_table(sequence):
    planter = Planter(EXPLICIT)
    body = b"".join(planter.elements(listed()).values())
    write = planter.write
    for encoded in (write.sequence(sequence, body), write.sequence(sequence, body, undefined=True)):
        assert leaks(planter, TestObject(write, extra={sequence: encoded})) == []


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_attributes_that_the_table_does_not_know(syntax):
    planter = Planter(syntax)
    planted = planter.elements(unlisted())
    assert len(planter.planted) > 1000
    assert leaks(planter, TestObject(planter.write, extra=planted)) == []


@pytest.mark.parametrize("vr", ["LO", "UN", "UT", "PN"])
def test_text_where_another_representation_belongs(vr):
    planter = Planter(EXPLICIT)
    structure = STRUCTURE | TestObject().elements().keys() | {0x00280008}
    if vr == "UN":
        structure |= luts.TAGS  # tables that do not fit their descriptors are refused
    tags = [tag for tag in DicomDictionary if 0x00080000 < tag < 0x7FE00000 and tag not in structure]
    planted = planter.elements(dict.fromkeys(tags, vr))
    for value in [value for value, what in planter.planted.items() if int(what[:8], 16) >> 16 < 8]:
        del planter.planted[value]
    kept_numbers = (
        {row.tag for row in tables.keep() if row.rule in ("binary", "bulk", "tag")} if vr == "UN" else set()
    )
    for value in [v for v, what in planter.planted.items() if int(what[:8], 16) in kept_numbers]:
        del planter.planted[value]  # bytes of unknown representation are the numbers that they should be
    assert leaks(planter, TestObject(planter.write, extra=planted)) == []


@pytest.mark.parametrize("undefined", [True, False])
def test_inside_unknown_representation(undefined):
    planter = Planter(IMPLICIT)
    body = b"".join(planter.elements(listed()).values())
    write = Writer(EXPLICIT)
    for tag in (0x00081140, 0x00400275, 0x00091010, 0x00081111):
        wrapped = planter.write.sequence(tag, body, undefined=undefined)[8:]
        element = write.element(tag, "UN", wrapped, 0xFFFFFFFF if undefined else None)
        assert leaks(planter, TestObject(write, extra={tag: element})) == []


def test_around_the_data_set():
    planter = Planter(EXPLICIT)
    write = planter.write
    made = TestObject(write)
    made.meta = b"".join(
        planter.element(tag, vr)
        for tag, vr in ((0x00020003, "UI"), (0x00020013, "SH"), (0x00020016, "AE"), (0x00020102, "OB"))
    )
    made.behind = b"".join(
        planter.element(tag, vr)
        for tag, vr in ((0x7FE10010, "LO"), (0xFFFAFFFA, "UN"), (0xFFFCFFFC, "OB"), (0x7FE20010, "OW"))
    )
    made.behind += b"CANARY GARBAGE"
    made.preamble = b"CANARY PREAMBLE".ljust(128)
    made.pixels = write.element(0x7FE00010, "OW", bytes(32) + b"CANARY BEHIND THE PIXELS")
    planter.planted |= dict.fromkeys((b"CANARY GARBAGE", b"CANARY PREAMBLE", b"CANARY BEHIND"), "around")
    assert leaks(planter, made) == []


@pytest.mark.parametrize("charset", [b"ISO_IR 192", b"GB18030", b"\\ISO 2022 IR 87", b"ISO_IR 144"])
def test_character_sets(charset):
    planter = Planter(EXPLICIT)
    planted = planter.elements(listed())
    planted[0x00080005] = planter.write.element(0x00080005, "CS", charset)
    for number, tag in enumerate((0x00100010, 0x00081010, 0x00180015, 0x00080008, 0x00200020)):
        value = f"Müller山田CANARY{number}".encode()
        planter.planted[value] = "text"
        planted[tag] = planter.write.element(tag, "LO", value)
    assert leaks(planter, TestObject(planter.write, extra=planted)) == []


def test_padding_and_reserved_bytes():
    write = Writer()
    planter = Planter(EXPLICIT)
    planter.planted = {b"CANARY": "padding", b"\xca\xfe": "reserved"}
    made = TestObject(
        extra={
            0x00180050: write.element(0x00180050, "DS", b"5.0\0CANARY"),
            0x00080008: write.element(0x00080008, "CS", b"ORIGINAL\\PRIMARY\0CANARY"),
            0x00080018: write.element(0x00080018, "UI", b"1.2.3\0CANARY"),
            0x00081140: write.sequence(0x00081140, b"").replace(b"SQ\0\0", b"SQ\xca\xfe"),
            0x00281101: write.element(0x00281101, "US", pack("<3H", 1, 0, 16)),
            0x00281201: write.element(0x00281201, "OW", b"ok").replace(b"OW\0\0", b"OW\xca\xfe"),
        }
    )
    assert leaks(planter, made) == []


@pytest.mark.parametrize("profile", PROFILES)
def test_options_retain_what_they_say_and_no_more(profile):
    planter = Planter(EXPLICIT)
    planted = planter.elements(listed())
    allowed = {
        f"{row.tag:08X}"
        for row in tables.table()
        if (row.options.get("full_dates") and profile == "full-dates")
        or (row.options.get("modified_dates") and row.vrs[0] == b"TM" and profile != "basic")
        or (row.options.get("patient") == "K" and profile in ("research", "devices"))
        or (row.options.get("device") == "K" and profile == "devices")
    }
    found = leaks(planter, TestObject(planter.write, extra=planted), profile)
    assert [what for what in found if what[:8] not in allowed] == []

"""Broken and hostile bytes: refused, never a crash, never an identity, never slow."""

import io
import time
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from srm_dicom.errors import ObjectRefused
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, TestObject, Writer
from srm_plugin_dicom.deidentify import Context, PixelPolicy, SiteProfile, Trust, deidentify
from srm_plugin_dicom.deidentify.options import Option

POLICY = PixelPolicy(clean=(Trust(""),), recognizable=True)
CONTEXT = Context(b"k" * 32, Release("p", "basic", "v1"), POLICY)
OPTIONS = (Option.MODIFIED_DATES, Option.PATIENT, Option.DESCRIPTORS, Option.STRUCTURED, Option.SAFE_PRIVATE)
SITE = SiteProfile("own", 1, (*OPTIONS, Option.GRAPHICS))
LENIENT = Context(b"k" * 32, Release("p", "own", SITE.version), POLICY, (SITE,))
NAMES = (
    *("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"),
    *("MR_small_implicit.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    *("rtdose.dcm", "SC_rgb_small_odd_jpeg.dcm", "image_dfl.dcm"),
)


SEEDS = sorted(Path(__file__).with_name("corpus").glob("*.dcm"))
"""Small objects, each with one thing that a walk can stumble over; the name says which."""


def corpus():
    real = [Path(get_testdata_file(name)).read_bytes() for name in NAMES]
    return real + [path.read_bytes() for path in SEEDS]


CORPUS = corpus()
SECRETS = (b"Mustermann", b"PID-0815-4711", b"CompressedSamples", b"1.2.3.4.5.6")


@st.composite
def mutated(draw):
    data = bytearray(draw(st.sampled_from(CORPUS)))
    head = min(len(data), 6000)
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, head - 1) if draw(st.booleans()) else st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(("set", "cut", "insert", "double", "delete")))
        if kind == "set":
            data[at : at + 1] = bytes((draw(st.integers(0, 255)),))
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=12))
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 200))]
        elif kind == "delete":
            del data[at : at + draw(st.integers(1, 40))]
        elif draw(st.integers(0, 9)) == 0:
            del data[max(at, 1) :]
        data = data or bytearray(1)
        head = min(len(data), 6000)
    return bytes(data)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated(), st.sampled_from((CONTEXT, LENIENT)))
def test_mutated_objects_leave_clean_or_not_at_all(data, context):
    try:
        output = deidentify(data, "", "", context)
    except ObjectRefused:
        return
    made = b"".join(output.parts[:2])
    assert not any(secret in made for secret in SECRETS)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from((EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)))
def test_arbitrary_bytes_are_refused(data, syntax):
    with pytest.raises(ObjectRefused):
        deidentify(data, syntax, "", CONTEXT)


FATES = {
    "cut_sequence": "well-formed",
    "item_outside": "well-formed",
    "lying_length": "too early",
    "too_deep": "deeply",
    "twice": "twice",
    "report": "reports",
}


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_seeds_leave_or_are_refused_for_what_they_are(path):
    if path.stem in FATES:
        with pytest.raises(ObjectRefused, match=FATES[path.stem]):
            deidentify(path.read_bytes(), "", "", CONTEXT)
    else:
        assert b"note" not in bytes(deidentify(path.read_bytes(), "", "", CONTEXT))


@pytest.mark.parametrize("data", CORPUS)
def test_every_truncation_is_refused_or_clean(data):
    for end in range(0, len(data), max(1, len(data) // 200)):
        try:
            output = deidentify(data[:end], "", "", CONTEXT)
        except ObjectRefused:
            continue
        pydicom.dcmread(io.BytesIO(bytes(output)))


def test_many_empty_items_do_not_take_long():
    write = Writer()
    wide = write.sequence(0x00081140, *([b""] * 40_000))
    started = time.perf_counter()
    deidentify(TestObject(extra={0x00081140: wide}).file(), "", "", CONTEXT)
    assert time.perf_counter() - started < 60

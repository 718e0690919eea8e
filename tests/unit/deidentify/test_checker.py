"""The independent check finds what a broken walk would let through."""

import ast
import inspect

import pytest

from srm_dicom.errors import ObjectRefused
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import EXPLICIT, TestObject, Writer
from srm_plugin_dicom.deidentify import Context, Deidentifier, checker, heads, likeness, originals
from srm_plugin_dicom.deidentify.checker import Checker
from srm_plugin_dicom.deidentify.profile import profile

WRITE = Writer()
ENGINE = Deidentifier(Context(b"k" * 32, Release("p", "basic", "v1")))
ORIGINAL = TestObject().data_set()
_, HEAD, *BULK = ENGINE.deidentify(TestObject().file()).parts


def check(head=HEAD, bulk=tuple(BULK), original=ORIGINAL):
    Checker(profile("basic")).check(bytes(head), list(bulk), EXPLICIT, original)


def test_what_the_walk_makes_passes():
    check()


@pytest.mark.parametrize("module", [checker, heads, likeness, originals])
def test_it_is_independent_of_the_walk(module):
    tree = ast.parse(inspect.getsource(module))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported.isdisjoint(
        f"srm_plugin_dicom.deidentify.{name}"
        for name in ("walk", "elements", "syntax", "values", "plan", "draft")
    )


def inserted(tag, element, head=HEAD):
    """Return the head with an element where its tag belongs."""
    at = 0
    while at < len(head):
        found, _, _, stop = checker._next(head, at, checker.LITTLE_EXPLICIT)
        if found >= tag:
            return head[:at] + element + (head[stop:] if found == tag else head[at:])
        at = stop
    return head + element


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00100010, "PN", b"Mustermann^Erika"),
        (0x00100020, "LO", b"PID-0815-4711"),
        (0x00104000, "LT", b"a note"),
        (0x00091001, "LO", b"private"),
        (0x00080000, "UL", bytes(4)),
        (0x0020000D, "UI", b"1.2.3.4.5"),
        (0x00180015, "CS", b"MUSTERMANN"),
        (0x00200013, "LO", b"1"),
        (0x00280010, "US", b"odd"),
        (0x60003000, "OW", b"overlay "),
        (0x00081140, "SQ", b"not items"),
    ],
)
def test_elements_that_may_not_leave(tag, vr, value):
    with pytest.raises(ObjectRefused, match="independent check"):
        check(inserted(tag, WRITE.element(tag, vr, value)))


def test_undefined_lengths_and_disorder_are_found():
    plain = WRITE.element(0x00081155, "UI", b"2.25.1")
    with pytest.raises(ObjectRefused):
        check(inserted(0x00081140, WRITE.sequence(0x00081140, plain, undefined=True)))
    with pytest.raises(ObjectRefused):
        check(HEAD + HEAD)
    with pytest.raises(ObjectRefused):
        check(HEAD[:-1])


def test_an_original_that_looks_keyed_is_found():
    original = TestObject(extra={0x0020000D: WRITE.element(0x0020000D, "UI", b"2.25.123456789")}).data_set()
    head = inserted(0x0020000D, WRITE.element(0x0020000D, "UI", b"2.25.123456789"))
    check(head)
    with pytest.raises(ObjectRefused, match="identifying"):
        check(head, original=original)


def test_a_patient_number_in_a_number_is_found():
    original = TestObject(extra={0x00100020: WRITE.element(0x00100020, "LO", b"0815471112")}).data_set()
    with pytest.raises(ObjectRefused, match="identifying"):
        check(inserted(0x00200011, WRITE.element(0x00200011, "IS", b"0815471112")), original=original)


def test_pixel_data_are_what_they_say():
    for bulk in (BULK[:-2], [*BULK, b"more than the header says"], [b"\0" * 12, *BULK[1:]]):
        with pytest.raises(ObjectRefused):
            check(bulk=bulk)


@pytest.mark.parametrize(
    ("value", "passes"),
    [
        (b"045Y", True),
        (b"089Y\\090Y ", True),
        (b"012M", True),
        (b"", True),
        (b"095Y", False),
        (b" 095Y ", False),
        (b"045Y\\095Y ", False),
        (b"Doe ", False),
    ],
)
def test_great_ages_are_found(value, passes):
    context = Context(b"k" * 32, Release("p", "research", "v1"))
    _, head, *_ = Deidentifier(context).deidentify(TestObject().file()).parts
    made = inserted(0x00101010, WRITE.element(0x00101010, "AS", value), bytes(head))
    research = Checker(profile("research"))
    if passes:
        research.check(made, BULK, EXPLICIT, b"")
    else:
        with pytest.raises(ObjectRefused, match="not a result 00101010"):
            research.check(made, BULK, EXPLICIT, b"")

"""What is learnt from headers changes nothing but the time: bytes, reports and refusals stay the same."""

import random
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from srm_dicom.errors import ObjectRefused
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import BIG_ENDIAN, EXPLICIT, IMPLICIT, RLE, TestObject, Writer
from srm_plugin_dicom.deidentify import (
    Context,
    Deidentifier,
    PixelPolicy,
    SiteProfile,
    Trust,
    current_version,
    part10,
)
from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify.checker import Checker
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.heads import Found, Heads
from srm_plugin_dicom.deidentify.likeness import Likeness
from srm_plugin_dicom.deidentify.options import Option
from srm_plugin_dicom.deidentify.originals import LITTLE_EXPLICIT, Originals, originals
from srm_plugin_dicom.deidentify.profile import profile
from srm_plugin_dicom.deidentify.reasons import Reason
from srm_plugin_dicom.deidentify.series import Received

OPTIONS = (Option.MODIFIED_DATES, Option.PATIENT, Option.DEVICE, Option.DESCRIPTORS, Option.SAFE_PRIVATE)
SITE = (SiteProfile("own", 1, OPTIONS), SiteProfile("keep-uids", 1, (Option.UIDS,)))
RLE_FRAME = struct.pack("<16L", 2, 64, 82, *([0] * 13)) + (b"\x0f" + bytes(16) + b"\0") * 2


def engine(name="basic", **policy):
    policy = PixelPolicy(**{"clean": (Trust(""),)} | policy)
    return Deidentifier(Context(b"k" * 32, Release("p", name, current_version(name, SITE)), policy, SITE))


def result(using, data, *more):
    """Return everything that is to be seen of an object's fate."""
    try:
        output = using.deidentify(data, *more)
    except ObjectRefused as error:
        return error.message
    return bytes(output), output.report.as_json()


def image(number, write, **pixels):
    """Return a slice of a series: values, lengths and a sequence differ from the others'."""
    reference = write.element(0x00081155, "UI", b"1.2.3.%d" % (number * number))
    extra = {
        0x00080018: write.element(0x00080018, "UI", b"1.2.3.4.5.%d" % number),
        0x00080020: write.element(0x00080020, "DA", b"20040119"),
        0x00081140: write.sequence(0x00081140, reference, undefined=number % 3 == 0),
        0x00190010: write.element(0x00190010, "LO", b"SIEMENS MR HEADER"),
        0x0019100C: write.element(0x0019100C, "IS", b"%d" % (number * 100)),
        0x00200013: write.element(0x00200013, "IS", b"%d" % number),
        0x00200032: write.element(0x00200032, "DS", b"-125.123456\\0\\%d.25" % number),
        0x00204000: write.element(0x00204000, "LT", b"slice %d of Erika Mustermann" % number),
    }
    return TestObject(write, extra=extra, **pixels)


@pytest.mark.parametrize("name", ["basic", "devices", "own"])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, RLE])
def test_slices_of_a_series_become_what_each_becomes_alone(syntax, name):
    write = Writer(syntax)
    pixels = {"pixels": write.fragments(RLE_FRAME)} if syntax == RLE else {}
    warm = engine(name)
    for number in (*range(1, 30), 100, 9999, 3, 7):
        made = image(number, write, **pixels)
        for data, more in ((made.file(), ()), (bytearray(made.data_set()), (syntax,))):
            fate = result(warm, data, *more)
            assert not isinstance(fate, str)
            assert fate == result(engine(name), data, *more)


@pytest.mark.parametrize("name", ["basic", "devices", "full-dates", "own"])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_patient_gets_nothing_of_the_one_before(syntax, name):
    """The dates are the same, and go back by days that are not; what is next begins like a series before."""
    write = Writer(syntax)
    warm = engine(name)
    for number in range(24):
        made = image(number % 8 + 1, write)
        made.extra[0x00100020] = write.element(0x00100020, "LO", b"PID-%d" % (number // 4 % 3))
        made.extra[0x00080012] = write.element(0x00080012, "DA", b"2004011%d" % (number // 8))
        assert result(warm, made.file()) == result(engine(name), made.file())
    assert len(warm._drafter._learnt._kinds) == 1


NAMES = {0x00080016: "1.2.840.10008.5.1.4.1.1.2", 0x0020000E: "1.2.3.4.6", 0x0020000D: "1.2.3.4.7"}


def named(number, write):
    """Return an object, and which one it is; some have one name of several values."""
    made = image(number, write)
    made.extra |= {tag: write.element(tag, "UI", name.encode()) for tag, name in NAMES.items()}
    return made, (NAMES[0x00080016], f"1.2.3.4.5.{number}", NAMES[0x0020000E], NAMES[0x0020000D])


@pytest.mark.parametrize("name", ["basic", "keep-uids"])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_another_object_is_known_by_any_of_its_names_however_much_is_learnt(syntax, name):
    """What was learnt has the names of others, in places that are all alike and in some that differ."""
    write = Writer(syntax)
    warm = engine(name)
    for number in range(1, 20):
        made, names = named(number, write)
        for tag, vr in ((0x0020000E, 2), (0x0020000D, 3)) if number % 3 == 0 else ():
            other = f"{names[vr]}.{number}"
            made.extra[tag] = write.element(tag, "UI", other.encode())
            names = (*names[:vr], other, *names[vr + 1 :])
        assert result(warm, made.data_set(), syntax, *names) == result(engine(name), made.data_set(), syntax)
        assert result(warm, made.data_set(), syntax, "", *names[1:3]) == result(warm, made.data_set(), syntax)
        for place in range(4):
            for wrong in (f"{names[place]}1", names[place][:-1]):
                others = (*names[:place], wrong, *names[place + 1 :])
                assert result(warm, made.data_set(), syntax, *others) == Reason.ANOTHER.value


def test_a_known_header_is_not_read_again(monkeypatch):
    warm = engine()
    for number in range(1, 14):
        warm.deidentify(image(number * 3, Writer()).file())
    made = image(7 * 3, Writer())
    made.extra[0x00100020] = made.writer.element(0x00100020, "LO", b"PID-0815-4712")
    warm.deidentify(made.file())
    made.extra[0x00100020] = made.writer.element(0x00100020, "LO", b"PID-0815-471200")
    fate = result(engine(), made.file())
    monkeypatch.setattr(part10, "open_object", None)
    warm.deidentify(image(7 * 3, Writer()).file())
    assert result(warm, made.file()) == fate  # nor is that of one more patient
    made.extra[0x00180015] = made.writer.element(0x00180015, "CS", b"KNEE")
    with pytest.raises(TypeError):  # another part of the body is another matter
        warm.deidentify(made.file())


SAID = {
    "CS": (b"CT", b"MR", b"US", b"NO", b"YES", b"HEAD", b"CHEST", b"DRW", b"LABEL", b"RGB", b"ISO_IR 100"),
    "LO": (b"PID-1", b"PID-2", b"Maker", b"US head", b"Knee"),
    "UI": (b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.5.1.4.1.1.6.1", b"1.2.840.10008.5.1.4.1.1.88.11"),
    "US": (*(bytes((number, 0)) for number in (1, 2, 3, 4, 8, 11, 12, 16)), b"\0\x80"),
    "DS": (b"1", b"5", b"7.5"),
}


@pytest.mark.parametrize("vr", SAID)
@pytest.mark.parametrize("tag", sorted(f.DECIDING - {0x7FE00010}))
def test_what_decides_about_an_object_is_never_taken_from_another(tag, vr):
    """The values come one after the other, so that a plan could learn that they differ."""
    write = Writer()
    warm = engine(trusted=(Trust("Maker"),))
    for number, value in enumerate(SAID[vr], 1):
        made = image(number, write)
        made.extra |= {0x00180015: write.element(0x00180015, "CS", b"")} if number % 2 else {}
        made.extra[tag] = write.element(tag, vr, value)
        assert result(warm, made.file()) == result(engine(trusted=(Trust("Maker"),)), made.file())


def test_a_head_is_seen_in_a_value_that_differs():
    warm = engine()
    for number in (1, 2, 3, 4):
        made = image(number, Writer())
        made.extra[0x00204000] = made.writer.element(0x00204000, "LT", b"code %d6953600" % number)
        warm.deidentify(made.file())
    made.extra[0x00204000] = made.writer.element(0x00204000, "LT", b"code 69536005!")
    assert "face" in result(warm, made.file())


def test_a_data_set_that_turns_into_a_file_is_one():
    """Four letters at one place make a preamble of what was values before."""
    warm, write = engine(), Writer()

    def made(text):
        extra = {0x00080080: write.element(0x00080080, "LO", text)}
        return TestObject(write, extra=extra).data_set()

    at = 128 - made(b"M" * 32).index(b"M" * 32)
    assert 0 < at < 28
    for number in range(4):
        warm.deidentify(made(b"%032d" % number), EXPLICIT)
    data = made((b"." * at + b"DICM").ljust(32, b"."))
    assert result(warm, data, EXPLICIT) == result(engine(), data, EXPLICIT)
    assert isinstance(result(warm, data, EXPLICIT), str)


def test_each_maker_reserves_a_block_of_private_attributes_for_itself():
    """One de-identifier gets objects of two, whose creators and numbers have the same tags."""
    warm, write = engine("own"), Writer()
    for number in range(1, 9):
        made = image(number, write)
        if number % 2:
            made.extra[0x00190010] = write.element(0x00190010, "LO", b"GEMS_ACQU_01")
            made.extra[0x00191027] = write.element(0x00191027, "DS", b"1.%d" % number)
            del made.extra[0x0019100C]
        fate = result(warm, made.file())
        assert fate == result(engine("own"), made.file())
        assert (b"GEMS_ACQU_01" if number % 2 else b"SIEMENS MR HEADER") in fate[0]


def test_an_object_that_is_not_what_was_announced():
    warm = engine()
    for number in (1, 2, 3, 4):
        warm.deidentify(image(number, Writer()).file(), "", "1.2.840.10008.5.1.4.1.1.2")
    other = image(5, Writer()).file(), "", "1.2.840.10008.5.1.4.1.1.4"
    assert result(warm, *other) == result(engine(), *other)
    assert isinstance(result(warm, *other), str)


def test_the_check_gets_the_whole_input_and_no_more():
    warm = engine()
    for number in (1, 20, 300, 4000):
        made = image(number, Writer())
        made.meta = made.writer.element(0x00020003, "UI", b"1.2.3.4.5.%d" % number)
        received = Received(made.file())
        assert warm._drafter.draft(received).original == engine()._drafter.draft(received).original


def test_every_attribute_that_decides_is_among_those_that_must_be_equal(monkeypatch):
    asked = set()
    for name in ("raw", "u16"):
        plain = getattr(Facts, name)

        def noted(self, tag, *more, plain=plain):
            asked.add(tag)
            return plain(self, tag, *more)

        monkeypatch.setattr(Facts, name, noted)
    for modality in (b"CT", b"MR", b"US", b"OT"):
        for syntax in (EXPLICIT, RLE):
            write = Writer(syntax)
            made = image(1, write, **({"pixels": write.fragments(RLE_FRAME)} if syntax == RLE else {}))
            made.extra[0x00080060] = write.element(0x00080060, "CS", modality)
            for recognizable in (False, True):
                result(engine(recognizable=recognizable), made.file())
    assert asked - f.DECIDING == set(f.NAMES) - f.DECIDING, "but which object it is, of each by itself"


def mutated(data, seed, start=0):
    """Return bytes with a few of them changed, cut out or doubled."""
    chance = random.Random(seed)
    data = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(start, len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.choice(b"\0\1\2 10\xff\x08\x10" + bytes((chance.randrange(256),)))
            case 1:
                del data[at : at + chance.choice((1, 2, 8))]
            case 2:
                data[at:at] = data[at : at + chance.choice((2, 8, 20))]
            case _:
                data[at:at] = chance.choice((b"69536005", b"DICM", b"\x10\0\x10\0PN\x08\0Quixote ", b"US"))
    return bytes(data)


BASES = [image(number, Writer(syntax)).file() for syntax in (EXPLICIT, IMPLICIT) for number in (3, 4, 5)]


@pytest.mark.parametrize("name", ["basic", "own"])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1 << 30), min_size=1, max_size=6))
def test_broken_and_hostile_headers_fare_as_if_nothing_was_known(name, seeds):
    warm = engine(name)
    for data in BASES:
        warm.deidentify(data)
    for seed in seeds:
        data = mutated(BASES[seed % len(BASES)], seed, 128 if seed % 2 else 0)
        assert result(warm, data) == result(engine(name), data)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_real_slices(name):
    with open(get_testdata_file(name), "rb") as file:  # noqa: PTH123
        data = file.read()
    warm = engine(recognizable=True)
    for seed in range(60):
        changed = mutated(data[:4000], seed, 300) + data[4000:]
        assert result(warm, changed) == result(engine(recognizable=True), changed)


# --- the check -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1 << 30), min_size=1, max_size=8))
@example([23660398, 0, 0])
def test_values_of_an_input_are_found_whatever_was_searched_before(seeds):
    search = Originals({})
    for number in range(20, 60, 2):  # enough that the next is of another series
        search.of(image(number, Writer()).data_set()[:-44], LITTLE_EXPLICIT)
    base = image(3, Writer()).data_set()[:-44]
    for seed in seeds:
        data = mutated(mutated(base, seed), seed + 1) if seed % 3 else base
        assert search.of(data, LITTLE_EXPLICIT) >= originals(data, LITTLE_EXPLICIT)


@pytest.mark.parametrize("before", [b"", b"\x10\0", b"\x10\0\x10\0", b"\x10\0\x10"])
def test_bytes_before_a_tag_do_not_hide_it(before):
    element = Writer().element(0x00100010, "PN", b"Mustermann^Erika")
    assert b"Mustermann^Erika" in originals(before + element, LITTLE_EXPLICIT)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_what_is_alike_is_made_of_the_same_runs(one, two):
    model = image(3, Writer()).data_set()
    likeness = Likeness.of(model).narrowed(mutated(model, one))
    if likeness is None:
        return
    if two % 2:
        model = mutated(model, two)
        likeness = likeness.carried(model)
    for data in (model, mutated(model, one), mutated(model, two)):
        places = likeness.places(data)
        if places is None:
            continue
        ends = [place + stop - start for place, (start, stop) in zip(places, likeness.runs, strict=True)]
        assert (places[0], ends[-1]) == (0, len(data))
        assert all(end <= place for end, place in zip(ends, places[1:], strict=False))
        for place, end, (start, stop) in zip(places, ends, likeness.runs, strict=True):
            assert data[place:end] == model[start:stop]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1 << 30))
def test_a_check_that_knows_heads_is_as_strict_as_one_that_does_not(seed):
    warm, heads = Checker(profile("basic")), []
    for number in (3, 4, 5, 6):
        head = bytes(engine().deidentify(image(number, Writer()).file()).parts[1])
        warm.check(head, [], EXPLICIT, b"")
        heads.append(head)
    wrong = mutated(heads[seed % len(heads)], seed)
    fates = []
    for checker in (warm, Checker(profile("basic"))):
        try:
            fates.append(checker.check(wrong, [], EXPLICIT, b""))
        except ObjectRefused as error:
            fates.append(error.message)
    assert fates[0] == fates[1]


def test_runs_do_not_overlap():
    likeness = Likeness(b"x" * 100, ((0, 40), (60, 100)))
    assert likeness.places(b"x" * 100) == [0, 60]
    assert likeness.places(b"x" * 80) == [0, 40]
    assert likeness.places(b"x" * 79) is None


def head_with(number=b"1 ", uid=b"2.25.10", position=b"-1.5\\0\\12", rows=b"\4\0", more=b""):
    write = Writer()
    elements = (
        write.element(0x00080018, "UI", uid),
        write.element(0x00080060, "CS", b"CT"),
        write.element(0x00200013, "IS", number),
        more,
        write.element(0x00200032, "DS", position),
        write.element(0x00280010, "US", rows),
    )
    return b"".join(elements)


def checker_that_knows_heads():
    checker = Checker(profile("basic"))
    for number in range(10, 20):
        made = head_with(b"%d" % number, b"2.25.%d" % number, b"-1.5\\0\\%d" % number, bytes((number, 0)))
        checker.check(made, [], EXPLICIT, b"")
    heads = checker._memory[LITTLE_EXPLICIT].heads
    assert heads.like(made)
    assert {each.tag for each in heads.like(made).others} == {0x00080018, 0x00280010}
    return checker


def test_values_in_which_known_heads_differ_are_checked():
    checker = checker_that_knows_heads()
    checker.check(head_with(b"77", b"2.25.88", b"+2.5\\7\\99", b"\7\7"), [], EXPLICIT, b"")
    twice = Writer().element(0x00200013, "IS", b"12")
    for wrong in (
        *(
            head_with(number=b"A1"),
            head_with(number=b"1\n"),
            head_with(uid=b"1.2.333"),
            head_with(more=twice),
        ),
        *(
            head_with(position=b"Erika Muste"),
            head_with(rows=bytes(4)),
            head_with()[:-1],
            head_with() + b"\0",
        ),
    ):
        for each in (checker, Checker(profile("basic"))):
            with pytest.raises(ObjectRefused, match="independent check"):
                each.check(wrong, [], EXPLICIT, b"")


def test_a_known_head_is_told_whatever_its_lengths():
    checker = checker_that_knows_heads()
    heads = checker._memory[LITTLE_EXPLICIT].heads
    longer = head_with(b"7700", b"2.25.88888", b"+2.5\\7\\9999")
    assert heads.like(longer)
    checker.check(longer, [], EXPLICIT, b"")
    odd = longer.replace(b"IS\4\x007700", b"IS\3\x00770")
    assert len(odd) == len(longer) - 1
    for cut in range(1, len(longer)):
        assert heads.like(longer[:cut]) is None
    for wrong in (odd, longer.replace(b"IS\4\0", b"IS\xff\xff"), longer.replace(b"IS\4\0", b"IS\6\0")):
        assert heads.like(wrong) is None
        for each in (checker, Checker(profile("basic"))):
            with pytest.raises(ObjectRefused, match="independent check"):
                each.check(wrong, [], EXPLICIT, b"")


@pytest.mark.parametrize("position", [b"08154711\\0\\1", b"1\\08154711\\0"])
def test_a_patient_number_is_found_where_known_heads_differ(position):
    original = TestObject(extra={0x00100020: Writer().element(0x00100020, "LO", b"08154711")}).data_set()
    checker = checker_that_knows_heads()
    for _ in range(3):
        checker.check(head_with(position=position), [], EXPLICIT, b"")
        with pytest.raises(ObjectRefused, match="identifying"):
            checker.check(head_with(position=position), [], EXPLICIT, original)


def test_what_is_remembered_of_heads_is_bounded():
    heads = Heads(LITTLE_EXPLICIT)
    for number in range(1, 3000):
        made = Writer().element(0x00080018, "UI", b"2.25.%d" % number + b"1" * (2 * number % 300))
        more = Writer().element(0x00080060, "CS", b"%d " % (number // 20 % 60 + 20))
        found = [Found(0x00080018, b"UI", 0, 8, len(made), ())]
        found.append(Found(0x00080060, b"CS", len(made), len(made) + 8, len(made) + len(more), ()))
        if not heads.like(made + more):
            heads.learn(made + more, found, bool)
    assert len(heads._kinds) == 32
    assert len(heads._layouts) <= 32
    assert max(map(len, heads._layouts.values())) <= 16


def test_what_is_remembered_of_patients_is_bounded():
    warm, write = engine("devices"), Writer()
    for number in range(1, 100):
        made = image(number, write)
        made.extra[0x00100020] = write.element(0x00100020, "LO", b"PID-%d" % (number // 2))
        made.extra[0x00081140] = write.sequence(
            0x00081140, write.element(0x00081155, "UI", b"1.2.%d" % number)
        )
        assert result(warm, made.file()) == result(engine("devices"), made.file())
    (kind,) = warm._drafter._learnt._kinds
    assert 1 < len(kind.verdicts) <= 32


def test_plans_of_many_lengths_are_bounded():
    warm = engine()
    for number in range(1, 40):
        made = image(3 * number + 1, Writer())
        made.extra[0x00200032] = made.writer.element(0x00200032, "DS", b"1" * (number % 31))
        assert result(warm, made.file()) == result(engine(), made.file())
    (kind,) = warm._drafter._learnt._kinds
    assert 1 < len(kind.plan._layouts) <= 64
    assert max(map(len, kind.plan._layouts.values())) <= 8


def test_objects_of_many_threads_become_what_they_become_alone():
    warm, write = engine("devices"), Writer()
    files = [image(number, write).file() for number in range(1, 60)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: result(warm, data), files * 2))
    assert found == [result(engine("devices"), data) for data in files] * 2

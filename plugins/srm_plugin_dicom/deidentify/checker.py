"""Walks what is about to leave once more, with a parser of its own, and refuses on any finding.

It trusts nothing of the walk: it reads the output's bytes and the input's bytes, and shares with the
walk only the tables and the profile. Every element must stand on the keep list or carry the result of
its action, in canonical form; no identifying value of the input may stand in the output.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from struct import Struct
from typing import NamedTuple

from srm_plugin_dicom.deidentify import tables
from srm_plugin_dicom.deidentify.options import Option
from srm_plugin_dicom.deidentify.profile import Action, Profile, Rule
from srm_plugin_dicom.deidentify.reasons import Reason, refused

_BIG_ENDIAN, _IMPLICIT = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_STATED = frozenset((0x00120062, 0x00120063, 0x00120064, 0x00280303))
_PIXELS = range(0x7FE00008, 0x7FE00011)
_ITEM, _PAD = 0xFFFEE000, b" \0"
_PSEUDONYM = re.compile(rb"[a-z2-7]{16}")
_DUMMIES = frozenset(
    (b"19110803", b"031459", b"19110803031459", b"111Y", b"SRMD-REMOVED", bytes(2), bytes(4), bytes(8))
)
_NUMBERS = re.compile(rb"[0-9+\-.eE \\]*")
_GRAMMATICAL, _NOTHING = re.compile(rb"[A-Za-z0-9*_-]{1,20}"), re.compile(rb"(?!)")
_WITH_GRAMMAR = ("kernel", "sequence")
_PLAIN = re.compile(rb"[ -~]*\0?")
_KEYED = b"2.25."
_WIDTHS = dict.fromkeys((b"US", b"SS", b"OW"), 2) | dict.fromkeys((b"FD", b"OD", b"OV", b"UV", b"SV"), 8)
_WIDTHS |= dict.fromkeys((b"AT", b"UL", b"SL", b"FL", b"OF", b"OL"), 4) | {b"OB": 1}
_NAME_PARTS = re.compile(rb"[\^= ]")
_IDENTIFYING = (
    *(0x00080018, 0x0020000D, 0x0020000E, 0x00200052, 0x00080050, 0x00080080, 0x00080081, 0x00080090),
    *(0x00080092, 0x00080094, 0x00081010, 0x00081040, 0x00081048, 0x00081050, 0x00081060, 0x00081070),
    *(0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00101000, 0x00101001, 0x00101005, 0x00101040),
    *(0x00101060, 0x00101090, 0x00102154, 0x00104000, 0x00200010, 0x00321032, 0x00380010, 0x0040A123),
)
_NAMES = frozenset((0x00080090, 0x00081048, 0x00081050, 0x00081060, 0x00081070, 0x00100010, 0x00101001))
_SHORTEST_VALUE, _SHORTEST_PART, _SURE = 6, 5, 8
_LONGEST_VALUE, _MOST_VALUES = 512, 256


class _Codec(NamedTuple):
    explicit: Struct | None
    implicit: Struct
    tag: Struct
    u16: Struct
    u32: Struct


def _codec(order: str, *, explicit: bool) -> _Codec:
    return _Codec(
        Struct(order + "HH2sH") if explicit else None,
        Struct(order + "HHL"),
        Struct(order + "HH"),
        Struct(order + "H"),
        Struct(order + "L"),
    )


_LITTLE_EXPLICIT = _codec("<", explicit=True)
_CODECS = {_BIG_ENDIAN: _codec(">", explicit=True), _IMPLICIT: _codec("<", explicit=False)}


class _Room(NamedTuple):
    """Where an original could still stand: values whose rule leaves room for one.

    Elsewhere it cannot: there are only public words, binary numbers, keyed names and dates that the
    profile keeps, which may coincide with an original and tell nothing.
    """

    uids: frozenset[bytes] = frozenset()
    numbers: frozenset[bytes] = frozenset()
    texts: tuple[bytes, ...] = ()


class Checker:
    """Checks outputs of one profile; elements that passed are remembered by their bytes, within a bound."""

    def __init__(self, profile: Profile, *, remembered: int = 50_000) -> None:
        self._rules = profile.rules
        self._safe = Option.SAFE_PRIVATE in profile.options
        self._identifying = tuple(tag for tag in _IDENTIFYING if not _is_retained(profile.rules.get(tag)))
        self._remembered = remembered
        self._passed: dict[_Codec, dict[bytes, tuple[_Room, ...]]] = {}

    def check(
        self,
        head: bytes,
        bulk: Sequence[bytes | memoryview],
        syntax: str,
        original: bytes,
        source: str = "",
    ) -> None:
        """Refuse a data set that should not leave.

        Args:
            head: the data set up to its pixel data, as it is about to leave.
            bulk: pixel data in parts, each frame's or the element's header a part of its own.
            syntax: transfer syntax of what leaves.
            original: the input's data set up to its pixel data.
            source: transfer syntax of the input; empty if it is the same.

        Raises:
            ObjectRefused: a finding; the message names its kind, never a value.
        """
        codec = _CODECS.get(syntax, _LITTLE_EXPLICIT)
        passed = self._passed.setdefault(codec, {})
        if len(passed) > self._remembered:
            passed.clear()
        try:
            room = self._level(head, 0, len(head), codec, passed)
            _check_bulk(bulk, codec)
        except struct.error:
            raise refused(Reason.CHECK, "cut") from None
        codec = _CODECS.get(source, _LITTLE_EXPLICIT) if source else codec
        _check_originals(room, originals(original, codec, self._identifying))

    def _level(
        self, data: bytes, at: int, end: int, codec: _Codec, passed: dict[bytes, tuple[_Room, ...]]
    ) -> list[_Room]:
        """Check the elements of one level; returns where there is room for an original."""
        before = -1
        rooms: list[_Room] = []
        creators: dict[int, bytes] = {}
        while at < end:
            tag, vr, value, stop = _next(data, at, codec)
            if tag <= before or stop > end:
                raise refused(Reason.CHECK, "order")
            encoded = data[at:stop]
            room = passed.get(encoded)
            if tag & 0x10000:
                self._private(tag, vr, data[value:stop], creators)
                room = ()
            elif room is None:
                room = self._element(tag, vr, data, value, stop, codec, passed)
                if stop - at <= _LONGEST_VALUE:
                    passed[encoded] = room
            if room:
                rooms += room
            before, at = tag, stop
        return rooms

    def _private(self, tag: int, vr: bytes, value: bytes, creators: dict[int, bytes]) -> None:
        """Check a private attribute: a number of the standard's list, after the creator that reserved it."""
        group, low = tag >> 16, tag & 0xFFFF
        if self._safe and low <= 0xFF:
            creators[group << 16 | low << 8] = value.rstrip(_PAD)
            if any(value.rstrip(_PAD) == creator for _, creator in tables.safe_private()):
                return
        row = tables.safe_private().get((group << 8 | low & 0xFF, creators.get(tag & ~0xFF, b"")))
        if not self._safe or row is None or (vr and vr not in row.vrs):
            raise refused(Reason.CHECK, f"private {tag:08X}")
        size = _WIDTHS.get(row.vrs[0], 1)
        if not _NUMBERS.fullmatch(value) if row.rule == "number" else len(value) % size:
            raise refused(Reason.CHECK, f"not a result {tag:08X}")

    def _element(
        self,
        tag: int,
        vr: bytes,
        data: bytes,
        value: int,
        stop: int,
        codec: _Codec,
        passed: dict[bytes, tuple[_Room, ...]],
    ) -> tuple[_Room, ...]:
        rule = self._rules.get(tag)
        if tag in _STATED:
            if not _plain_or_items(data[value:stop], vr):
                raise refused(Reason.CHECK, "statement")
            return ()
        if rule is None or (vr and vr not in rule.vrs):
            raise refused(Reason.CHECK, f"not allowed {tag:08X}")
        if rule.vrs[0] == b"SQ":
            return self._sequence(rule, data, value, stop, codec, passed)
        if not _is_result(rule, vr or rule.vrs[0], data[value:stop]):
            raise refused(Reason.CHECK, f"not a result {tag:08X}")
        return _room(rule, data[value:stop])

    def _sequence(
        self,
        rule: Rule,
        data: bytes,
        at: int,
        stop: int,
        codec: _Codec,
        passed: dict[bytes, tuple[_Room, ...]],
    ) -> tuple[_Room, ...]:
        if at < stop and rule.action is not Action.ITEMS:
            raise refused(Reason.CHECK, f"not a result {rule.tag:08X}")
        rooms: list[_Room] = []
        while at < stop:
            group, element, length = codec.implicit.unpack_from(data, at)
            at += 8
            if group << 16 | element != _ITEM or at + length > stop:
                raise refused(Reason.CHECK, "item")
            rooms += self._level(data, at, at + length, codec, passed)
            at += length
        return tuple(rooms)


def _is_retained(rule: Rule | None) -> bool:
    """Tell whether an option of the profile is to keep this attribute."""
    return rule is not None and rule.check in ("name", "kept")


def _room(rule: Rule, value: bytes) -> tuple[_Room, ...]:
    parts = frozenset(part.strip(_PAD) for part in value.split(b"\\"))
    if rule.action is Action.UID:
        foreign = parts - tables.registered_uids()
        return (_Room(uids=foreign),) if foreign and rule.check != "kept" else ()
    if rule.check == "number":
        long = frozenset(part for part in parts if len(part) >= _SURE)
        return (_Room(numbers=long),) if long else ()
    return (_Room(texts=(value,)),) if rule.check in ("name", "descriptor") else ()


def _check_originals(rooms: Iterable[_Room], found: set[bytes]) -> None:
    for room in rooms:
        if (
            not found.isdisjoint(room.uids)
            or not found.isdisjoint(room.numbers)
            or any(original in text for text in room.texts for original in found)
        ):
            raise refused(Reason.CHECK, "an identifying value")


def _is_result(rule: Rule, vr: bytes, value: bytes) -> bool:
    """Tell whether a value can be what the rule's action, or its fall-back, makes."""
    if len(value) & 1:
        return False
    return any(_made_by(action, rule, vr, value) for action in (rule.action, rule.otherwise))


def _next(data: bytes, at: int, codec: _Codec) -> tuple[int, bytes, int, int]:
    """Return tag, representation and the bounds of a value, of an element in canonical form."""
    if codec.explicit is None:
        group, element, length = codec.implicit.unpack_from(data, at)
        vr, value = b"", at + 8
    else:
        group, element, vr, length = codec.explicit.unpack_from(data, at)
        value = at + 8
        if vr not in _SHORT:
            if length or vr not in _LONG:
                raise refused(Reason.CHECK, "representation")
            (length,) = codec.u32.unpack_from(data, value)
            value += 4
    if not element:
        raise refused(Reason.CHECK, "group length")
    return group << 16 | element, vr, value, value + length


def _made_by(action: Action, rule: Rule, vr: bytes, value: bytes) -> bool:
    """Tell whether a value can be what an action made."""
    if action in (Action.EMPTY, Action.CONCEPT, Action.DROP) and not value:
        return True
    if action in (Action.CLEAN, Action.SHIFT):
        return _may_stay(rule, vr, value)
    if action is Action.UID:
        return rule.check == "kept" or all(map(_is_clean_uid, value.rstrip(_PAD).split(b"\\")))
    if action is Action.DUMMY:
        return value in _DUMMIES or value.rstrip(_PAD) in _DUMMIES
    pattern = {Action.PSEUDONYM: _PSEUDONYM, Action.CONCEPT: _PLAIN}.get(action)
    return pattern is not None and pattern.fullmatch(value) is not None


def _is_clean_uid(uid: bytes) -> bool:
    return not uid or uid.startswith(_KEYED) or uid in tables.registered_uids()


def _may_stay(rule: Rule, vr: bytes, value: bytes) -> bool:
    if rule.check in ("binary", "bulk", "tag"):
        size = _WIDTHS.get(vr, 0)
        bounded = rule.most is None or rule.check == "bulk" or len(value) <= rule.most * size
        return bool(size) and not len(value) % size and bounded
    if not _PLAIN.fullmatch(value):
        return False
    if rule.check == "number":
        return _NUMBERS.fullmatch(value) is not None
    kind, _, argument = rule.check.partition(":")
    if kind == "words":
        public, grammar = tables.words(argument), _GRAMMATICAL if argument in _WITH_GRAMMAR else _NOTHING
        parts = value.rstrip(_PAD).split(b"\\")
        return all(not part or part in public or grammar.fullmatch(part) for part in parts)
    if kind == "descriptor":
        return set(value.split()) <= tables.words(kind)
    return True


def _plain_or_items(value: bytes, vr: bytes) -> bool:
    return vr in (b"SQ", b"") or _PLAIN.fullmatch(value) is not None


def _check_bulk(bulk: Sequence[bytes | memoryview], codec: _Codec) -> None:
    """Check that the parts are exactly one or more pixel data elements or one in items, and nothing else."""
    left = 0
    in_items = False
    for part in bulk:
        if left:
            if len(part) > left:
                raise refused(Reason.CHECK, "pixel data")
            left -= len(part)
        elif len(part):
            left, in_items = _bulk_header(bytes(part[:16]), codec, in_items)
    if left or in_items:
        raise refused(Reason.CHECK, "pixel data")


def _bulk_header(header: bytes, codec: _Codec, in_items: bool) -> tuple[int, bool]:
    """Return the length that a header announces, and whether items follow or go on."""
    group, element, length = codec.implicit.unpack_from(header, 0)
    tag = group << 16 | element
    if in_items:
        if tag == 0xFFFEE0DD:
            return 0, False
        if tag != _ITEM:
            raise refused(Reason.CHECK, "pixel data")
        return length, True
    if tag not in _PIXELS:
        raise refused(Reason.CHECK, "pixel data")
    if codec.explicit is not None:
        (length,) = codec.u32.unpack_from(header, 8)
    return (0, True) if length == 0xFFFFFFFF else (length, False)


@cache
def _finder(codec: _Codec, tags: tuple[int, ...]) -> re.Pattern[bytes]:
    """Return a pattern that finds identifying tags, by group so that most bytes fail at the first."""
    groups: dict[bytes, list[bytes]] = {}
    for tag in tags:
        group, element = codec.u16.pack(tag >> 16), codec.u16.pack(tag & 0xFFFF)
        groups.setdefault(re.escape(group), []).append(re.escape(element))
    alternatives = (group + b"(?:" + b"|".join(below) + b")" for group, below in groups.items())
    return re.compile(b"|".join(alternatives), re.DOTALL)


def originals(data: bytes, codec: _Codec, tags: tuple[int, ...] = _IDENTIFYING) -> set[bytes]:
    """Return identifying values of an input: found by their tags wherever these occur, nested or not.

    No structure is trusted: the bytes are searched, so that values in broken, private or wrapped
    content are found as well.
    """
    found: set[bytes] = set()
    for match in _finder(codec, tags).finditer(data):
        group, element = codec.tag.unpack(match[0])
        found.update(_identifying_parts(group << 16 | element, _value_at(data, match.start(), codec)))
        if len(found) >= _MOST_VALUES:
            break
    return found


def _identifying_parts(tag: int, value: bytes) -> list[bytes]:
    """Return a value and, of a name, its parts: those long enough to mean something."""
    whole = [value] if len(value) >= _SHORTEST_VALUE else []
    if tag not in _NAMES:
        return whole
    return whole + [part for part in _NAME_PARTS.split(value) if len(part) >= _SHORTEST_PART]


def _value_at(data: bytes, at: int, codec: _Codec) -> bytes:
    header = data[at : at + 12]
    if len(header) < 12:
        return b""
    start = at + 8
    if codec.explicit is None:
        (length,) = codec.u32.unpack_from(header, 4)
    elif header[4:6] in _LONG:
        (length,), start = codec.u32.unpack_from(header, 8), at + 12
    else:
        (length,) = codec.u16.unpack_from(header, 6)
    return data[start : start + length].strip(_PAD) if length <= _LONGEST_VALUE else b""

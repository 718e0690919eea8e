"""Walks what is about to leave once more, with a parser of its own, and refuses on any finding.

It trusts nothing of the walk: it reads the output's bytes and the input's bytes, and shares with the
walk only the tables and the profile. Every element must stand on the keep list or carry the result of
its action, in canonical form; no identifying value of the input may stand in the output.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from operator import methodcaller

from srm_dicom.errors import ObjectRefused
from srm_plugin_dicom.deidentify import tables
from srm_plugin_dicom.deidentify.bulk import passing
from srm_plugin_dicom.deidentify.heads import Found, Heads, Layout, Room
from srm_plugin_dicom.deidentify.options import Option
from srm_plugin_dicom.deidentify.originals import CODECS, LITTLE_EXPLICIT, LONG_VRS, PAD, Codec, Originals
from srm_plugin_dicom.deidentify.profile import Action, Profile, Rule
from srm_plugin_dicom.deidentify.reasons import Reason, refused

_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_STATED = frozenset((0x00120062, 0x00120063, 0x00120064, 0x00280303))
_ITEM = 0xFFFEE000
_PSEUDONYM = re.compile(rb"[a-z2-7]{16}")
_DUMMIES = frozenset(
    (b"19110803", b"031459", b"19110803031459", b"111Y", b"SRMD-REMOVED", bytes(2), bytes(4), bytes(8))
)
_NUMBERS = re.compile(rb"[0-9+\-.eE \\]*")
_GRAMMATICAL, _NOTHING = re.compile(rb"[A-Za-z0-9*_-]{1,20}"), re.compile(rb"(?!)")
_WITH_GRAMMAR = ("kernel", "sequence")
_PLAIN = re.compile(rb"[ -~]*\0?")
_LETTERS, _WORDS = re.compile(rb"([ -~]{12,})\0*"), re.compile(rb"[A-Za-z ^]{12,}")
_AGE = rb"(?:0[0-8]\dY|090Y|\d{3}[DWM])?"
_FORMS = {"number": _NUMBERS, "age": re.compile(rb"%b(?:\\%b)* ?" % (_AGE, _AGE))}
_KEYED = b"2.25."
_WIDTHS = dict.fromkeys((b"US", b"SS", b"OW"), 2) | dict.fromkeys((b"FD", b"OD", b"OV", b"UV", b"SV"), 8)
_WIDTHS |= dict.fromkeys((b"AT", b"UL", b"SL", b"FL", b"OF", b"OL"), 4) | {b"OB": 1}
_SURE, _LONGEST_REMEMBERED = 8, 512
_bare = methodcaller("strip", PAD)


Judge = Callable[[bytes], tuple[Room, ...] | None]


class _Memory:
    """What is remembered of one encoding: elements that passed, by their bytes, and heads."""

    def __init__(self, codec: Codec) -> None:
        self.passed: dict[bytes, tuple[Room, ...]] = {}
        self.heads = Heads(codec)


class Checker:
    """Checks outputs of one profile.

    Elements that passed are remembered by their bytes, within a bound, but for those that are told at once;
    heads and inputs so that of others which are like them only what differs is looked at.
    """

    def __init__(self, profile: Profile, *, remembered: int = 50_000) -> None:
        self._rules = profile.rules
        self._safe = Option.SAFE_PRIVATE in profile.options
        self._originals = Originals(profile.rules)
        self._remembered = remembered
        self._judges: dict[tuple[int, bytes], Judge] = {}
        self._memory = {codec: _Memory(codec) for codec in (*CODECS.values(), LITTLE_EXPLICIT)}

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
        codec = CODECS.get(syntax, LITTLE_EXPLICIT)
        memory = self._memory[codec]
        if len(memory.passed) > self._remembered:
            memory.passed.clear()
        try:
            room = self._head(head, codec, memory)
            deque(passing(bulk, syntax), 0)
        except struct.error:
            raise refused(Reason.CHECK, "cut") from None
        codec = CODECS.get(source, LITTLE_EXPLICIT) if source else codec
        _check_originals(room, self._originals.of(original, codec))

    def _head(self, head: bytes, codec: Codec, memory: _Memory) -> Sequence[Room]:
        """Check a head; returns where there is room for an original."""
        layout = memory.heads.like(head)
        rooms = self._values(layout, head, codec, memory.passed) if layout else None
        if rooms is not None:
            return rooms
        found: list[Found] = []
        rooms = self._level(head, 0, len(head), codec, memory.passed, found)
        if not self._safe:  # a private element depends on others
            memory.heads.learn(head, found, self._is_number)
        return rooms

    def _is_number(self, element: Found) -> bool:
        return self._judges.get((element.tag, element.vr)) is _number

    def _values(
        self, layout: Layout, head: bytes, codec: Codec, passed: dict[bytes, tuple[Room, ...]]
    ) -> list[Room] | None:
        """Check the values in which a head may differ from one that passed.

        Returns:
            None, if one looks wrong: the whole is the judge, and says what is.
        """
        numbers = _number(b"\\".join(layout.numbers(head)), whole=False)
        if numbers is None:
            return None
        rooms = [layout.room, *numbers]
        try:
            for tag, vr, at, value, stop, _ in layout.others:
                rooms += self._room(tag, vr, head, at, value, stop, codec, passed)
        except (ObjectRefused, struct.error):
            return None
        return rooms

    def _level(
        self,
        data: bytes,
        at: int,
        end: int,
        codec: Codec,
        passed: dict[bytes, tuple[Room, ...]],
        found: list[Found] | None = None,
    ) -> list[Room]:
        """Check the elements of one level; returns where there is room for an original.

        Args:
            data: where they are: from `at` to `end`.
            at: see above.
            end: see above.
            codec: how they are encoded.
            passed: elements that passed, by their bytes; more are added.
            found: gets each.
        """
        rooms: list[Room] = []
        creators: dict[int, bytes] = {}
        before = -1
        while at < end:
            tag, vr, value, stop = _next(data, at, codec)
            if tag <= before or stop > end:
                raise refused(Reason.CHECK, "order")
            if tag & 0x10000:
                self._private(tag, vr, data[value:stop], creators)
                room: tuple[Room, ...] = ()
            else:
                room = self._room(tag, vr, data, at, value, stop, codec, passed)
            rooms += room
            if found is not None:
                found.append(Found(tag, vr, at, value, stop, room))
            before, at = tag, stop
        return rooms

    def _room(
        self,
        tag: int,
        vr: bytes,
        data: bytes,
        at: int,
        value: int,
        stop: int,
        codec: Codec,
        passed: dict[bytes, tuple[Room, ...]],
    ) -> tuple[Room, ...]:
        """Check an element that is not private, or remember that it passed; returns the room in it."""
        judge = self._judges.get((tag, vr))
        room = judge(data[value:stop]) if judge else passed.get(data[at:stop])
        if room is None:
            room = self._element(tag, vr, data, value, stop, codec, passed)
            if not judge and stop - at <= _LONGEST_REMEMBERED:
                passed[data[at:stop]] = room
        return room

    def _private(self, tag: int, vr: bytes, value: bytes, creators: dict[int, bytes]) -> None:
        """Check a private attribute: a number of the standard's list, after the creator that reserved it."""
        group, low = tag >> 16, tag & 0xFFFF
        if self._safe and low <= 0xFF:
            creators[group << 16 | low << 8] = value.rstrip(PAD)
            if any(value.rstrip(PAD) == creator for _, creator in tables.safe_private()):
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
        codec: Codec,
        passed: dict[bytes, tuple[Room, ...]],
    ) -> tuple[Room, ...]:
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
        judge = _judge_of(rule, vr or rule.vrs[0])
        if judge:
            self._judges[tag, vr] = judge
        return _room(rule, data[value:stop])

    def _sequence(
        self,
        rule: Rule,
        data: bytes,
        at: int,
        stop: int,
        codec: Codec,
        passed: dict[bytes, tuple[Room, ...]],
    ) -> tuple[Room, ...]:
        if at < stop and rule.action is not Action.ITEMS:
            raise refused(Reason.CHECK, f"not a result {rule.tag:08X}")
        rooms: list[Room] = []
        while at < stop:
            group, element, length = codec.implicit.unpack_from(data, at)
            at += 8
            if group << 16 | element != _ITEM or at + length > stop:
                raise refused(Reason.CHECK, "item")
            rooms += self._level(data, at, at + length, codec, passed)
            at += length
        return tuple(rooms)


def _room(rule: Rule, value: bytes) -> tuple[Room, ...]:
    parts = frozenset(part.strip(PAD) for part in value.split(b"\\"))
    if rule.action is Action.UID:
        foreign = parts - tables.registered_uids()
        return (Room(foreign),) if foreign and rule.check != "kept" else ()
    if rule.check == "number":
        long = frozenset(part for part in parts if len(part) >= _SURE)
        return (Room(long),) if long else ()
    return (Room(texts=(value,)),) if rule.check in ("name", "descriptor") else ()


def _judge_of(rule: Rule, vr: bytes) -> Judge | None:
    """Return what tells at once of most values that they may leave; None where only the whole check does."""
    if rule.action is Action.CLEAN:
        if rule.check == "number":
            return _number
        size = _WIDTHS.get(vr, 0)
        if rule.check == "binary" and 1 < size < _SURE:
            return lambda value: () if len(value) == size else None
    return _uid if rule.action is Action.UID and rule.check != "kept" else None


def _number(value: bytes, *, whole: bool = True) -> tuple[Room, ...] | None:
    """Judge a value of numbers, or several such in one; None if it is to be looked at more closely."""
    if (whole and len(value) & 1) or not _NUMBERS.fullmatch(value):
        return None
    if len(value) < _SURE:
        return ()
    long = [part for part in map(_bare, value.split(b"\\")) if len(part) >= _SURE]
    return (Room(frozenset(long)),) if long else ()


def _uid(value: bytes) -> tuple[Room, ...] | None:
    """Judge one UID that is keyed; None if it is to be looked at more closely."""
    if len(value) & 1 or b"\\" in value or not value.startswith(_KEYED):
        return None
    return (Room(frozenset((value.strip(PAD),))),)


def _check_originals(rooms: Iterable[Room], found: set[bytes]) -> None:
    for room in rooms:
        if not found.isdisjoint(room.values) or (
            room.texts and any(original in text for text in room.texts for original in found)
        ):
            raise refused(Reason.CHECK, "an identifying value")


def _is_result(rule: Rule, vr: bytes, value: bytes) -> bool:
    """Tell whether a value can be what the rule's action, or its fall-back, makes."""
    if len(value) & 1:
        return False
    return _made_by(rule.action, rule, vr, value) or _made_by(rule.otherwise, rule, vr, value)


def _next(data: bytes, at: int, codec: Codec) -> tuple[int, bytes, int, int]:
    """Return tag, representation and the bounds of a value, of an element in canonical form."""
    if codec.explicit is None:
        group, element, length = codec.implicit.unpack_from(data, at)
        vr, value = b"", at + 8
    else:
        group, element, vr, length = codec.explicit.unpack_from(data, at)
        value = at + 8
        if vr not in _SHORT:
            if length or vr not in LONG_VRS:
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
        return rule.check == "kept" or all(map(_is_clean_uid, value.rstrip(PAD).split(b"\\")))
    if action is Action.DUMMY:
        return value in _DUMMIES or value.rstrip(PAD) in _DUMMIES
    pattern = {Action.PSEUDONYM: _PSEUDONYM, Action.CONCEPT: _PLAIN}.get(action)
    return pattern is not None and pattern.fullmatch(value) is not None


def _is_clean_uid(uid: bytes) -> bool:
    return not uid or uid.startswith(_KEYED) or uid in tables.registered_uids()


def _may_stay(rule: Rule, vr: bytes, value: bytes) -> bool:
    if rule.check in ("binary", "bulk", "tag"):
        size = _WIDTHS.get(vr, 0)
        bounded = rule.most is None or rule.check == "bulk" or len(value) <= rule.most * size
        return bool(size) and not len(value) % size and bounded and not _is_text(value, vr)
    if not _PLAIN.fullmatch(value):
        return False
    if rule.check in _FORMS:
        return _FORMS[rule.check].fullmatch(value) is not None
    kind, _, argument = rule.check.partition(":")
    if kind == "words":
        public, grammar = tables.words(argument), _GRAMMATICAL if argument in _WITH_GRAMMAR else _NOTHING
        parts = value.rstrip(PAD).split(b"\\")
        return all(not part or part in public or grammar.fullmatch(part) for part in parts)
    if kind == "descriptor":
        return set(value.split()) <= tables.words(kind)
    return True


def _is_text(value: bytes, vr: bytes) -> bool:
    """Tell whether bytes that should be numbers are letters; a repeated one is none, few could be floats."""
    floats = vr in (b"FL", b"FD", b"OF", b"OD")
    shortest = 24 if floats else 12
    letters = _LETTERS.fullmatch(value) if len(value) >= shortest else None
    if letters is not None and len(letters[1]) >= shortest and len({*value}) > 5:
        return True
    return not floats and any(map(_is_written, _WORDS.findall(value)))


def _is_written(text: bytes) -> bool:
    """Tell letters from the bytes of a table: its numbers turn seldom, or one byte of each does."""
    return len({*text}) > 5 and all(
        4 * sum((a < b) != (b < c) for a, b, c in zip(part, part[1:], part[2:], strict=False)) >= len(part)
        for part in (text, text[::2], text[1::2])
    )


def _plain_or_items(value: bytes, vr: bytes) -> bool:
    return vr in (b"SQ", b"") or _PLAIN.fullmatch(value) is not None

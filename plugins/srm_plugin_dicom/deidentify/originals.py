"""Identifying values of an input, found without trust in its structure: by their tags, wherever these are.

Part of the independent check: it shares nothing with the walk but the bytes. Of an input that is like one
that was searched only what differs is searched.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from struct import Struct
from typing import NamedTuple

from srm_plugin_dicom.deidentify.likeness import MOST_BYTES, Fits, Likeness, Span, taught, with_new
from srm_plugin_dicom.deidentify.profile import Rule

_BIG_ENDIAN, _IMPLICIT = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
PAD = b" \0"
_NAME_PARTS = re.compile(rb"[\^= ]")
_IDENTIFYING = (
    *(0x00080018, 0x0020000D, 0x0020000E, 0x00200052, 0x00080050, 0x00080080, 0x00080081, 0x00080090),
    *(0x00080092, 0x00080094, 0x00081010, 0x00081040, 0x00081048, 0x00081050, 0x00081060, 0x00081070),
    *(0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00101000, 0x00101001, 0x00101005, 0x00101040),
    *(0x00101060, 0x00101090, 0x00102154, 0x00104000, 0x00200010, 0x00321032, 0x00380010, 0x0040A123),
)
_NAMES = frozenset((0x00080090, 0x00081048, 0x00081050, 0x00081060, 0x00081070, 0x00100010, 0x00101001))
_SHORTEST_VALUE, _SHORTEST_PART, _LONGEST_VALUE, _MOST_VALUES = 6, 5, 512, 256
_HEADER_BYTES, _SETTLED = 12, 8


@dataclass(frozen=True, eq=False, slots=True)
class Codec:
    """The structs of one encoding; `explicit` is None where representations are implicit."""

    explicit: Struct | None
    implicit: Struct
    tag: Struct
    u16: Struct
    u32: Struct


def _codec(order: str, *, explicit: bool) -> Codec:
    return Codec(
        Struct(order + "HH2sH") if explicit else None,
        Struct(order + "HHL"),
        Struct(order + "HH"),
        Struct(order + "H"),
        Struct(order + "L"),
    )


LITTLE_EXPLICIT = _codec("<", explicit=True)
CODECS = {_BIG_ENDIAN: _codec(">", explicit=True), _IMPLICIT: _codec("<", explicit=False)}


class _Places(NamedTuple):
    """Where values may be that not every input has which is like a known one.

    Attributes:
        values: with their tags, from one place to another: the length is what all have, and the value is not.
        tags: where others begin with what all have and end beyond that.
        gaps: from one place to another: where a tag begins in what differs, or reaches into it; `gap_bytes`
            takes these out, since most often there is no tag in any of them.
    """

    values: Sequence[tuple[int, int, int]]
    tags: Sequence[int]
    gap_bytes: Callable[[bytes], tuple[bytes, ...]]
    gaps: Sequence[Span]


class _Original(NamedTuple):
    """An input that was searched, and what others like it have in common with it.

    Attributes:
        values: identifying values that stand in its runs as a whole.
        places: where others are in an input that is like it.
    """

    likeness: Likeness
    values: frozenset[bytes]
    places: Fits[_Places]


class Originals:
    """Searches inputs for the identifying attributes that a profile does not keep."""

    def __init__(self, rules: Mapping[int, Rule]) -> None:
        self._tags = tuple(tag for tag in _IDENTIFYING if not _is_retained(rules.get(tag)))
        self._finders = {codec: _finder(codec, self._tags) for codec in (*CODECS.values(), LITTLE_EXPLICIT)}
        self._known: dict[Codec, tuple[_Original, ...]] = {}

    def of(self, original: bytes, codec: Codec) -> set[bytes]:
        """Return identifying values of an input (see `originals`)."""
        known = self._known.get(codec, ())
        for places_of in (Fits.known, Fits.of):
            for each in known:
                places = places_of(each.places, original)
                if places is not None:
                    return self._values_like(each.values, places, original, codec)
        found = originals(original, codec, self._tags)
        if len(original) <= MOST_BYTES and len(found) < _MOST_VALUES:
            # Like one that is settled it is of another series, most likely: of this one the same will differ
            # from input to input.
            index, likeness = taught(
                [each.likeness for each in known],
                lambda index: known[index].places.count >= _SETTLED,
                original,
            )
            self._known[codec] = with_new(known, index, _original_of(likeness, codec, self._tags))
        return found

    def _values_like(
        self, values: frozenset[bytes], places: _Places, data: bytes, codec: Codec
    ) -> set[bytes]:
        """Return identifying values of an input that is like a known one: theirs, and those that differ."""
        found = set(values)
        for tag, start, stop in places.values:
            found.update(_identifying_parts(tag, data[start:stop].strip(PAD)))
        for at in places.tags:
            found.update(_identified(data, at, codec))
        search = self._finders[codec].search
        if not search(b"".join(places.gap_bytes(data))):
            return found
        for start, stop in places.gaps:
            for at in _tags_in(self._finders[codec], data, start, stop):
                found.update(_identified(data, at, codec))
        return found


def _taking(gaps: Sequence[Span], size: int) -> Callable[[bytes], tuple[bytes, ...]]:
    """Return what takes the bytes of gaps out of an input of a size; of two that overlap, all in one."""
    at, text = 0, ""
    for start, stop in gaps:
        first, last = max(at, start), min(stop, size)
        text += f"{first - at}x{max(0, last - first)}s"
        at = max(first, last)
    return Struct(text).unpack_from


def _is_retained(rule: Rule | None) -> bool:
    """Tell whether an option of the profile is to keep this attribute."""
    return rule is not None and rule.check in ("name", "kept")


def _original_of(likeness: Likeness, codec: Codec, tags: tuple[int, ...]) -> _Original:
    model = likeness.model
    values: set[bytes] = set()
    bounded: list[tuple[int, int, int, int, int]] = []
    others: list[tuple[int, int]] = []
    starts = [start for start, _ in likeness.runs]
    for at in _tags_in(_finder(codec, tags), model):
        run = bisect_right(starts, at) - 1
        start, stop = likeness.runs[run]
        if at > stop - 4:
            continue
        if _extent(model, at, codec) <= stop:
            values.update(_identified(model, at, codec))
            continue
        long = codec.explicit is not None and model[at + 4 : at + 6] in LONG_VRS
        known = at + (_HEADER_BYTES if long else 8) <= stop
        if known and at + _HEADER_BYTES <= len(model):
            group, element = codec.tag.unpack_from(model, at)
            begin, end = _bounds(model, at, codec)
            bounded.append((run, at - start, group << 16 | element, begin - at, end - at))
        else:
            others.append((run, at - start))

    def derived(places: Sequence[int]) -> _Places:
        ends = [place + stop - start for place, (start, stop) in zip(places, likeness.runs, strict=True)]
        gaps = [(max(0, end - 3), place + 3) for end, place in zip(ends, places[1:], strict=False)]
        values, tags = [], [places[run] + offset for run, offset in others]
        for run, offset, tag, begin, end in bounded:
            at = places[run] + offset
            if at + _HEADER_BYTES <= ends[-1]:
                values.append((tag, at + begin, at + end))
            else:
                tags.append(at)
        return _Places(values, tags, _taking(gaps, ends[-1]), gaps)

    return _Original(likeness, frozenset(values), Fits(likeness, derived))


@cache
def _finder(codec: Codec, tags: tuple[int, ...]) -> re.Pattern[bytes]:
    """Return a pattern that finds identifying tags, by group so that most bytes fail at the first."""
    groups: dict[bytes, list[bytes]] = {}
    for tag in tags:
        group, element = codec.u16.pack(tag >> 16), codec.u16.pack(tag & 0xFFFF)
        groups.setdefault(re.escape(group), []).append(re.escape(element))
    alternatives = (group + b"(?:" + b"|".join(below) + b")" for group, below in groups.items())
    return re.compile(b"|".join(alternatives), re.DOTALL)


def _tags_in(
    finder: re.Pattern[bytes], data: bytes, start: int = 0, stop: int = sys.maxsize
) -> Iterator[int]:
    """Yield where tags are, those too that begin within another: bytes before one must not hide it."""
    match = finder.search(data, start, stop)
    while match:
        at = match.start()
        yield at
        match = finder.search(data, at + 1, stop)


def originals(data: bytes, codec: Codec, tags: tuple[int, ...] = _IDENTIFYING) -> set[bytes]:
    """Return identifying values of an input: found by their tags wherever these occur, nested or not.

    No structure is trusted: the bytes are searched, so that values in broken, private or wrapped
    content are found as well.
    """
    found: set[bytes] = set()
    for at in _tags_in(_finder(codec, tags), data):
        found.update(_identified(data, at, codec))
        if len(found) >= _MOST_VALUES:
            break
    return found


def _identified(data: bytes, at: int, codec: Codec) -> list[bytes]:
    group, element = codec.tag.unpack_from(data, at)
    return _identifying_parts(group << 16 | element, _value_at(data, at, codec))


def _identifying_parts(tag: int, value: bytes) -> list[bytes]:
    """Return a value and, of a name, its parts: those long enough to mean something."""
    whole = [value] if len(value) >= _SHORTEST_VALUE else []
    if tag not in _NAMES:
        return whole
    return whole + [part for part in _NAME_PARTS.split(value) if len(part) >= _SHORTEST_PART]


def _value_at(data: bytes, at: int, codec: Codec) -> bytes:
    start, stop = _bounds(data, at, codec)
    return data[start:stop].strip(PAD)


def _extent(data: bytes, at: int, codec: Codec) -> int:
    """Return up to where bytes decide on the value of a tag."""
    return max(at + _HEADER_BYTES, _bounds(data, at, codec)[1])


def _bounds(data: bytes, at: int, codec: Codec) -> tuple[int, int]:
    """Return where the value of a tag is; nowhere, if it is too long to be one that identifies."""
    header = data[at : at + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES:
        return at, at
    start = at + 8
    if codec.explicit is None:
        (length,) = codec.u32.unpack_from(header, 4)
    elif header[4:6] in LONG_VRS:
        (length,), start = codec.u32.unpack_from(header, 8), at + 12
    else:
        (length,) = codec.u16.unpack_from(header, 6)
    return (start, start + length) if length <= _LONGEST_VALUE else (at, at)

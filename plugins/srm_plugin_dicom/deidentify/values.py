"""What a value must be to leave: one small function a rule, from bytes to the bytes that leave.

A rule returns None when it cannot prove the value; what happens then is the profile's decision.
Everything is decided on the raw bytes as a whole, padding included, so that nothing hides behind a
NUL, an escape sequence of a character set, or a value that merely begins well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import partial

from srm_plugin_dicom.deidentify import hidden, tables

Clean = Callable[[bytes], bytes | None]

SIZES = {
    b"US": 2, b"SS": 2, b"OW": 2, b"AT": 4, b"UL": 4, b"SL": 4, b"FL": 4, b"OF": 4, b"OL": 4,
    b"FD": 8, b"OD": 8, b"OV": 8, b"UV": 8, b"SV": 8, b"OB": 1,
}  # fmt: skip
_BLANK = b" \0"
# Nothing is tried in two ways: spaces in hundreds of values would be tried in more than can be counted.
# Groups are atomic and not possessive, which Python does wrong before 3.11.5; Debian 12 has 3.11.2.
_EXPONENT = rb"(?>(?:[eE][+-]?+\d{1,3}+)?)"
_NUMBER = rb"(?=[^\\\n]{0,32}(?:[\\\n]|\Z)) *+(?>(?:[+-]?+(?:\d++\.?+\d*+|\.\d++)%b)?) *+" % _EXPONENT
_NUMBERS = re.compile(rb"%b(?>(?:\\%b)*)" % (_NUMBER, _NUMBER))
_DATE = re.compile(rb"(?:\d{8})?")
_TIME = re.compile(rb"(?:\d\d(?:\d\d(?:\d\d(?:\.\d{1,6})?)?)?)?")
_DATETIME = re.compile(rb"(?:\d{8}(?:\d\d(?:\d\d(?:\d\d(?:\.\d{1,6})?)?)?)?(?:[+-]\d{4})?)?")
_OFFSET = re.compile(rb"(?:[+-]\d{4})?")
_AGE = re.compile(rb"(?:\d{3}[DWMY])?")
_NAME = re.compile(rb"[A-Za-z0-9 ._/+-]{0,64}")
_UID = re.compile(rb"[0-9][0-9.]{0,63}")
_WORD = re.compile(rb"[A-Z0-9]+")
_OLDEST_YEARS = 90
_LETTERS, _SHORTEST_TEXT = bytes(range(0x20, 0x7F)), 12
_LONGEST_FLOATS = 24  # 0.79, 0.833 and 0.872 are "q=J?}?U?d;_?"
_FLOATS = (b"FL", b"FD", b"OF", b"OD")
# Names that follow a maker's grammar need no list: it has no room for a person.
_GRAMMARS = {
    "kernel": re.compile(rb"[A-Z][a-z]?\d{1,2}[a-z]{0,2}|FC\d\d(?:-H)?"),
    "sequence": re.compile(rb"\*[a-z]{2,6}[23]d\d{1,2}[a-z]{0,2}(?:_\d{1,4}[a-z]{0,2})?"),
}
_NOTHING = re.compile(rb"(?!)")


def pad(value: bytes, filler: bytes = b" ") -> bytes:
    """Return the value with even length (PS3.5 6.2)."""
    return value + filler if len(value) & 1 else value


def number(value: bytes, most: int | None) -> bytes | None:
    """Accept decimal and integer strings, PS3.5 DS and IS, up to the multiplicity."""
    text = value.rstrip(_BLANK)
    if not _NUMBERS.fullmatch(text) or (most is not None and text.count(b"\\") >= most):
        return None
    return text + b" " if len(text) & 1 else text


def numbers_that_stay(most: Sequence[int | None]) -> re.Pattern[bytes]:
    """Return what matches values of numbers, as many, of even length and with a line feed between two.

    It matches where each would be accepted by itself and stay as it is.

    Args:
        most: the multiplicity of each.
    """
    each = (
        rb"%b(?>(?:\\%b){0,%b})(?<!  )" % (_NUMBER, _NUMBER, b"" if one is None else b"%d" % (one - 1))
        for one in most
    )
    return re.compile(b"\n".join(each))


def reads_as_text(value: bytes, shortest: int) -> bool:
    """Tell bytes that are letters and nothing else from numbers; a few could be either."""
    text = value.rstrip(b"\0") if len(value) >= shortest else b""
    return len(text) >= shortest and not text.translate(None, _LETTERS) and len(set(text)) > 4


def binary(
    value: bytes, most: int | None, size: int, *, text: int = _SHORTEST_TEXT, floats: bool = False
) -> bytes | None:
    """Accept whole binary numbers up to the multiplicity; text of so many letters is none."""
    if len(value) % size or (most is not None and len(value) > most * size) or reads_as_text(value, text):
        return None
    held = hidden.among_floats(value, size) if floats else hidden.among_integers(value)
    return None if held else value


def of_words(value: bytes, most: int | None, kind: str) -> bytes | None:
    """Accept public words; of several values an unknown one is emptied; the others keep their place."""
    public, grammar = tables.words(kind), _GRAMMARS.get(kind, _NOTHING)
    parts = [part.strip(b" ") for part in value.rstrip(_BLANK).split(b"\\")]
    if most is not None and len(parts) > most:
        return None
    kept = [part if part in public or grammar.fullmatch(part) else b"" for part in parts]
    if not any(kept) and any(parts):
        return None
    return pad(b"\\".join(kept))


def label(_value: bytes, text: bytes) -> bytes:
    """Replace a label that its module requires by a constant."""
    return pad(text)


def matching(value: bytes, pattern: re.Pattern[bytes]) -> bytes | None:
    """Accept text of which every value has a form that leaves no room for anything else."""
    text = value.rstrip(_BLANK)
    if all(pattern.fullmatch(part.strip(b" ")) for part in text.split(b"\\")):
        return pad(text)
    return None


def age(value: bytes) -> bytes | None:
    """Accept ages; those above 89 years become 090Y, which those in months and less never are."""
    text = value.strip(_BLANK)
    parts = [part.strip(b" ") for part in text.split(b"\\")]
    if not all(map(_AGE.fullmatch, parts)):
        return None
    return pad(
        b"\\".join(min(part, b"%03dY" % _OLDEST_YEARS) if part[3:] == b"Y" else part for part in parts)
    )


def shifted_date(value: bytes, days: int) -> bytes | None:
    """Move dates back."""
    return _shifted(value, days, _DATE)


def shifted_datetime(value: bytes, days: int) -> bytes | None:
    """Move date-times back; the time of day stays."""
    return _shifted(value, days, _DATETIME)


def _shifted(value: bytes, days: int, pattern: re.Pattern[bytes]) -> bytes | None:
    moved = []
    for part in value.rstrip(_BLANK).split(b"\\"):
        text = part.strip(b" ")
        if not pattern.fullmatch(text):
            return None
        earlier = _earlier(text[:8], days) if text else b""
        if earlier is None:
            return None
        moved.append(earlier + text[8:])
    return pad(b"\\".join(moved))


def _earlier(text: bytes, days: int) -> bytes | None:
    try:
        day = date(int(text[:4]), int(text[4:6]), int(text[6:8])) - timedelta(days)
    except (ValueError, OverflowError):
        return None
    return b"%04d%02d%02d" % (day.year, day.month, day.day)


def uids(value: bytes, replace: Callable[[bytes], bytes], *, keep: bool = False) -> bytes:
    """Replace UIDs, except registered ones (PS3.6 annex A), or keep those that are well-formed."""
    registered = tables.registered_uids()
    if not keep and b"\\" not in value:
        text = value.strip(_BLANK)
        return pad(text if not text or text in registered else replace(text), b"\0")
    out = []
    for part in value.rstrip(_BLANK).split(b"\\"):
        text = part.strip(_BLANK)
        if not text or text in registered or (keep and _UID.fullmatch(text)):
            out.append(text)
        else:
            out.append(replace(text))
    return pad(b"\\".join(out), b"\0")


def temporal(vr: bytes) -> Clean | None:
    """Return the rule that keeps a date or time of this representation."""
    pattern = {b"DA": _DATE, b"TM": _TIME, b"DT": _DATETIME, b"SH": _OFFSET}.get(vr)
    return partial(matching, pattern=pattern) if pattern else None


def plain_name(value: bytes) -> bytes | None:
    """Accept short plain ASCII without the delimiters of person names."""
    return matching(value, _NAME)


def descriptor(value: bytes) -> bytes | None:
    """Keep the public words of a description, in their order and separated by spaces."""
    public = tables.words("descriptor")
    kept = [word for word in _WORD.findall(value.upper()) if word in public]
    return pad(b" ".join(kept)) if kept else None


def clean_for(rule: str, vr: bytes, most: int | None) -> Clean | None:
    """Return the function of a keep list's rule; None for rules that need more than the value."""
    name, _, argument = rule.partition(":")
    size, floats = SIZES.get(vr, 1), vr in _FLOATS
    text = _LONGEST_FLOATS if floats else _SHORTEST_TEXT
    rules: dict[str, Clean] = {
        "number": partial(number, most=most),
        "binary": partial(binary, most=most, size=size, text=text, floats=floats),
        "tag": partial(binary, most=most, size=4),
        "bulk": partial(binary, most=None, size=size, text=text, floats=floats),
        "words": partial(of_words, most=most, kind=argument),
        "label": partial(label, text=argument.encode()),
    }
    return rules.get(name)

"""What may leave of one object, but for the check, and what is stated in it about its de-identification.

Its parts come in order; pixel data are views of the input, never copies. It goes nowhere before the
independent check (see `engine`). Of an object that is too large for memory (`view`) the pixels are made while
they are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.options import BY_OPTION, Option
from srm_plugin_dicom.deidentify.profile import Profile
from srm_plugin_dicom.deidentify.syntax import ITEM, Syntax
from srm_plugin_dicom.deidentify.values import pad
from srm_plugin_dicom.deidentify.view import Part

Held = bytes | memoryview


class Draft(NamedTuple):
    """A data set on its way to the check, and what the check compares it with.

    Attributes:
        parts: the header in one part, then the pixels, unless these are `pixels`: made as they are taken.
        syntax: its transfer syntax.
        options: those of the profile, and what was done to the pixels.
        seen: tags that were met, at any depth; `removed` those of them of which nothing left.
        sop_class, instance: what it is now.
        facts: of the header that came, or of one that decides alike.
        original: the data set that came, up to its pixels; `source` how its elements are encoded.
    """

    parts: list[Held]
    syntax: Syntax
    options: tuple[Option, ...]
    seen: frozenset[int] | set[int]
    removed: frozenset[int] | set[int]
    sop_class: bytes
    instance: bytes
    facts: Facts
    original: bytes
    source: Syntax
    pixels: Iterable[Part] | None = None


@lru_cache(maxsize=64)
def statement(syntax: Syntax, its_profile: Profile, options: tuple[Option, ...]) -> Mapping[int, bytes]:
    """Return what says that identity was removed, by which profile and options (PS3.15 E.1.1)."""
    items = []
    for option in options:
        row = BY_OPTION[option]
        body = (
            encoded(syntax, 0x00080100, b"SH", row.code.encode())
            + encoded(syntax, 0x00080102, b"SH", b"DCM")
            + encoded(syntax, 0x00080104, b"LO", row.meaning.encode())
        )
        items.append(syntax.item(ITEM, len(body)) + body)
    values_of = {
        0x00120062: (b"CS", b"YES"),
        0x00120063: (b"LO", f"srm-dicom {its_profile}".encode()),
        0x00120064: (b"SQ", b"".join(items)),
        0x00280303: (b"CS", its_profile.temporal),
    }
    return {tag: encoded(syntax, tag, vr, value) for tag, (vr, value) in values_of.items()}


def encoded(syntax: Syntax, tag: int, vr: bytes, value: bytes) -> bytes:
    """Return an element with a value of even length."""
    padded = pad(value)
    return syntax.header(tag, vr, len(padded)) + padded

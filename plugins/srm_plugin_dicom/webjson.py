"""The DICOM JSON model (PS3.18, annex F) as texts by keyword, which is what selectors match; pure."""

from __future__ import annotations

from typing import Any

import msgspec
from pydicom.datadict import keyword_for_tag


class _Attribute(msgspec.Struct, frozen=True):
    vr: str = ""
    Value: list[Any] = []


_ANSWERS = msgspec.json.Decoder(list[dict[str, _Attribute]])


def texts_of(body: bytes) -> list[dict[str, str]]:
    """Return the answers of a search, each a mapping from keyword to text; several values by backslash.

    Raises:
        msgspec.DecodeError, ValueError: it is not the JSON model.
    """
    if not body.strip():
        return []
    return [dict(_texts(answer)) for answer in _ANSWERS.decode(body)]


def _texts(answer: dict[str, _Attribute]) -> list[tuple[str, str]]:
    found = []
    for tag, attribute in answer.items():
        keyword = keyword_for_tag(int(tag, 16))
        if keyword and attribute.vr != "SQ" and attribute.Value:
            found.append((keyword, "\\".join(map(_text, attribute.Value))))
    return found


def _text(value: Any) -> str:
    """Return one value; a person's name is an object with its spellings (PS3.18, F.2.2)."""
    if isinstance(value, dict):
        return str(value.get("Alphabetic", ""))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)

"""What came in, held against the contract: a request that makes no sense gets SRM_INVALID_REQUEST.

The order of elements does not matter and a nillable element may be missing: ARC does both. gfal2
sends a TPermissionMode as a digit, the place of the word in the enumeration; it is read as the word.
"""

from __future__ import annotations

from typing import Any

from srm_dicom.broker.spaces import UNLIMITED_S
from srm_dicom.errors import InvalidRequest
from srm_dicom.srm.contract import Field, contract

INT_MAX = 2**31 - 1
_RANGES = {"int": (-INT_MAX, INT_MAX), "unsignedLong": (0, 2**64 - 1)}


def complete(type_name: str, value: Any) -> None:
    """Hold a value against its type, and put words in place of digits.

    Args:
        type_name: name of a complex type of the contract.
        value: what spyne made of the element.

    Raises:
        InvalidRequest: a mandatory element is missing, or a value is none of its type.
    """
    for field in contract().types[type_name]:
        _check_field(field, value)


def _check_field(field: Field, value: Any) -> None:
    held = getattr(value, field.name)
    if not field.required and not field.many and _says_nothing(field, held):
        setattr(value, field.name, held := None)
    if held is None:
        if field.required:
            raise InvalidRequest(f"{field.name} is missing")
        return
    model = contract()
    for item in held if field.many else (held,):
        if item is None:
            continue
        if field.type in model.types:
            complete(field.type, item)
        elif field.type in model.enums:
            setattr(value, field.name, _word(field, item))
        elif field.type in _RANGES:
            least, most = _RANGES[field.type]
            if not least <= item <= most:
                raise InvalidRequest(f"{field.name} is not an xsd:{field.type}")


def _says_nothing(field: Field, held: Any) -> bool:
    """Tell whether an element that may be missing is there and empty, as some clients leave it out."""
    model = contract()
    if field.type in model.types:
        return all(getattr(held, one.name, None) is None for one in model.types[field.type])
    return field.type in model.enums and held == ""


def _word(field: Field, text: str) -> str:
    words = contract().enums[field.type]
    if text in words:
        return text
    if field.type == "TPermissionMode" and len(text) == 1 and text in "01234567":
        return words[int(text)]
    raise InvalidRequest(f"{field.name} is not a {field.type}")


def not_negative(name: str, value: int | None) -> int | None:
    """Return a number that the standard wants to be zero or more.

    Raises:
        InvalidRequest: it is negative.
    """
    if value is not None and value < 0:
        raise InvalidRequest(f"{name} is negative")
    return value


def lifetime(name: str, value: int | None) -> int | None:
    """Return a time in seconds; -1 asks for one without an end (SRM v2.2, 2.1.12).

    Raises:
        InvalidRequest: it is another negative number.
    """
    if value is not None and value < UNLIMITED_S:
        raise InvalidRequest(f"{name} is negative, and not -1")
    return value

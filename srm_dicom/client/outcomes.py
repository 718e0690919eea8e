"""What a key server answers for many keys at once, as one outcome for each key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from srm_dicom.errors import InternalError, KeyServerUnavailable, MdmError
from srm_dicom.wire.hydra.contract import Dealt, KeyStatus, Taken, error_of

A = TypeVar("A", KeyStatus, Dealt, Taken)
T = TypeVar("T")


def each(ids: Iterable[str], answer: Sequence[A] | MdmError) -> dict[str, A | MdmError]:
    """Return what a server said of each key, or why it said nothing, also when it speaks of others."""
    if isinstance(answer, MdmError):
        return dict.fromkeys(ids, answer)
    missing = KeyServerUnavailable("the key server did not answer for this key")
    said: dict[str, A | MdmError] = {
        one.item: error_of(one.exception, one.message) if one.exception else one for one in answer
    }
    return {key_id: said.get(key_id, missing) for key_id in ids}


def or_raise(answer: T | MdmError) -> T:
    """Return an answer.

    Raises:
        MdmError: there is an error instead of one.
    """
    if isinstance(answer, MdmError):
        raise answer
    return answer


def may_have_left(told: KeyStatus | MdmError) -> bool:
    """Tell whether a call that keeps shares has left one of a key that was not there, or may have."""
    if isinstance(told, KeyStatus):
        return told.is_new
    return isinstance(told, KeyServerUnavailable | InternalError)

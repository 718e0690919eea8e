"""Which keys a call names, and what it is answered of each. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from srm_dicom.crypto.keyrecord import check_key_id
from srm_dicom.errors import InvalidRequest, MdmError, TooLarge
from srm_dicom.wire.hydra.contract import EXCEPTION_OF, MAX_KEYS_PER_CALL, KeyStatus, SharedKey


def checked(ids: Iterable[str]) -> list[str]:
    """Return ids that are well formed, different and not too many."""
    found, failed = named(ids)
    for error in failed.values():
        raise error
    return found


def named(ids: Iterable[str]) -> tuple[list[str], dict[str, MdmError]]:
    """Return the ids that are well formed and named once, and an error for each of the others.

    One that is named twice is left alone: what was said of it would be said of both.

    Raises:
        TooLarge: there are too many.
    """
    counts = Counter(ids)
    if counts.total() > MAX_KEYS_PER_CALL:
        raise TooLarge(f"a call has at most {MAX_KEYS_PER_CALL} keys")
    failed: dict[str, MdmError] = {}
    for key_id, count in counts.items():
        try:
            check_key_id(key_id)
        except InvalidRequest as error:
            failed[key_id] = error
        if count > 1:
            failed.setdefault(key_id, InvalidRequest("a call names each key once"))
    return [key_id for key_id in counts if key_id not in failed], failed


def status(
    key_id: str, error: MdmError | None, *, is_new: bool = False, keys: tuple[SharedKey, ...] = ()
) -> KeyStatus:
    """Return what became of a key: an error, or that it went well."""
    if error is not None:
        return KeyStatus(key_id, EXCEPTION_OF[type(error)], error.message)
    return KeyStatus(key_id, is_new=is_new, keys=keys)

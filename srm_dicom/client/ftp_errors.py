"""What a GridFTP server's refusal means: servers differ in codes, so its words count first."""

from __future__ import annotations

from srm_dicom import errors
from srm_dicom.errors import MdmError
from srm_dicom.wire.gridftp.replies import Reply

_ERROR_STRING = "GridFTP-Error-String: "
_WORDS: tuple[tuple[str, type[MdmError]], ...] = (
    ("no such file", errors.NotFound),
    ("not found", errors.NotFound),
    ("permission denied", errors.NotAuthorised),
    ("not a directory", errors.NotADirectory),
    ("is a directory", errors.IsADirectory),
)
_CODES: dict[int, type[MdmError]] = {
    421: errors.Overloaded,
    425: errors.NotDelivered,
    426: errors.NotDelivered,
    450: errors.RequestExpired,
    451: errors.SourceUnavailable,
    452: errors.BudgetExhausted,
    501: errors.InvalidRequest,
    504: errors.NotSupported,
    522: errors.NotSupported,
    530: errors.NotAuthenticated,
    535: errors.NotAuthenticated,
    550: errors.NotFound,
}


def meaning_of(reply: Reply) -> MdmError:
    """Return what a refusal means: by its words, as servers differ in codes, else by its code."""
    said = " ".join(line.strip().removeprefix(_ERROR_STRING) for line in reply.lines)
    leaf = next((leaf for words, leaf in _WORDS if words in said.lower()), None)
    return (leaf or _CODES.get(reply.code, errors.SourceRefused))(said)

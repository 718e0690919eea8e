"""The one table from the error tree to FTP replies.

Programs read words, people read the rest: gfal2 knows "No such file or directory", "Permission denied"
and "Not a directory" and nothing else; globus-url-copy prints the whole reply, so it ends with what
to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from srm_dicom import errors
from srm_dicom.wire.gridftp.replies import Reply


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a leaf is told.

    Attributes:
        words: the error string that programs look for; empty when there is none.
        said: False keeps the error's own message from the client: it could tell absent from forbidden.
    """

    code: int
    words: str = ""
    said: bool = True


TABLE: dict[type[errors.MdmError], Refusal] = {
    errors.NotAuthenticated: Refusal(530),
    errors.NotAuthorised: Refusal(550, "Permission denied", said=False),
    errors.NotFound: Refusal(550, "No such file or directory", said=False),
    errors.AlreadyExists: Refusal(553, "File exists"),
    errors.NotADirectory: Refusal(550, "Not a directory"),
    errors.IsADirectory: Refusal(550, "Is a directory"),
    errors.NotEmpty: Refusal(550, "Directory not empty"),
    errors.Busy: Refusal(450),
    errors.InvalidRequest: Refusal(501),
    errors.NotSupported: Refusal(504),
    errors.RequestUnknown: Refusal(550, "No such file or directory", said=False),
    errors.Aborted: Refusal(426),
    errors.RequestExpired: Refusal(450),
    errors.TooLarge: Refusal(552),
    errors.BudgetExhausted: Refusal(452),
    errors.SpaceExhausted: Refusal(552),
    errors.SpaceExpired: Refusal(552),
    errors.ConfigError: Refusal(451, said=False),
    errors.NoSpace: Refusal(452),
    errors.Overloaded: Refusal(451),
    errors.IntegrityError: Refusal(451),
    errors.CatalogueUnavailable: Refusal(451),
    errors.InternalError: Refusal(451),
    errors.SourceUnavailable: Refusal(451),
    errors.SourceSlow: Refusal(451),
    errors.SourceRefused: Refusal(451),
    errors.NotDelivered: Refusal(451),
    errors.ObjectRefused: Refusal(451),
    errors.KeyServerUnavailable: Refusal(451),
    errors.KeyQuorumMissing: Refusal(451),
    errors.KeyShareInvalid: Refusal(451),
}


def reply_for(error: errors.MdmError) -> Reply:
    """Return the reply to a command that failed with `error`."""
    refusal = TABLE[type(error)]
    lines = [f"GridFTP-Error-String: {refusal.words}"] if refusal.words else []
    if refusal.said:
        lines.append(error.message)
    advice = error.advice if refusal.said else type(error).advice
    if advice or not lines:
        lines.append(advice or "The server cannot do this now; its log says why.")
    return Reply.of(refusal.code, *lines)

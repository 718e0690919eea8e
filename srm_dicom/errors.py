"""Everything that can go wrong, told apart by whose fault it is.

Four families: the caller, this site, a source (a PACS, a disk) and the key servers. A family is
abstract; only leaves are raised. Each edge of the house owns one table from leaf to wire code
(`srm.status`, `transfer.replies`, `web.problems`, `cli.exits`), and a test asserts that every leaf
stands in every table.

A message says what and why in one line; `advice` says what to do about it. Neither may ever hold
anything that could identify a patient: no UID, no name, no free text of a DICOM object.
"""

from __future__ import annotations

from collections.abc import Iterator


class MdmError(Exception):
    """Root of the tree; never raised itself."""

    advice: str = ""

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if advice is not None:
            self.advice = advice
            self.add_note(advice)  # a traceback shows it too


class CallerError(MdmError):
    """The caller asked for something that it may not have or that makes no sense."""


class SiteError(MdmError):
    """This site cannot do what it promised."""


class SourceError(MdmError):
    """A source of bytes (a PACS, a disk) did not deliver."""


class KeyServerError(MdmError):
    """A key server, or too many of them, did not answer as they should."""


# --- the caller ----------------------------------------------------------------------------------


class NotAuthenticated(CallerError):
    """The credential was refused; the message names the certificate and the reason."""

    advice = "Make a new proxy from a valid certificate of a trusted authority."


class NotAuthorised(CallerError):
    """The caller is known and may not do this. Doors say NotFound instead where existence is secret."""

    advice = "Ask the project's coordinator for the right that is missing."


class NotFound(CallerError):
    """No such name, or none that this caller may learn of."""

    advice = "Check the name."


class AlreadyExists(CallerError):
    """The name is taken."""


class NotADirectory(CallerError):
    """A directory was wanted."""


class IsADirectory(CallerError):
    """A file was wanted."""


class NotEmpty(CallerError):
    """The directory still has entries."""


class Busy(CallerError):
    """Somebody is writing this name."""

    advice = "Wait until the upload is over, or abort it."


class InvalidRequest(CallerError):
    """The request is malformed or contradicts itself."""


class NotSupported(CallerError):
    """The standard knows this; this server does not do it."""


class RequestUnknown(CallerError):
    """No request has this token."""


class Aborted(CallerError):
    """The caller withdrew the request."""


class RequestExpired(CallerError):
    """The lifetime of the request, pin or upload is over."""


class TooLarge(CallerError):
    """More entries, bytes or nesting than one request may have."""


class BudgetExhausted(CallerError):
    """The daily budget of the principal or the project is used up."""


class SpaceExhausted(CallerError):
    """The space that the caller reserved, or named, has not so much left."""

    advice = "Reserve more, or remove files."


class SpaceExpired(CallerError):
    """The lifetime of the space is over."""

    advice = "Reserve another."


# --- this site -----------------------------------------------------------------------------------


class ConfigError(SiteError):
    """The configuration is not usable; the message has the file and the key."""


class NoSpace(SiteError):
    """Scratch has no room for what was asked."""


class Overloaded(SiteError):
    """A bound is reached, or a part of this site does not answer; the same call may succeed later."""


class IntegrityError(SiteError):
    """Bytes, a signature or a checksum are not what was registered."""


class CatalogueUnavailable(SiteError):
    """A catalogue (files, keys or metadata) did not answer in time."""


class InternalError(SiteError):
    """A defect of this program; details are in the log under the id in the message."""


# --- a source ------------------------------------------------------------------------------------


class SourceUnavailable(SourceError):
    """The source does not answer; it is asked again until the request's deadline."""


class SourceSlow(SourceError):
    """The source has not begun to send in its time, as when it fetches files itself; it is asked again."""


class SourceRefused(SourceError):
    """The source answered and refused; asking again would not help."""


class NotDelivered(SourceError):
    """The source said it was done, or its time was up, and the file had not arrived."""


class ObjectRefused(SourceError):
    """The object could not be proven free of identity; the message is the class of reason only."""


# --- the key servers -----------------------------------------------------------------------------


class KeyServerUnavailable(KeyServerError):
    """A key server does not answer."""


class KeyQuorumMissing(KeyServerError):
    """Fewer than k key servers gave a good share."""


class KeyShareInvalid(KeyServerError):
    """A share does not match its signed hash, or the rebuilt key is not the file's."""


def leaves(root: type[MdmError] = MdmError) -> Iterator[type[MdmError]]:
    """Yield every class that may be raised; the tables of the edges are checked against this."""
    below = root.__subclasses__()
    if not below:
        yield root
    for child in below:
        yield from leaves(child)

"""What an SRM server answered, as small values read from its XML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from srm_dicom import errors
from srm_dicom.errors import InternalError, MdmError

STATUS_ERROR: Mapping[str, type[MdmError]] = {
    "SRM_AUTHENTICATION_FAILURE": errors.NotAuthenticated,
    "SRM_AUTHORIZATION_FAILURE": errors.NotAuthorised,
    "SRM_INVALID_REQUEST": errors.InvalidRequest,
    "SRM_INVALID_PATH": errors.NotFound,
    "SRM_FILE_LIFETIME_EXPIRED": errors.RequestExpired,
    "SRM_REQUEST_TIMED_OUT": errors.RequestExpired,
    "SRM_EXCEED_ALLOCATION": errors.BudgetExhausted,
    "SRM_NO_USER_SPACE": errors.SpaceExhausted,
    "SRM_NO_FREE_SPACE": errors.NoSpace,
    "SRM_DUPLICATION_ERROR": errors.AlreadyExists,
    "SRM_NON_EMPTY_DIRECTORY": errors.NotEmpty,
    "SRM_TOO_MANY_RESULTS": errors.TooLarge,
    "SRM_INTERNAL_ERROR": errors.Overloaded,
    "SRM_FATAL_INTERNAL_ERROR": errors.InternalError,
    "SRM_NOT_SUPPORTED": errors.NotSupported,
    "SRM_ABORTED": errors.Aborted,
    "SRM_SPACE_LIFETIME_EXPIRED": errors.SpaceExpired,
    "SRM_FILE_LOST": errors.IntegrityError,
    "SRM_FILE_BUSY": errors.Busy,
    "SRM_FILE_UNAVAILABLE": errors.NotDelivered,
    "SRM_FAILURE": errors.NotDelivered,
}
"""TStatusCode to the error that a caller of the library catches."""

SUCCESS = frozenset(
    ("SRM_SUCCESS", "SRM_DONE", "SRM_FILE_PINNED", "SRM_SPACE_AVAILABLE", "SRM_RELEASED", "SRM_FILE_IN_CACHE")
)
WAITING = frozenset({"SRM_REQUEST_QUEUED", "SRM_REQUEST_INPROGRESS", "SRM_REQUEST_SUSPENDED"})


@dataclass(frozen=True, slots=True)
class Status:
    """A TReturnStatus."""

    code: str
    explanation: str = ""

    @classmethod
    def read(cls, element: etree._Element | None) -> Status:
        """Read a TReturnStatus.

        Raises:
            InternalError: the server left it out.
        """
        if element is None:
            raise InternalError("the server's answer has no status")
        parts = _children(element)
        code, why = parts.get("statusCode"), parts.get("explanation")
        return cls((code.text if code is not None else "") or "", (why.text if why is not None else "") or "")

    @property
    def is_success(self) -> bool:
        """Tell success from waiting and failure."""
        return self.code in SUCCESS

    @property
    def is_waiting(self) -> bool:
        """Tell whether asking again makes sense."""
        return self.code in WAITING

    def error(self) -> MdmError:
        """Return the error that this status stands for."""
        kind = STATUS_ERROR.get(self.code, errors.NotDelivered)
        return kind(f"{self.explanation} ({self.code})" if self.explanation else self.code)

    def check(self) -> None:
        """Raise `error` unless this is success."""
        if not self.is_success:
            raise self.error()


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What srmPing told."""

    version: str
    about: Mapping[str, str]

    @classmethod
    def read(cls, answer: etree._Element) -> ServerInfo:
        """Read a srmPingResponse."""
        extra = answer.findall("{*}otherInfo/{*}extraInfoArray")
        about = {item.findtext("{*}key", ""): item.findtext("{*}value", "") or "" for item in extra}
        return cls(answer.findtext("{*}versionInfo", ""), about)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A TMetaDataPathDetail.

    Attributes:
        size_bytes: None while the server does not know it.
        checksum: algorithm in lower case and hexadecimal value, as in ``("adler32", "0d370270")``.
        online: the bytes are staged now.
    """

    path: str
    status: Status
    is_directory: bool
    size_bytes: int | None
    created_at: datetime | None
    checksum: tuple[str, str] | None
    online: bool
    children: tuple[FileInfo, ...]

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @classmethod
    def read(cls, detail: etree._Element) -> FileInfo:
        """Read a TMetaDataPathDetail and what is below it."""
        created = detail.findtext("{*}createdAtTime")
        algorithm, value = detail.findtext("{*}checkSumType"), detail.findtext("{*}checkSumValue")
        below = detail.findall("{*}arrayOfSubPaths/{*}pathDetailArray")
        return cls(
            path=detail.findtext("{*}path", ""),
            status=Status.read(detail.find("{*}status")),
            is_directory=detail.findtext("{*}type") == "DIRECTORY",
            size_bytes=_number(detail, "size"),
            created_at=datetime.fromisoformat(created) if created else None,
            checksum=(algorithm.lower(), value) if algorithm and value else None,
            online=(detail.findtext("{*}fileLocality") or "").startswith("ONLINE"),
            children=tuple(cls.read(child) for child in below),
        )


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One file of a request; `turl` is there while the file is pinned for us, or may be written by us."""

    surl: str
    status: Status
    size_bytes: int | None = None
    turl: str | None = None
    wait_s: int | None = None
    pin_left_s: int | None = None

    @classmethod
    def read(cls, element: etree._Element) -> FileStatus:
        """Read a TGetRequestFileStatus, a TPutRequestFileStatus or a TSURLReturnStatus."""
        parts = _children(element)
        texts = {name: part.text for name, part in parts.items()}
        names = (texts.get(name) for name in ("sourceSURL", "SURL", "surl"))
        return cls(
            surl=next(filter(None, names), ""),
            status=Status.read(parts.get("status")),
            size_bytes=_whole("fileSize", texts),
            turl=texts.get("transferURL"),
            wait_s=_whole("estimatedWaitTime", texts),
            pin_left_s=_whole("remainingPinTime", texts) or _whole("remainingPinLifetime", texts),
        )


@dataclass(frozen=True, slots=True)
class GetRequest:
    """A prepareToGet, or a prepareToPut, as the server told of it last."""

    token: str
    status: Status
    files: tuple[FileStatus, ...]
    remaining_s: int | None = None

    @property
    def done(self) -> float:
        """How much of it is decided, from 0 to 1; of a file made of others, as its server explains."""
        told = [_STAGED.match(file.status.explanation) for file in self.waiting]
        parts = sum(int(part[1]) / max(1, int(part[2])) for part in told if part)
        return (len(self.files) - len(self.waiting) + parts) / len(self.files)

    @property
    def waiting(self) -> tuple[FileStatus, ...]:
        """The files that are not decided yet."""
        return tuple(file for file in self.files if file.status.is_waiting)

    @classmethod
    def read(cls, answer: etree._Element, token: str = "") -> GetRequest:
        """Read the response to srmPrepareToGet, srmPrepareToPut, or to a question after one of them.

        Raises:
            MdmError: the request as a whole was refused.
        """
        status = Status.read(answer.find("{*}returnStatus"))
        files = answer.findall("{*}arrayOfFileStatuses/{*}statusArray")
        token = answer.findtext("{*}requestToken") or token
        if not files or not (token or status.is_success):  # some servers repeat a refusal for each file
            raise status.error()
        return cls(
            token=token,
            status=status,
            files=tuple(FileStatus.read(file) for file in files),
            remaining_s=_number(answer, "remainingTotalRequestTime"),
        )


_STAGED = re.compile(r"(\d{1,9}) of (\d{1,9}) files are staged\Z")


def _children(element: etree._Element) -> dict[str, etree._Element]:
    """Return what is in an element by its names: asking lxml for one after the other takes far longer."""
    return {child.tag.rpartition("}")[2]: child for child in element.iterchildren("*")}


def _number(element: etree._Element, name: str) -> int | None:
    return _whole(name, {name: element.findtext(f"{{*}}{name}")})


def _whole(name: str, texts: Mapping[str, str | None]) -> int | None:
    text = texts.get(name)
    try:
        return int(text) if text else None
    except ValueError:
        raise InternalError(f"the server's {name} is no number") from None

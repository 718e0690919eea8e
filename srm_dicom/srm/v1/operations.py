"""The fourteen operations of SRM v1.1: what each asks of the broker, what right it checks, how it is done.

This table is the one source of the service, of the page of compliance and of the test that no operation
goes without a declared right. A request that v1.1 began may be followed by v2.2 and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from srm_dicom.broker.views import FileState, FileView, PutWish, RequestKind, RequestView, Wish
from srm_dicom.errors import InvalidRequest, MdmError, RequestUnknown
from srm_dicom.ids import Surl, Token
from srm_dicom.rights.declare import Declaration, OpenAccess, Right, declared, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.v1 import statuses
from srm_dicom.srm.v1.contract import SIGNATURES
from srm_dicom.srm.v1.statuses import DONE, FAILED, READY, RUNNING, Structure

Handler = Callable[..., Any]
"""Called as ``handler(caller, *arguments)``, the arguments as the contract has them."""

STAGE_S = 60
"""What getEstGetTime guesses of a file that is not here."""


# --- requests ------------------------------------------------------------------------------------


@requires(Right.FILE_READ)
def get(caller: Caller, surls: Sequence[str], protocols: Sequence[str]) -> Structure:
    """Stage files and pin them for reading."""
    wish = Wish(RequestKind.GET, tuple(surls), tuple(protocols))
    return _told(caller, caller.broker.submit(caller.principal, wish))


@requires(Right.FILE_WRITE)
def put(
    caller: Caller,
    sources: Sequence[str],
    targets: Sequence[str],
    sizes: Sequence[int],
    permanent: Sequence[bool],
    protocols: Sequence[str],
) -> Structure:
    """Make room for files; what they are called where they come from is not kept.

    Raises:
        InvalidRequest: there is not a size for each target, or one is negative.
    """
    del sources, permanent
    if len(sizes) != len(targets) or any(size < 0 for size in sizes):
        raise InvalidRequest("arg2 has to have one size, 0 or more, for each target in arg1")
    wish = PutWish(RequestKind.PUT, tuple(targets), tuple(protocols), sizes=tuple(sizes))
    return _told(caller, caller.broker.puts.submit(caller.principal, wish))


@requires(Right.FILE_WRITE)
def copy(
    caller: Caller, sources: Sequence[str], targets: Sequence[str], permanent: Sequence[bool]
) -> Structure:
    """Copy files within this site, from other servers or to them.

    Raises:
        InvalidRequest: there is not a source for each target.
    """
    del permanent
    if len(sources) != len(targets):
        raise InvalidRequest("arg0 has to have one source for each target in arg1")
    wish = PutWish(RequestKind.COPY, tuple(targets), sources=tuple(sources))
    return _told(caller, caller.broker.copies.submit(caller.principal, wish, caller.delegated))


@requires(Right.FILE_READ)
def pin(caller: Caller, urls: Sequence[str]) -> Structure:
    """Stage and pin files by their SURLs or the TURLs of a get."""
    wish = Wish(RequestKind.BRING_ONLINE, tuple(map(_surl, urls)))
    return _told(caller, caller.broker.submit(caller.principal, wish))


@requires(Right.OWN_REQUEST)
def unpin(caller: Caller, urls: Sequence[str], number: int | None) -> Structure:
    """Release files of a get or a pin; all of them if none is named."""
    token = _token(caller, number)
    caller.broker.release(caller.principal, token, tuple(map(_surl, urls)) or None)
    return _status(caller, token)


@requires(Right.OWN_REQUEST)
def get_request_status(caller: Caller, number: int | None) -> Structure:
    """Tell of a request."""
    return _status(caller, _token(caller, number))


@requires(Right.OWN_REQUEST)
def set_file_status(
    caller: Caller, number: int | None, file_number: int | None, state: str | None
) -> Structure:
    """Take from a client what it does with a file; the answer always has the file, as ARC expects.

    Raises:
        RequestUnknown: the request has no such file.
        InvalidRequest: a client cannot bring a file into this state.
    """
    token = _token(caller, number)
    numbers = caller.broker.numbers.of(token)
    if file_number not in numbers:
        raise RequestUnknown("the request has no file with this number")
    view = caller.broker.status(caller.principal, token, None)
    file = view.files[numbers.index(file_number)]
    change = _CHANGES.get((state or "").capitalize())
    if change is None:
        raise InvalidRequest(f"a file is set to {', '.join(_CHANGES)}, and to no other state")
    said = change(caller, view, file)
    return _status(caller, token, {file_number: said} if said else {})


_Said = tuple[str, str] | None
"""The state of a file, and the reason of a failure, that take the place of what the broker has."""


def _run(caller: Caller, view: RequestView, file: FileView) -> _Said:
    """Answer what the client wants to hear of a file that is ready: the broker knows no such state."""
    del caller, view
    return (RUNNING, "") if file.failure is None and statuses.STATES[file.state] == READY else None


def _finish(caller: Caller, view: RequestView, file: FileView) -> _Said:
    """Release what was read, and have stored what was written; a put without its bytes is given up."""
    if view.kind is RequestKind.COPY:
        return None
    if view.kind is not RequestKind.PUT:
        caller.broker.release(caller.principal, view.token, [file.surl])
        return None
    done, *_ = caller.broker.puts.done(caller.principal, view.token, [file.surl])
    if done.failure is None or done.state in (FileState.STORING, FileState.STORED):
        return None
    if done.state is FileState.SPACE_AVAILABLE:
        caller.broker.abort_files(caller.principal, view.token, [file.surl])
    return (FAILED, done.failure.message)


def _give_up(caller: Caller, view: RequestView, file: FileView) -> _Said:
    caller.broker.abort_files(caller.principal, view.token, [file.surl])
    return None


_CHANGES: Mapping[str, Callable[[Caller, RequestView, FileView], _Said]] = {
    RUNNING: _run,
    DONE: _finish,
    FAILED: _give_up,
}


def _token(caller: Caller, number: int | None) -> Token:
    if number is None:
        raise InvalidRequest("the number of the request is missing")
    return caller.broker.numbers.token(caller.principal, number)


def _status(caller: Caller, token: Token, said: Mapping[int, tuple[str, str]] | None = None) -> Structure:
    return _told(caller, caller.broker.status(caller.principal, token, None), said)


def _told(caller: Caller, view: RequestView, said: Mapping[int, tuple[str, str]] | None = None) -> Structure:
    sources = caller.broker.copies.sources(view.token) if view.kind is RequestKind.COPY else ()
    return statuses.of_request(view, caller.broker.numbers.of(view.token), sources, said)


def _surl(url: str) -> str:
    """Return a TURL of a get as the SURL of the same file; what is none stays as it is."""
    scheme, separator, rest = url.partition("://")
    return url if scheme == "srm" or not separator else f"srm://{rest}"


# --- names ---------------------------------------------------------------------------------------


@requires(Right.FILE_LIST)
def get_file_meta_data(caller: Caller, surls: Sequence[str]) -> list[Structure]:
    """Tell of names; v1.1 has no place for the failure of one of them.

    Raises:
        MdmError: one of them is not there for this caller.
    """
    listings = caller.broker.entries(caller.principal, surls, "getFileMetaData")
    return [statuses.of_name(listing, caller.principal) for listing in listings]


@requires(Right.FILE_LIST)
def make_permanent(caller: Caller, surls: Sequence[str]) -> Structure:
    """Confirm that files are there: all of them are permanent.

    Raises:
        MdmError: one of them is not there for this caller.
    """
    for listing in caller.broker.entries(caller.principal, surls, "mkPermanent"):
        statuses.found(listing)
    return statuses.without_request("mkPermanent", DONE)


@requires(Right.FILE_LIST)
def estimate_get(caller: Caller, surls: Sequence[str], protocols: Sequence[str]) -> Structure:
    """Guess how long a get would take: no time if all files are in scratch.

    Raises:
        MdmError: one of them is not there for this caller.
    """
    del protocols
    listings = caller.broker.entries(caller.principal, surls, "getEstGetTime")
    for listing in listings:
        statuses.found(listing)
    online = all(listing.online for listing in listings)
    return statuses.without_request("getEstGetTime", DONE, wait_s=0 if online else STAGE_S)


@requires(OpenAccess("room is made at once or refused: nothing of the site is told"))
def estimate_put(caller: Caller, *arguments: object) -> Structure:
    """Say that a put does not wait."""
    del caller, arguments
    return statuses.without_request("getEstPutTime", DONE)


@requires(Right.FILE_WRITE)
def advisory_delete(caller: Caller, surls: Sequence[str]) -> None:
    """Remove files, as srmRm does; all are tried.

    Raises:
        MdmError: why the first of those that stay does.
    """
    parsed = [caller.broker.surls.parse(text) for text in surls]
    known = [surl.path for surl in parsed if isinstance(surl, Surl)]
    removed = iter(caller.broker.names.remove_files(caller.principal, known, "advisoryDelete"))
    for text, surl in zip(surls, parsed, strict=True):
        failure = next(removed) if isinstance(surl, Surl) else surl
        if isinstance(failure, MdmError):
            raise statuses.named(text, failure)


# --- the site ------------------------------------------------------------------------------------


@requires(OpenAccess("the doors are no secret"))
def get_protocols(caller: Caller) -> list[str]:
    """Answer the transfer protocols, the preferred one first."""
    return list(caller.broker.protocols())


@requires(OpenAccess("tells only that somebody is there"))
def ping(caller: Caller) -> bool:
    """Answer."""
    del caller
    return True


# --- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: who answers it, what is checked, and what a reader of the standard should know."""

    name: str
    handler: Handler
    right: Declaration | None
    how: str


_TABLE: Mapping[str, tuple[Handler, str]] = {
    "get": (
        get,
        "the first protocol of the caller's list that is spoken here; Pending until a TURL is there",
    ),
    "put": (put, "room and TURL at once; never over a file that is there; every file is permanent"),
    "copy": (copy, "files of this site; others: Failed, and the reason"),
    "pin": (pin, "by SURL, or by the TURL of a get; the request is a bringOnline"),
    "unPin": (unpin, "files of a get or a pin; none named: all"),
    "setFileStatus": (
        set_file_status,
        "Running: answered, not kept; Done: a get is released, a put stored; Failed: given up",
    ),
    "getRequestStatus": (get_request_status, "states follow from the files; errorMessage has their reasons"),
    "getFileMetaData": (
        get_file_meta_data,
        "one name that is not there: a fault with its name and the reason",
    ),
    "mkPermanent": (make_permanent, "every file is; leaves no request behind: requestId is 0"),
    "getEstGetTime": (estimate_get, "0 for what is in scratch, else a guess of a minute; requestId is 0"),
    "getEstPutTime": (estimate_put, "0; requestId is 0"),
    "advisoryDelete": (
        advisory_delete,
        "removes, as srmRm; what stays: a fault with its name and the reason",
    ),
    "getProtocols": (get_protocols, "in the site's order of preference"),
    "ping": (ping, "true"),
}

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        name: Operation(name, _TABLE[name][0], declared(_TABLE[name][0]), _TABLE[name][1])
        for name in SIGNATURES
    }
)
"""Every operation of SRM v1.1 by its name on the wire, in the order of the contract."""

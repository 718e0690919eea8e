"""Everything that decides what may happen to a file of a request lives in this file.

A file of a request is a small machine. A file to get is QUEUED by the front; a stager claims it for a
lease and either publishes it (PINNED), asks for another try, or fails it. A file to put has room from
the beginning (SPACE_AVAILABLE); when its owner says that it is complete it waits for the inner zone
(STORING), which claims it for a lease, stores it (STORED) or fails it. A file to copy takes the same
ways: to another server it is one to get, whose bytes this site sends there; from another server one to
put, whose bytes this site fetches. Whoever asked may release or abort at any moment; time may end it, but
nothing that is being stored. States on the right of the table that never stand on the left are ends. The
status of a request is not stored: it is a function of the states of its files.
"""

from __future__ import annotations

from enum import Enum
from functools import cache

from srm_dicom.broker.views import FileState
from srm_dicom.errors import InternalError

QUEUED, IN_PROGRESS, PINNED = FileState.QUEUED, FileState.IN_PROGRESS, FileState.PINNED
SUSPENDED = FileState.SUSPENDED
SPACE_AVAILABLE, STORING, STORED = FileState.SPACE_AVAILABLE, FileState.STORING, FileState.STORED
RELEASED, EXPIRED, TIMED_OUT = FileState.RELEASED, FileState.EXPIRED, FileState.TIMED_OUT
FAILED, ABORTED = FileState.FAILED, FileState.ABORTED


class Event(Enum):
    """What can happen to a file of a request."""

    CLAIM = "a stager took it, for the length of a lease"
    RETRY = "the source did not deliver yet; it will be asked again"
    PUBLISH = "its bytes are durable in scratch"
    SUSPEND = "the caller wants it later"
    RESUME = "the caller wants it now"
    LOSE = "its bytes are gone from scratch although it was pinned"
    FAIL = "it cannot be had, or not in time"
    RELEASE = "the caller needs it no longer"
    ABORT = "the caller withdrew the request"
    EXPIRE = "the pin's lifetime is over"
    TAKE = "the inner zone took it, for the length of a lease"
    REFUSE = "it cannot be stored"
    PUT_DONE = "its owner says that every byte is there"
    STORE = "its bytes are durable in the storage behind, and it has its name"
    DELIVER = "of a copy: its bytes are at the other server"
    BREAK_OFF = "of a copy: its bytes could not be brought to the other server"
    TIME_OUT = "the request's time was over before its owner was done"


TRANSITIONS: dict[FileState, dict[Event, FileState]] = {
    QUEUED: {
        Event.CLAIM: IN_PROGRESS,
        Event.PUBLISH: PINNED,
        Event.SUSPEND: SUSPENDED,
        Event.FAIL: FAILED,
        Event.RELEASE: RELEASED,
        Event.ABORT: ABORTED,
    },
    SUSPENDED: {
        Event.RESUME: QUEUED,
        Event.FAIL: FAILED,
        Event.RELEASE: RELEASED,
        Event.ABORT: ABORTED,
    },
    IN_PROGRESS: {
        Event.CLAIM: IN_PROGRESS,
        Event.RETRY: IN_PROGRESS,
        Event.PUBLISH: PINNED,
        Event.FAIL: FAILED,
        Event.RELEASE: RELEASED,
        Event.ABORT: ABORTED,
    },
    PINNED: {
        Event.LOSE: QUEUED,
        Event.RELEASE: RELEASED,
        Event.ABORT: ABORTED,
        Event.EXPIRE: EXPIRED,
        Event.DELIVER: STORED,
        Event.BREAK_OFF: FAILED,
    },
    SPACE_AVAILABLE: {
        Event.PUT_DONE: STORING,
        Event.REFUSE: FAILED,
        Event.ABORT: ABORTED,
        Event.TIME_OUT: TIMED_OUT,
    },
    STORING: {
        Event.TAKE: STORING,
        Event.STORE: STORED,
        Event.REFUSE: FAILED,
        Event.ABORT: ABORTED,
    },
}

ACTIVE = (QUEUED, IN_PROGRESS)
"""States in which a file waits for a stager."""

PUTTING = (SPACE_AVAILABLE, STORING)
"""States in which a name is being written: nobody else may write it."""


def after(state: FileState, event: Event) -> FileState:
    """Return the state that follows.

    Raises:
        InternalError: the event cannot happen in this state.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise InternalError(f"{event.name} cannot happen to a file that is {state.value}") from None


@cache
def before(event: Event) -> tuple[FileState, ...]:
    """Return the states in which an event can happen."""
    return tuple(state for state, follows in TRANSITIONS.items() if event in follows)

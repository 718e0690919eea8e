"""The Tape REST API's messages and table of calls."""

import msgspec
import pytest

from srm_dicom.broker.states import TRANSITIONS, Event
from srm_dicom.broker.views import FileState
from srm_dicom.errors import InvalidRequest
from srm_dicom.rights.declare import declared
from srm_dicom.transfer.tape import STATES, TapeApi, TapeSettings
from srm_dicom.wire.tape import BASE, CALLS, DISCOVERY, Stage, call_of, read

OF_COPIES = {Event.DELIVER, Event.BREAK_OFF}


@pytest.mark.parametrize(
    ("method", "path", "name", "found"),
    [
        ("GET", DISCOVERY, "discover", ""),
        ("POST", f"{BASE}/stage/", "stage", ""),
        ("POST", f"{BASE}/stage", "stage", ""),
        ("GET", f"{BASE}/stage/one", "poll", "one"),
        ("POST", f"{BASE}/stage/one/cancel", "cancel", "one"),
        ("DELETE", f"{BASE}/stage/one", "delete", "one"),
        ("POST", f"{BASE}/release/one", "release", "one"),
        ("POST", f"{BASE}/archiveinfo/", "archiveinfo", ""),
    ],
)
def test_calls(method, path, name, found):
    call, token = call_of(method, path)
    assert (call.name, token) == (name, found)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", f"{BASE}/stage"), ("PUT", f"{BASE}/stage/x"), ("GET", f"{BASE}/stage/a/b"), ("GET", "/")],
)
def test_what_is_no_call(method, path):
    assert call_of(method, path) is None


def test_every_call_has_a_handler_that_declares_its_right():
    handlers = TapeApi(None, TapeSettings("site", "https://host:1")).handlers
    assert set(handlers) == set(CALLS)
    for name, handler in handlers.items():
        assert declared(handler) == CALLS[name].right


def test_every_state_of_a_file_that_is_brought_online_has_a_name():
    reached, fresh = set(), {FileState.QUEUED}
    while fresh:
        reached |= fresh
        follows = [pair for state in fresh for pair in TRANSITIONS.get(state, {}).items()]
        fresh = {after for event, after in follows if event not in OF_COPIES} - reached
    assert set(STATES) == reached


@pytest.mark.parametrize(
    ("lifetimes", "seconds"),
    [((), None), (("PT1H",), 3600), (("PT1H", "P2D", None), 2 * 86400), (("P1M", "soon"), None)],
)
def test_the_longest_lifetime_counts(lifetimes, seconds):
    files = [{"path": "/x", "diskLifetime": one} for one in lifetimes]
    assert read(msgspec.json.encode({"files": files}), Stage).lifetime_s == seconds


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"files": [{}]}', b"\xff"])
def test_what_is_no_message(body):
    with pytest.raises(InvalidRequest, match="JSON validation"):
        read(body, Stage)

"""What a COPY asks for, and the stream that answers it."""

from datetime import UTC, datetime

import pytest

from srm_dicom.errors import InvalidRequest, NotSupported
from srm_dicom.wire.dav.thirdparty import MAX_HEADERS, Copy, Credential, failure, marker, success

THERE = "https://se.example.org/x"


def test_a_push_with_a_token():
    copy = Copy.read(
        {
            "HTTP_DESTINATION": THERE,
            "HTTP_CREDENTIAL": "none",
            "HTTP_TRANSFERHEADERAUTHORIZATION": "Bearer token",
            "HTTP_TRANSFERHEADERX_OTHER": "y",
            "HTTP_REQUIRECHECKSUMVERIFICATION": "true",
            "HTTP_OVERWRITE": "F",
        }
    )
    headers = (("Authorization", "Bearer token"), ("X-Other", "y"))
    assert copy == Copy(THERE, False, headers, Credential.NONE, False, True)


@pytest.mark.parametrize(
    ("more", "credential"),
    [
        ({}, Credential.DELEGATED),
        ({"HTTP_CREDENTIAL": "gridsite"}, Credential.DELEGATED),
        ({"HTTP_TRANSFERHEADERAUTHORIZATION": "Bearer t"}, Credential.NONE),
        ({"HTTP_TRANSFERHEADERAUTHORIZATION": "x", "HTTP_CREDENTIAL": "GridSite"}, Credential.DELEGATED),
    ],
)
def test_credentials(more, credential):
    copy = Copy.read({"HTTP_SOURCE": THERE, **more})
    assert (copy.credential, copy.pull, copy.overwrite) == (credential, True, True)


@pytest.mark.parametrize("name", ["HOST", "CONTENT_LENGTH", "TRANSFER_ENCODING", "EXPECT", "RANGE"])
def test_headers_that_are_not_passed_on(name):
    with pytest.raises(InvalidRequest):
        Copy.read({"HTTP_SOURCE": THERE, f"HTTP_TRANSFERHEADER{name}": "x"})


@pytest.mark.parametrize("value", ["caf\u00e9", "a\r\nX: y", "\0", "\x7f"])
def test_values_that_cannot_be_passed_on(value):
    with pytest.raises(InvalidRequest, match="X-Name"):
        Copy.read({"HTTP_SOURCE": THERE, "HTTP_TRANSFERHEADERX_NAME": value})


def test_what_is_no_copy():
    with pytest.raises(InvalidRequest):
        Copy.read({})
    with pytest.raises(InvalidRequest):
        Copy.read({"HTTP_SOURCE": THERE, "HTTP_DESTINATION": THERE})
    with pytest.raises(NotSupported):
        Copy.read({"HTTP_SOURCE": THERE, "HTTP_CREDENTIAL": "oidc"})
    many = {f"HTTP_TRANSFERHEADERX{number}": "x" for number in range(MAX_HEADERS + 1)}
    with pytest.raises(InvalidRequest):
        Copy.read({"HTTP_SOURCE": THERE, **many})


def test_the_stream():
    now = datetime(2026, 11, 1, tzinfo=UTC)
    lines = marker(now, 17, ("2001:db8::1", 443)).decode().splitlines()
    assert (lines[0], lines[-1]) == ("Perf Marker", "End")
    assert "    Stripe Bytes Transferred: 17" in lines
    assert "    RemoteConnections: tcp:[2001:db8::1]:443" in lines
    assert "    RemoteConnections: tcp:192.0.2.1:1" in marker(now, 0, ("192.0.2.1", 1)).decode()
    assert b"RemoteConnections" not in marker(now, 0, None)
    assert success().startswith(b"success")
    assert failure("no\n such\r\nfile") == b"failure: no such file\n"

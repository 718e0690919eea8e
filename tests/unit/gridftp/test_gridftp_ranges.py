"""The client's ranges against the door, and its end from another thread."""

import io
import threading
import time

import pytest

from srm_dicom.client.doors import Doors
from srm_dicom.client.ftp_session import Timeouts
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.errors import Aborted, MdmError, NotFound

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def client(alice):
    with GridFtpClient(alice, timeouts=Timeouts(5, 5, 30)) as client:
        yield client


def turl(door, path):
    return f"gsiftp://localhost:{door.port}{path}"


@pytest.mark.parametrize(("start", "length"), [(0, 1), (0, 1000), (65_535, 2), (1_000_000, 48_576)])
def test_a_range_is_those_bytes(door, client, start, length):
    assert client.read_range(turl(door, "/file"), start, length) == CONTENT[start : start + length]


def test_a_range_over_the_end_is_shorter(door, client):
    assert client.read_range(turl(door, "/file"), len(CONTENT) - 3, 10) == CONTENT[-3:]


def test_the_session_goes_on_after_a_refused_range(door, client):
    with pytest.raises(NotFound):
        client.read_range(turl(door, "/absent"), 0, 10)
    assert client.read_range(turl(door, "/file"), 5, 5) == CONTENT[5:10]


def test_doors_go_by_the_scheme(door, client, alice):
    doors = Doors(alice, client)
    assert doors.read_range(turl(door, "/file"), 256, 4) == CONTENT[:4]
    assert doors.read_range(turl(door, "/file"), 256, 0) == b""
    sink = io.BytesIO()
    doors.fetch(turl(door, "/file"), sink, offset=10)
    assert sink.getvalue() == CONTENT[10:]


class Slow(io.BytesIO):
    """A sink that says when the first bytes have come and then takes its time."""

    def __init__(self):
        super().__init__()
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def write(self, data):
        self.begun.set()
        self.go_on.wait(10)
        return super().write(data)


def test_interrupt_breaks_off_a_transfer_of_another_thread(files, door, client):
    (files.root / "large").write_bytes(bytes(64 * 1024 * 1024))
    sink, ended = Slow(), []

    def fetch():
        try:
            client.fetch(turl(door, "/large"), sink)
        except MdmError as error:
            ended.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    assert sink.begun.wait(10)
    begun = time.monotonic()
    client.interrupt()
    sink.go_on.set()
    thread.join(10)
    assert ended, "the transfer did not end as if it were whole"
    assert time.monotonic() - begun < 5
    with pytest.raises(Aborted):
        client.read_range(turl(door, "/file"), 0, 1)

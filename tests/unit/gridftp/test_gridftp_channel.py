"""Files over one clear data connection."""

import os
import socket
import threading
from contextlib import contextmanager

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.transfer.channel import CHUNK_BYTES, DataChannel
from srm_dicom.wire.gridftp.addresses import Address

CONTENT = os.urandom(3 * CHUNK_BYTES + 1000)


@pytest.fixture
def ends():
    """Return a channel and the socket at its other end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), 10) as other,
    ):
        sock, address = listener.accept()
        with sock:
            yield DataChannel(sock, Address(*address), 10.0, SystemClock()), other


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as opened:
        yield opened.fileno()


@contextmanager
def _receiving(channel, sock):
    """Receive meanwhile, and to the end when the channel has been closed."""
    got = bytearray()

    def receive():
        while data := sock.recv(100_000):
            got.extend(data)

    reader = threading.Thread(target=receive)
    reader.start()
    try:
        yield got
    finally:
        channel.close()
        reader.join(10)


def test_a_part_of_a_file_arrives_whole(ends, file):
    channel, other = ends
    with _receiving(channel, other) as got:
        channel.send_file(file, 10, len(CONTENT) - 10, lambda: None)
    assert got == CONTENT[10:-10]


def test_a_file_that_became_shorter_is_an_error(ends, file):
    channel, other = ends
    with _receiving(channel, other), pytest.raises(OSError, match="ended early"):
        channel.send_file(file, 0, len(CONTENT) + 1, lambda: None)


def test_what_more_follows_arrives_before_it(ends, file):
    channel, other = ends
    with _receiving(channel, other) as got:
        channel.send(b"head", lambda: None, more=True)
        channel.send_file(file, 0, 1000, lambda: None)
    assert got == b"head" + CONTENT[:1000]


def test_what_nothing_follows_arrives_all_the_same(ends):
    channel, other = ends
    with _receiving(channel, other) as got:
        channel.send(b"head", lambda: None, more=True)
    assert got == b"head"

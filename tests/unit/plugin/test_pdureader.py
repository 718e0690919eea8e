"""Reading PDUs: when a sender's segment is acknowledged at once, and when our answer does it."""

import socket

import pytest

from srm_dicom.clock import SystemClock
from srm_plugin_dicom import pdu
from srm_plugin_dicom.pdureader import PduReader

QUICKACK = socket.TCP_QUICKACK
COMMAND, OBJECT = pdu.COMMAND | pdu.LAST, pdu.LAST


def data(*fragments: tuple[int, bytes]) -> bytes:
    """Return a P-DATA-TF with fragments, each with its control header (PS3.8, 9.3.5)."""
    body = b"".join(
        (len(payload) + 2).to_bytes(4, "big") + bytes((1, control)) + payload
        for control, payload in fragments
    )
    return b"\x04\x00" + len(body).to_bytes(4, "big") + body


class Wire:
    """A connection on which segments arrive as they are listed; tells of which an ACK was asked for."""

    def __init__(self, *segments: bytes) -> None:
        self._segments = list(segments)
        self.arrived = 0
        self.acknowledged: list[int] = []

    def recv_into(self, view: memoryview) -> int:
        segment = self._segments.pop(0) if self._segments else b""
        view[: len(segment)] = segment
        self.arrived += 1
        return len(segment)

    def setsockopt(self, level: int, option: int, _value: object) -> None:
        if (level, option) == (socket.IPPROTO_TCP, QUICKACK):
            self.acknowledged.append(self.arrived)

    def settimeout(self, seconds: float | None) -> None:
        pass


@pytest.mark.parametrize(
    ("segments", "acknowledged"),
    [
        ([data((COMMAND, b"c" * 90))], [1]),
        ([data((COMMAND, b"c" * 90)), data((OBJECT, b"o" * 90))], [1]),
        ([data((0, b"o" * 90)), data((OBJECT, b"o" * 90))], [1]),
        ([data((OBJECT, b"o" * 90))[:50], data((OBJECT, b"o" * 90))[50:]], [1]),
        ([data((OBJECT, b"o" * 90))[:3], data((OBJECT, b"o" * 90))[3:]], [1]),
        ([data((COMMAND, b"c" * 90)) + data((OBJECT, b"o" * 90))], []),
        ([data((0, b"o" * 90), (OBJECT, b"o"))], [1]),
        ([b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x02"], [1]),
        ([b"\x01\x00\x00\x00\x00\x06\x00\x00\x00\x00\x00\x02"], [1]),
    ],
    ids=[
        "command",
        "object",
        "last of two",
        "in pieces",
        "cut in its header",
        "together",
        "two",
        "release",
        "associate",
    ],
)
def test_an_ack_is_asked_for_unless_an_object_has_ended(
    segments: list[bytes], acknowledged: list[int]
) -> None:
    wire = Wire(*segments)
    reader = PduReader(wire, SystemClock(), 1024)  # type: ignore[arg-type]
    left = len(b"".join(segments))
    while left:
        left -= pdu.HEADER_BYTES + len(reader.read(5.0)[1])
    assert wire.acknowledged == acknowledged
    assert reader.is_empty

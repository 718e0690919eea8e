"""An archive that answers a question without end, or by a PDU that has none: memory is not the limit."""

import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.errors import SourceUnavailable
from srm_plugin_dicom import pacs as pacs_module
from srm_plugin_dicom import pdu
from srm_plugin_dicom.negotiation import IMPLICIT_LITTLE_ENDIAN
from srm_plugin_dicom.pacs import Pacs, PacsSettings
from srm_plugin_dicom.pdu import AnsweredContext, ContextAnswer
from srm_plugin_dicom.pdureader import PduReader
from srm_plugin_dicom.selector import Level

NOISE = bytes(65_536)
HELD_BYTES = 48 << 20


@pytest.fixture
def evil() -> Iterator[Callable[[bytes, bytes], Pacs]]:
    """Return what makes an archive that agrees to everything and then says something again and again."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve(first: bytes, again: bytes) -> None:
        connection, _ = listener.accept()
        reader = PduReader(connection, SystemClock(), 262_144)
        request = pdu.parse_associate_request(reader.read(20.0)[1])
        answers = [
            AnsweredContext(each.id, ContextAnswer.ACCEPTED, IMPLICIT_LITTLE_ENDIAN)
            for each in request.contexts
        ]
        connection.sendall(pdu.encode_associate_accept(request, answers, 16_384))
        reader.read(20.0)
        with suppress(OSError):
            connection.sendall(first)
            while not over.is_set():
                connection.sendall(again)
        connection.close()

    def make(first: bytes, again: bytes) -> Pacs:
        threading.Thread(target=serve, args=(first, again), daemon=True).start()
        settings = PacsSettings("main", "PACS", "127.0.0.1", listener.getsockname()[1], answer_s=20.0)
        return Pacs(settings, "MDM1")

    yield make
    over.set()
    listener.close()


def fragment(size_bytes: int) -> bytes:
    """Return a P-DATA-TF of a command set that goes on."""
    pdv = (size_bytes + 2).to_bytes(4, "big") + bytes((3, pdu.COMMAND)) + bytes(size_bytes)
    return bytes((pdu.PduType.DATA, 0)) + len(pdv).to_bytes(4, "big") + pdv


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (bytes((pdu.PduType.DATA, 0)) + (1 << 31).to_bytes(4, "big"), NOISE),
        (b"", fragment(16_000)),
    ],
    ids=["one PDU", "one message"],
)
def test_what_has_no_end_is_not_held(
    evil: Callable[[bytes, bytes], Pacs], monkeypatch: pytest.MonkeyPatch, first: bytes, again: bytes
) -> None:
    monkeypatch.setattr(pacs_module, "MAX_HEARD_BYTES", 8 << 20, raising=False)
    archive = evil(first, again)
    tracemalloc.start()
    try:
        with pytest.raises(SourceUnavailable), archive.session() as session:
            watch(session.find)
        assert tracemalloc.get_traced_memory()[1] < HELD_BYTES
    finally:
        tracemalloc.stop()


def watch(find: Callable[..., object]) -> None:
    """Ask; break off what holds too much before the machine has to."""
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            find(Level.STUDY, {"StudyInstanceUID": ""})
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        assert tracemalloc.get_traced_memory()[0] < 2 * HELD_BYTES, "it is held"
    raise failed[0]

"""Associations that are kept: one for many requests, another when it has died, none after a while."""

import fcntl
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotDelivered, SourceUnavailable
from srm_dicom.testing.pacs import PacsSimulator
from srm_plugin_dicom import dimse, pdu
from srm_plugin_dicom.moves import MemoryBudget, MoveDesk
from srm_plugin_dicom.moving import MOVE
from srm_plugin_dicom.negotiation import IMPLICIT_LITTLE_ENDIAN
from srm_plugin_dicom.pacs import PacsSettings, images
from srm_plugin_dicom.pdu import PduError, ProposedContext
from srm_plugin_dicom.pdureader import ConnectionClosed, PduReader
from srm_plugin_dicom.proposals import Pair
from srm_plugin_dicom.retrieving import CONTEXT, ENDLESS, Associations, Patience, Retrieving
from srm_plugin_dicom.stores import StoreService

CLOCK = SystemClock()
UNKNOWN_DESTINATION = 0xA801


class Source:
    """A PACS, and the associations that were opened to it."""

    def __init__(self, pacs: PacsSimulator, keep_s: float = 15.0, port: int = 0) -> None:
        self.opened: list[Retrieving] = []
        self.settings = PacsSettings("archive", pacs.ae_title, pacs.host, port or pacs.port)
        self.associations = Associations(self._associate, CLOCK, keep_s)

    def ask(self, patience_s: float = 20.0, patience: Patience = ENDLESS) -> int:
        request = partial(dimse.encode_move_request, MOVE, destination="NOBODY")
        identifier = images("1.2", ["1.2.3"], ["1.2.3.4"])
        end_s = CLOCK.monotonic_s() + patience_s
        return self.associations.retrieve(request, identifier, end_s, patience).status

    def _associate(self, timeout_s: float, _stored: tuple[Pair, ...]) -> Retrieving:
        contexts = [ProposedContext(CONTEXT, MOVE, (IMPLICIT_LITTLE_ENDIAN,))]
        self.opened.append(Retrieving(self.settings, "MDM1", contexts, CLOCK, timeout_s=timeout_s))
        return self.opened[-1]


@pytest.fixture
def pacs() -> Iterator[PacsSimulator]:
    with PacsSimulator() as simulator:
        yield simulator


def test_one_association_for_many_requests(pacs: PacsSimulator) -> None:
    source = Source(pacs)
    assert [source.ask() for _ in range(3)] == [UNKNOWN_DESTINATION] * 3
    assert len(source.opened) == 1
    source.associations.close()
    assert source.ask() == UNKNOWN_DESTINATION
    assert len(source.opened) == 2


class Wire:
    """A wire to a PACS that can be cut."""

    def __init__(self, pacs: PacsSimulator) -> None:
        self._there = pacs.host, pacs.port
        self._listener = socket.create_server((pacs.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break what is open; what comes later is carried."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._there, 10)
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


def test_one_that_has_died_is_replaced(pacs: PacsSimulator) -> None:
    wire = Wire(pacs)
    source = Source(pacs, port=wire.port)
    for _ in range(3):
        assert source.ask() == UNKNOWN_DESTINATION
        wire.cut()
    wire.close()
    with pytest.raises(SourceUnavailable):
        source.ask()
    assert len(source.opened) == 3


def test_an_idle_one_is_released(pacs: PacsSimulator) -> None:
    source = Source(pacs, keep_s=0.05)
    source.ask()
    until_s = time.monotonic() + 20.0
    while len(source.opened) < 2:
        assert time.monotonic() < until_s
        time.sleep(0.2)
        source.ask()


def test_the_deadline_ends_it(pacs: PacsSimulator) -> None:
    with pytest.raises(NotDelivered):
        Source(pacs).ask(patience_s=0.0)


@pytest.mark.parametrize("instances", [["1.2"], ["1.2.3"], ["1.2.3", "1.2.34", "1.2.345"]])
def test_an_identifier_is_what_pydicom_writes(instances: list[str]) -> None:
    written = Dataset()
    written.QueryRetrieveLevel = "IMAGE"
    written.StudyInstanceUID, written.SeriesInstanceUID = "1.22", "1.222"
    written.SOPInstanceUID = instances
    assert images("1.22", ["1.222"], instances) == encode(written, is_implicit_vr=True, is_little_endian=True)


def test_one_that_hangs_up_at_once_does_not_answer(
    pacs: PacsSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a firewall does, or an archive that is being killed: that is no defect of ours."""
    connect = socket.create_connection

    def connected(address: tuple[str, int], timeout_s: float) -> socket.socket:
        connection = connect(address, timeout_s)
        caller, _ = listener.accept()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
        select.select([connection], [], [], 20.0)
        return connection

    monkeypatch.setattr(socket, "create_connection", connected)
    with socket.create_server((pacs.host, 0)) as listener, pytest.raises(SourceUnavailable):
        Source(pacs, port=listener.getsockname()[1]).ask()


def test_a_process_that_has_many_files_open(pacs: PacsSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors are higher there than select() bears."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connect = socket.create_connection

    def connected(address: tuple[str, int], timeout_s: float) -> socket.socket:
        with connect(address, timeout_s) as low:
            high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 1024)
        return socket.socket(fileno=high)

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    monkeypatch.setattr(socket, "create_connection", connected)
    source = Source(pacs)
    try:
        assert [source.ask(patience=Patience(20.0)) for _ in range(2)] == [UNKNOWN_DESTINATION] * 2
        assert len(source.opened) == 1
        source.associations.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_answer_to_another_request_is_none(pacs: PacsSimulator) -> None:
    """An archive that says its last word twice must not have said it to what was asked then."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        last: list[dimse.Command] = []

        def answer(command: dimse.Command) -> None:
            for each, status in [*((one, 0) for one in last), (command, UNKNOWN_DESTINATION)]:
                said = dimse.encode_response(each, status)
                connection.sendall(pdu.encode_command(CONTEXT, said))
            last.append(command)

        with connection:
            reader = PduReader(connection, CLOCK, 262_144)
            request = pdu.parse_associate_request(reader.read(20.0)[1])
            answers = [pdu.AnsweredContext(CONTEXT, pdu.ContextAnswer.ACCEPTED, IMPLICIT_LITTLE_ENDIAN)]
            connection.sendall(pdu.encode_associate_accept(request, answers, 16_384))
            desk = MoveDesk(max_object_bytes=1, budget=MemoryBudget(1))
            stores = StoreService(connection, "", "", answers, desk, answer)
            with suppress(ConnectionClosed, PduError):
                while True:
                    stores.receive(reader.read(20.0)[1])

    with socket.create_server((pacs.host, 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        source = Source(pacs, port=listener.getsockname()[1])
        assert [source.ask() for _ in range(3)] == [UNKNOWN_DESTINATION] * 3
        source.associations.close()

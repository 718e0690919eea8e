"""The receiver, with pynetdicom as sender and with bare sockets as strangers and vandals."""

import os
import resource
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO

import pytest
from pydicom.dataset import Dataset, FileDataset
from pynetdicom.association import Association

from srm_dicom.clock import SystemClock
from srm_dicom.errors import NoSpace, NotAuthorised, TooLarge
from srm_dicom.testing.images import SeriesSpec, make_series, shipped
from srm_plugin_dicom.checkpoint import Entity
from srm_plugin_dicom.dimse import Status
from srm_plugin_dicom.receiver import Limits, ObjectInfo, Peer, Receiver

PEER = Peer("PACS", frozenset({"127.0.0.1"}))


class Keeper:
    """A handler that keeps what arrives, and fails as a test wants."""

    def __init__(self) -> None:
        self.objects: list[tuple[ObjectInfo, bytes]] = []
        self.abandoned = 0
        self.fail: dict[str, Exception] = {}

    def begin(self, info: ObjectInfo) -> "Keeper.Sink":
        self.check("begin")
        return Keeper.Sink(self, info)

    def check(self, step: str) -> None:
        if step in self.fail:
            raise self.fail[step]

    class Sink:
        def __init__(self, keeper: "Keeper", info: ObjectInfo) -> None:
            self.keeper, self.info, self.data = keeper, info, bytearray()

        def write(self, chunk: memoryview) -> None:
            self.keeper.check("write")
            self.data += chunk

        def finish(self) -> None:
            self.keeper.check("finish")
            self.keeper.objects.append((self.info, bytes(self.data)))

        def abandon(self) -> None:
            self.keeper.abandoned += 1


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def open_receiver(keeper: Keeper) -> Iterator[Callable[..., Receiver]]:
    opened: list[Receiver] = []

    def make(limits: Limits | None = None, peer: Peer = PEER) -> Receiver:
        receiver = Receiver(
            "MDM1", bind="127.0.0.1", port=0, peers=[peer], handler=keeper, clock=SystemClock(), limits=limits
        )
        receiver.start()
        opened.append(receiver)
        return receiver

    yield make
    for receiver in opened:
        receiver.stop()


def associate(
    receiver: Receiver, *datasets: Dataset, calling: str = "PACS", called: str = "MDM1"
) -> Association:
    entity = Entity(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = 30
    entity.add_requested_context("1.2.840.10008.1.1")
    for dataset in datasets:
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    return entity.associate("127.0.0.1", receiver.port, ae_title=called)


def encoded(dataset: FileDataset) -> bytes:
    """Return the data set's own bytes, without file meta."""
    whole = BytesIO()
    dataset.save_as(whole, enforce_file_format=True)
    data = whole.getvalue()
    length = struct.unpack_from("<L", data, 140)[0]
    return data[144 + length :]


def test_echo_and_store(open_receiver: Callable[..., Receiver], keeper: Keeper) -> None:
    receiver = open_receiver()
    series = make_series(SeriesSpec(slices=3))
    association = associate(receiver, series[0])
    assert association.is_established
    assert association.send_c_echo().Status == 0
    assert [association.send_c_store(each).Status for each in series] == [0, 0, 0]
    association.release()
    assert association.is_released
    assert [data for _, data in keeper.objects] == [encoded(each) for each in series]
    info = keeper.objects[0][0]
    assert (info.sop_instance, info.calling, info.address) == (series[0].SOPInstanceUID, "PACS", "127.0.0.1")


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "MR_small_RLE.dcm", "image_dfl.dcm", "ExplVR_BigEnd.dcm"])
def test_bytes_come_as_they_are(open_receiver: Callable[..., Receiver], keeper: Keeper, name: str) -> None:
    dataset = shipped(name)
    association = associate(open_receiver(), dataset)
    assert association.send_c_store(dataset).Status == 0
    association.release()
    assert keeper.objects[0][0].transfer_syntax == dataset.file_meta.TransferSyntaxUID
    if name != "image_dfl.dcm":
        assert keeper.objects[0][1] == encoded(dataset)


@pytest.mark.parametrize("step", ["begin", "write", "finish"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotAuthorised("unannounced"), Status.NOT_AUTHORISED),
        (NoSpace("full"), Status.OUT_OF_RESOURCES),
        (TooLarge("too large"), Status.OUT_OF_RESOURCES),
    ],
)
def test_an_error_is_a_status_and_the_next_object_goes_on(
    open_receiver: Callable[..., Receiver], keeper: Keeper, step: str, error: Exception, status: Status
) -> None:
    first, second = make_series(SeriesSpec(slices=2))
    association = associate(open_receiver(), first)
    keeper.fail[step] = error
    assert association.send_c_store(first).Status == status
    keeper.fail.clear()
    assert association.send_c_store(second).Status == 0
    association.release()
    assert len(keeper.objects) == 1


def test_a_defect_ends_one_association_only(open_receiver: Callable[..., Receiver], keeper: Keeper) -> None:
    receiver = open_receiver()
    (dataset,) = make_series(SeriesSpec(slices=1))
    other = associate(receiver)
    broken = associate(receiver, dataset)
    keeper.fail["finish"] = KeyError("CANARY")
    assert "Status" not in broken.send_c_store(dataset)
    assert other.send_c_echo().Status == 0
    other.release()


@pytest.mark.parametrize(("calling", "called"), [("PACS", "OTHER"), ("STRANGER", "MDM1"), ("PACS ", "mdm1")])
def test_titles_that_are_not_configured(
    open_receiver: Callable[..., Receiver], calling: str, called: str
) -> None:
    receiver = open_receiver(Limits(close_s=30))
    tried = [associate(receiver, calling=calling, called=called) for _ in range(3)]
    assert not any(each.is_established for each in tried)
    # Now and then pynetdicom takes the end of the connection for the answer, and does not read why.
    assert any(each.is_rejected for each in tried)


def test_a_connection_from_the_address_of_no_peer(open_receiver: Callable[..., Receiver]) -> None:
    receiver = open_receiver(peer=Peer("PACS", frozenset({"192.0.2.1"})))
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as stranger:
        assert stranger.recv(1) == b""
    assert receiver.associations == 0


def test_one_association_too_many(open_receiver: Callable[..., Receiver]) -> None:
    receiver = open_receiver(Limits(max_associations=1))
    first = associate(receiver)
    assert first.is_established
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as second:
        assert second.recv(100) == bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))
    first.release()
    wait_until(lambda: receiver.associations == 0)
    assert associate(receiver).is_established


def wait_until(true: Callable[[], bool], timeout_s: float = 5.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x01",
        b"\x01\x00\x00\x00\x01\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff",
        b"\x04\x00\x00\x00\x00\x04abcd",
        b"\x01\x00\x00\x00\x00\x04abcd",
        b"\x16\x03\x01" + b"\0" * 100,
    ],
)
def test_a_vandal_is_shut_out_and_harms_nobody(open_receiver: Callable[..., Receiver], said: bytes) -> None:
    receiver = open_receiver(Limits(negotiate_s=0.3))
    honest = associate(receiver)
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as vandal:
        vandal.sendall(said)
        answer = vandal.recv(100)
        assert answer == b"" or answer[0] == 7
    assert honest.send_c_echo().Status == 0
    honest.release()
    wait_until(lambda: receiver.associations == 0)


def test_a_drip_of_bytes_is_no_life(open_receiver: Callable[..., Receiver]) -> None:
    receiver = open_receiver(Limits(negotiate_s=0.3))
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as drip:
        started_s = time.monotonic()
        try:
            for byte in b"\x01\x00\x00\x00\x10\x00" + b"x" * 100:
                drip.sendall(bytes((byte,)))
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - started_s < 8
    wait_until(lambda: receiver.associations == 0)


def test_an_idle_association_ends(open_receiver: Callable[..., Receiver]) -> None:
    receiver = open_receiver(Limits(idle_s=0.3))
    association = associate(receiver)
    assert association.is_established
    wait_until(lambda: receiver.associations == 0)


def pdu_bytes(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


CT = b"1.2.840.10008.5.1.4.1.1.2"
ASSOCIATE = pdu_bytes(
    1,
    struct.pack(">HH16s16s32x", 1, 0, b"MDM1".ljust(16), b"PACS".ljust(16))
    + item(0x20, b"\x01\0\0\0" + item(0x30, CT) + item(0x40, b"1.2.840.10008.1.2")),
)
STORE = (
    element(2, CT + b"\0")
    + element(0x100, b"\x01\0")
    + element(0x110, b"\x01\0")
    + element(0x800, b"\0\0")
    + element(0x1000, b"1.2.3\0")
)


def data_pdu(flags: int, value: bytes, context: int = 1) -> bytes:
    return pdu_bytes(4, struct.pack(">LBB", len(value) + 2, context, flags) + value)


def test_an_object_that_stops_half_way_is_abandoned(
    open_receiver: Callable[..., Receiver], keeper: Keeper
) -> None:
    receiver = open_receiver()
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as sender:
        sender.sendall(ASSOCIATE + data_pdu(3, STORE) + data_pdu(0, b"half of it"))
        assert sender.recv(1000)[0] == 2
    wait_until(lambda: receiver.associations == 0)
    assert not keeper.objects
    assert keeper.abandoned == 1


@pytest.mark.parametrize(
    "sent",
    [
        data_pdu(0, b"data without a command"),
        data_pdu(3, STORE, context=3),
        data_pdu(3, STORE) + data_pdu(3, STORE),
        data_pdu(3, STORE) + data_pdu(2, b"data", context=3),
        data_pdu(1, b"x" * 20_000),
        data_pdu(3, STORE.replace(b"\x00\x08\x02\x00\x00\x00\0\0", b"\x00\x08\x02\x00\x00\x00\x01\x01")),
        pdu_bytes(4, b""),
        ASSOCIATE,
        pdu_bytes(9, b""),
    ],
)
def test_what_breaks_the_rules_is_aborted(
    open_receiver: Callable[..., Receiver], keeper: Keeper, sent: bytes
) -> None:
    receiver = open_receiver()
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as sender:
        sender.sendall(ASSOCIATE)
        assert sender.recv(1000)[0] == 2
        sender.sendall(sent)
        assert sender.recv(1000)[0] == 7
        assert sender.recv(1000) == b""
    assert not keeper.objects


def test_an_operation_that_is_not_ours(open_receiver: Callable[..., Receiver]) -> None:
    receiver = open_receiver()
    find = STORE.replace(element(0x100, b"\x01\0"), element(0x100, b"\x20\0"))
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as sender:
        sender.sendall(ASSOCIATE)
        sender.recv(1000)
        sender.sendall(data_pdu(3, find) + data_pdu(2, b"identifier"))
        assert element(0x900, b"\x11\x02") in sender.recv(1000)


def test_a_large_object_is_not_held(open_receiver: Callable[..., Receiver], keeper: Keeper) -> None:
    received = 0

    class Counting(Keeper.Sink):
        def write(self, chunk: memoryview) -> None:
            nonlocal received
            received += len(chunk)

    keeper.begin = lambda info: Counting(keeper, info)  # type: ignore[method-assign]
    receiver = open_receiver()
    part = data_pdu(0, bytes(250_000))
    tracemalloc.start()
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as sender:
        sender.sendall(ASSOCIATE)
        sender.recv(1000)
        sender.sendall(data_pdu(3, STORE))
        tracemalloc.reset_peak()
        for _ in range(200):
            sender.sendall(part)
        sender.sendall(data_pdu(2, b"end"))
        assert element(0x900, b"\0\0") in sender.recv(1000)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert received == 200 * 250_000 + 3
    assert peak_bytes < 4_000_000


def test_stopping_closes_everything(open_receiver: Callable[..., Receiver]) -> None:
    receiver = open_receiver()
    associate(receiver)
    receiver.stop()
    assert receiver.associations == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", receiver.port), timeout=1)


def test_a_process_without_descriptors_listens_again_when_it_has_some(
    open_receiver: Callable[..., Receiver],
) -> None:
    receiver, caller = open_receiver(), socket.socket()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (caller.fileno() + 64, hard))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        caller.connect(("127.0.0.1", receiver.port))
        time.sleep(0.3)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    association = associate(receiver)
    assert association.is_established
    assert association.send_c_echo().Status == 0
    association.release()
    caller.close()


def test_a_process_without_threads_turns_one_away_and_goes_on(
    open_receiver: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, start = open_receiver(), threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread._target == receiver._serve:  # type: ignore[attr-defined]
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with socket.create_connection(("127.0.0.1", receiver.port), 5) as caller:
            assert caller.recv(100) == bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))
    wait_until(lambda: receiver.associations == 0)
    assert associate(receiver).is_established

"""Receiver and SCU against programs that others wrote: dcmtk's storescu and dcmqrscp, and Orthanc."""

import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset

from srm_dicom.clock import SystemClock
from srm_dicom.errors import SourceRefused, SourceUnavailable
from srm_dicom.testing.archives import SYSTEM_PATH, Dcmqrscp, Orthanc, program, storescu
from srm_dicom.testing.images import SeriesSpec, make_series, save, shipped
from srm_dicom.testing.ports import free_port
from srm_plugin_dicom.archive import Wanted
from srm_plugin_dicom.moves import MemoryBudget, MoveDesk, Visit
from srm_plugin_dicom.moving import MoveArchive
from srm_plugin_dicom.pacs import Pacs, PacsSettings
from srm_plugin_dicom.receiver import ObjectInfo, Peer, Receiver
from srm_plugin_dicom.selector import Level

CLOCK = SystemClock()
PEERS = [Peer("PACS", frozenset({"127.0.0.1"})), Peer("STORESCU", frozenset({"127.0.0.1"}))]


def dataset_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return data[144 + struct.unpack_from("<L", data, 140)[0] :]


class Node:
    """Our AE with a desk of moves; what arrives is kept."""

    def __init__(self) -> None:
        self.desk = MoveDesk(max_object_bytes=1 << 30, budget=MemoryBudget(1 << 30))
        self.receiver = Receiver(
            "MDM1", bind="127.0.0.1", port=free_port(), peers=PEERS, handler=self.desk, clock=CLOCK
        )
        self.receiver.start()
        self.arrived: dict[str, tuple[ObjectInfo, bytes]] = {}

    def visit(self, *instances: str) -> Visit:
        return Visit(frozenset({"PACS", "STORESCU"}), instances, self.keep, CLOCK)

    def keep(self, info: ObjectInfo, data: bytearray) -> None:
        assert info.sop_instance not in self.arrived
        self.arrived[info.sop_instance] = (info, bytes(data))


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.receiver.stop()


SHIPPED = ["CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "image_dfl.dcm", "ExplVR_BigEnd.dcm"]


@pytest.mark.interop("storescu")
def test_storescu_sends_a_series(node: Node, tmp_path: Path) -> None:
    series = make_series(SeriesSpec(slices=20, rows=256, columns=256))
    paths = save(series, tmp_path)
    with node.desk.expecting(node.visit(*(each.SOPInstanceUID for each in series))):
        storescu(paths, node.receiver.port, called="MDM1", calling="STORESCU", options=["-xe"])
    for each, path in zip(series, paths, strict=True):
        assert node.arrived[each.SOPInstanceUID][1] == dataset_bytes(path)


@pytest.mark.interop("storescu")
def test_storescu_is_refused_what_no_move_announced(node: Node, tmp_path: Path) -> None:
    paths = save(make_series(SeriesSpec(slices=1)), tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        storescu(paths, node.receiver.port, called="MDM1", calling="STORESCU", options=["+e"])
    with pytest.raises(subprocess.CalledProcessError):
        storescu(paths, node.receiver.port, called="MDM1", calling="STRANGER")
    assert not node.arrived


@pytest.mark.interop("echoscu")
def test_echoscu(node: Node) -> None:
    command = [program("echoscu"), "-aet", "PACS", "-aec", "MDM1", "127.0.0.1", str(node.receiver.port)]
    subprocess.run(command, check=True, timeout=20, env={"PATH": SYSTEM_PATH})


@pytest.fixture(
    params=[
        pytest.param(Orthanc, marks=pytest.mark.interop("Orthanc")),
        pytest.param(Dcmqrscp, marks=pytest.mark.interop("dcmqrscp", "storescu")),
    ]
)
def archive(request: pytest.FixtureRequest, node: Node, tmp_path: Path) -> Iterator[Orthanc | Dcmqrscp]:
    archive = request.param(tmp_path / "pacs", {"MDM1": node.receiver.port, "OTHER": free_port()})
    yield archive
    archive.stop()


def pacs(archive: Orthanc | Dcmqrscp, title: str = "MDM1") -> Pacs:
    settings = PacsSettings("archive", archive.ae_title, "127.0.0.1", archive.port, 5, 20)
    return Pacs(settings, title)


def move(
    archive: Orthanc | Dcmqrscp, node: Node, series: list[FileDataset], *extra: str, destination: str = "MDM1"
) -> int:
    wanted = [str(each.SOPInstanceUID) for each in series] + list(extra)
    source = MoveArchive(
        pacs(archive), "MDM1", senders=frozenset({archive.ae_title}), destination=destination, desk=node.desk,
        listen=lambda: None, settle_s=0.3, clock=CLOCK,
    )  # fmt: skip
    missing = set(wanted)

    def deliver(info: ObjectInfo, data: bytearray) -> None:
        node.keep(info, data)
        missing.discard(info.sop_instance)

    with closing(source):
        source.fetch(
            [Wanted(series[0].StudyInstanceUID, series[0].SeriesInstanceUID, tuple(wanted))], deliver, 30
        )
    return len(missing)


def test_one_move_with_a_list(archive: Orthanc | Dcmqrscp, node: Node) -> None:
    series = make_series(SeriesSpec(slices=100, rows=128, columns=128))
    archive.add(series)
    assert move(archive, node, series[:80]) == 0
    assert node.arrived.keys() == {each.SOPInstanceUID for each in series[:80]}
    for each in series[:80]:
        info, data = node.arrived[each.SOPInstanceUID]
        received = read(info, data)
        assert received.PixelData == each.PixelData
        assert info.transfer_syntax == each.file_meta.TransferSyntaxUID


def read(info: ObjectInfo, data: bytes) -> FileDataset:
    meta = b"".join(
        struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value
        for element, text in ((2, info.sop_class), (3, info.sop_instance), (16, info.transfer_syntax))
        for value in [text.encode() + b"\0" * (len(text) % 2)]
    )
    head = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta))
    return dcmread(BytesIO(bytes(128) + b"DICM" + head + meta + data))


@pytest.mark.interop("Orthanc")
@pytest.mark.parametrize("name", SHIPPED)
def test_the_transfer_syntax_is_that_of_the_archive(node: Node, tmp_path: Path, name: str) -> None:
    archive = Orthanc(tmp_path / "pacs", {"MDM1": node.receiver.port})
    dataset = shipped(name)
    try:
        archive.add([dataset])
        assert move(archive, node, [dataset]) == 0
    finally:
        archive.stop()
    info, data = node.arrived[dataset.SOPInstanceUID]
    assert info.transfer_syntax == dataset.file_meta.TransferSyntaxUID
    assert read(info, data).PixelData == dataset.PixelData


def test_success_is_what_arrived(archive: Orthanc | Dcmqrscp, node: Node) -> None:
    series = make_series(SeriesSpec(slices=3))
    archive.add(series)
    assert move(archive, node, series, "1.2.3.4.5") == 1
    assert len(node.arrived) == 3


def test_a_destination_that_the_archive_does_not_know(archive: Orthanc | Dcmqrscp, node: Node) -> None:
    series = make_series(SeriesSpec(slices=1))
    archive.add(series)
    with pytest.raises(SourceRefused):
        move(archive, node, series, destination="NOWHERE")


def test_finding(archive: Orthanc | Dcmqrscp) -> None:
    archive.add(make_series(SeriesSpec(slices=2)) + make_series(SeriesSpec("MR", 3, study="2", number=2)))
    with pacs(archive).session() as session:
        studies = session.find(Level.STUDY, {"StudyInstanceUID": "", "PatientID": ""})
        assert len(studies) == 2
        images = []
        for study in studies:
            above = {"StudyInstanceUID": study["StudyInstanceUID"]}
            for series in session.find(Level.SERIES, above | {"SeriesInstanceUID": "", "Modality": ""}):
                keys = above | {"SeriesInstanceUID": series["SeriesInstanceUID"], "SOPInstanceUID": ""}
                images += [(series["Modality"], each) for each in session.find(Level.IMAGE, keys)]
    assert sorted(modality for modality, _ in images) == ["CT"] * 2 + ["MR"] * 3


def test_echo(archive: Orthanc | Dcmqrscp) -> None:
    pacs(archive).echo()
    archive.stop()
    with pytest.raises(SourceUnavailable):
        pacs(archive).echo()


def test_a_stranger_may_not_find(archive: Orthanc | Dcmqrscp) -> None:
    with pytest.raises((SourceRefused, SourceUnavailable)), pacs(archive, "STRANGER").session() as session:
        session.find(Level.STUDY, {"StudyInstanceUID": ""})


def test_two_moves_at_once(archive: Orthanc | Dcmqrscp, node: Node) -> None:
    first = make_series(SeriesSpec(slices=20))
    second = make_series(SeriesSpec(slices=20, number=2))
    archive.add(first + second)
    missing: list[int] = []

    def run(series: list[FileDataset]) -> None:
        missing.append(move(archive, node, series))

    threads = [threading.Thread(target=run, args=(series,)) for series in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert missing == [0, 0]
    assert len(node.arrived) == 40

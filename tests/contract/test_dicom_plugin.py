"""The DICOM plugin keeps the contract, against the simulated PACS; and how it takes a PACS's faults."""

import copy
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from srm_dicom.clock import SystemClock
from srm_dicom.errors import (
    ConfigError,
    InternalError,
    InvalidRequest,
    NotDelivered,
    NotSupported,
    ObjectRefused,
    Overloaded,
    SourceRefused,
    SourceUnavailable,
)
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Discovered, FileRef, Patient, PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.project import Release
from srm_dicom.testing.contract import OTHER_RELEASE, RELEASE, PluginContract, PluginSite
from srm_dicom.testing.images import SeriesSpec, identities, make_series
from srm_dicom.testing.pacs import Misnamed, PacsSimulator
from srm_dicom.testing.ports import free_port
from srm_dicom.testing.sink import MemorySink
from srm_plugin_dicom.archive import Wanted
from srm_plugin_dicom.checkpoint import Entity
from srm_plugin_dicom.plugin import DicomPlugin
from srm_plugin_dicom.reference import open_ref

CT = make_series(SeriesSpec("CT", 3))
MR = make_series(SeriesSpec("MR", 2, study="2", date="20240301"))


def make_plugin(pacs: PacsSimulator, secrets: Path, retrieve: str = "move", **more: object) -> DicomPlugin:
    settings: dict[str, object] = {
        "sources": [
            {
                "name": "main",
                "ae_title": "PACS",
                "host": "127.0.0.1",
                "port": pacs.port,
                "retrieve": retrieve,
            }
        ],
        "moves": {"ae_title": "MDM1", "port": free_port()},
        "arrivals": {"ae_title": "MDMIN", "port": free_port()},
        "connect_s": 10.0,
        "answer_s": 5.0,
        "settle_s": 0.3,
    }
    plugin = DicomPlugin(PluginContext("dicom", settings | more, secrets, SystemClock()))
    pacs.destinations["MDM1"] = ("127.0.0.1", settings["moves"]["port"])  # type: ignore[index]
    pacs.forward_to = ("MDMIN", "127.0.0.1", settings["arrivals"]["port"])  # type: ignore[index]
    return plugin


@pytest.fixture
def pacs() -> Iterator[PacsSimulator]:
    with PacsSimulator() as pacs:
        pacs.add(CT + MR)
        yield pacs


@pytest.fixture
def plugin(pacs: PacsSimulator, tmp_path: Path) -> Iterator[DicomPlugin]:
    plugin = make_plugin(pacs, tmp_path)
    yield plugin
    plugin.close()


@pytest.fixture
def host(plugin: DicomPlugin) -> PluginHost:
    return PluginHost(plugin, name="dicom")


class TestDicomPlugin(PluginContract):
    retrieve = "move"

    @pytest.fixture
    def site(self, pacs: PacsSimulator, tmp_path: Path) -> PluginSite:
        plugin = make_plugin(pacs, tmp_path, self.retrieve)
        key = (tmp_path / "ref").read_bytes()
        return PluginSite(
            plugin=plugin,
            restart=lambda: make_plugin(pacs, tmp_path, self.retrieve),
            selector="source=main",
            identities=identities(CT + MR),
            lose=lambda item: pacs.remove(open_ref(key, item.guid, item.plugin_ref).instance),
            halt=pacs.stop,
        )

    def test_a_patients_files_are_below_what_the_patient_derives_to(
        self, site: PluginSite, host: PluginHost
    ) -> None:
        for release in (RELEASE, OTHER_RELEASE):
            found = [each.path for each in host.discover(site.selector, release)]
            expected = {
                host.patient_path(Patient(image.PatientID, image.IssuerOfPatientID), release)
                for image in (CT[0], MR[0])
            }
            assert {path[:1] for path in found} == expected
            assert not {path[:1] for path in found} & {host.patient_path(Patient(CT[0].PatientID), release)}

    def test_what_is_sent_for_one_release_is_not_taken_for_another(
        self, site: PluginSite, host: PluginHost, pacs: PacsSimulator
    ) -> None:
        """Two visits wait for the same objects; the first one's archive takes its time."""
        del site
        first, second = refs(host), refs(host, release=OTHER_RELEASE)
        slow = pacs.faults.recall_s = {str(CT[0].StudyInstanceUID): 60.0}
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(stage, host, first, 60)
            wait_for(lambda: pacs.moves + pacs.gets)
            pacs.faults.recall_s = {}
            assert set(stage(host, second).values()) == {None}
            slow.clear()
            assert set(waiting.result().values()) == {None}


class TestDicomPluginByGet(TestDicomPlugin):
    retrieve = "get"

    def test_no_port_is_opened_and_nothing_is_moved(
        self, site: PluginSite, host: PluginHost, pacs: PacsSimulator
    ) -> None:
        pacs.destinations.clear()
        assert set(stage(host, refs(host, "")).values()) == {None}
        assert (pacs.moves, pacs.gets) == (0, 2)


def refs(host: PluginHost, selector: str = "Modality=CT", release: Release = RELEASE) -> list[FileRef]:
    return [FileRef(each.guid, each.plugin_ref, release) for each in host.discover(selector, release)]


def stage(host: PluginHost, files: list[FileRef], deadline_s: float = 10) -> dict[Guid, object]:
    sink = MemorySink()
    outcomes: dict[Guid, object] = {}
    for batch in host.plan(files):
        outcomes |= host.stage(batch, sink, deadline_s)
    assert sink.files.keys() == {guid for guid, outcome in outcomes.items() if outcome is None}
    return outcomes


@pytest.mark.parametrize(
    ("selector", "count"),
    [
        ("", 5),
        ("source=main Modality=CT", 3),
        ("Modality=CT\\MR", 5),
        ("StudyDate=20240201-", 2),
        ("PatientName=CANARY*", 5),
        (f"SeriesInstanceUID={MR[0].SeriesInstanceUID}", 2),
        (f"SOPInstanceUID={MR[0].SOPInstanceUID}", 1),
        ("PatientID=nobody", 0),
        ("ModalitiesInStudy=MR InstanceNumber=2", 1),
    ],
)
def test_selectors(host: PluginHost, selector: str, count: int) -> None:
    assert len(refs(host, selector)) == count


def test_answers_are_filtered_again(host: PluginHost, pacs: PacsSimulator) -> None:
    pacs.faults.ignores_keys = frozenset({"Modality", "ModalitiesInStudy", "StudyDate", "BodyPartExamined"})
    assert len(refs(host, "Modality=CT")) == 3
    assert len(refs(host, "StudyDate=20240301")) == 2
    pacs.faults.tells_little = True
    assert len(refs(host, "Modality=CT")) == 3
    assert not refs(host, "BodyPartExamined=CHEST")


def test_a_batch_is_one_move(host: PluginHost, pacs: PacsSimulator) -> None:
    assert set(stage(host, refs(host, "")).values()) == {None}
    assert pacs.moves == 2


def test_what_is_staged_has_the_pixels_and_no_identity(host: PluginHost) -> None:
    files = refs(host)
    sink = MemorySink()
    host.stage(host.plan(files)[0], sink, 10)
    staged = [dcmread(BytesIO(data)) for data in sink.files.values()]
    assert sorted(each.PixelData for each in staged) == sorted(each.PixelData for each in CT)
    assert {each.file_meta.TransferSyntaxUID for each in staged} == {CT[0].file_meta.TransferSyntaxUID}
    for data in sink.files.values():
        assert not [identity for identity in identities(CT) if identity in data]
    reports = [json.loads(slot.report) for slot in sink.slots.values()]
    assert {report["profile"] for report in reports} == {"basic"}
    assert all("00100010" in report["emptied"] for report in reports)


def test_an_object_that_may_not_leave_is_refused_here_and_taken_there(
    host: PluginHost, pacs: PacsSimulator
) -> None:
    mixed = make_series(SeriesSpec("CT", 3, number=9))
    mixed[1].BurnedInAnnotation = "YES"
    pacs.add(mixed)
    outcomes = stage(host, refs(host, f"SeriesInstanceUID={mixed[0].SeriesInstanceUID}"))
    assert sorted(type(each).__name__ for each in outcomes.values()) == [
        "NoneType",
        "NoneType",
        "ObjectRefused",
    ]
    assert pacs.moves == 1


def test_a_profile_that_this_program_does_not_have(host: PluginHost) -> None:
    release = Release("trial", "basic", "v999")
    files = [FileRef(each.guid, each.plugin_ref, release) for each in host.discover("Modality=CT", release)]
    assert {type(each) for each in stage(host, files).values()} == {NotSupported}


def test_a_batch_is_bounded(pacs: PacsSimulator, tmp_path: Path) -> None:
    plugin = make_plugin(pacs, tmp_path, batch_files=2)
    host = PluginHost(plugin, name="dicom")
    assert sorted(len(batch.files) for batch in host.plan(refs(host))) == [1, 2]
    plugin.close()


def test_success_that_moved_nothing(host: PluginHost, pacs: PacsSimulator) -> None:
    files = refs(host)
    pacs.faults.moves_nothing = True
    assert {type(each) for each in stage(host, files).values()} == {NotDelivered}


def test_another_object_than_was_asked_for(host: PluginHost, pacs: PacsSimulator) -> None:
    files = refs(host)[:1]
    pacs.faults.wrong_instance = True
    # Refused here, it is a failed sub-operation there, and the PACS says so (0xA702).
    assert {type(each) for each in stage(host, files).values()} == {SourceUnavailable}


def test_a_move_that_breaks_off(host: PluginHost, pacs: PacsSimulator) -> None:
    files = refs(host)
    pacs.faults.drops_after = 1
    outcomes = list(stage(host, files).values())
    assert outcomes.count(None) == 1
    assert [type(each) for each in outcomes if each].count(SourceUnavailable) == 2


def test_a_slow_archive_is_cut_at_the_deadline(host: PluginHost, pacs: PacsSimulator) -> None:
    files = refs(host)
    pacs.faults.slow_s = 2.0
    started_s = time.monotonic()
    outcomes = list(stage(host, files, deadline_s=3.0).values())
    assert time.monotonic() - started_s < len(files) * pacs.faults.slow_s
    assert outcomes.count(None) == 1
    assert {type(each) for each in outcomes if each} == {NotDelivered}


@pytest.mark.parametrize("retrieve", ["move", "get"])
def test_our_own_bounds_are_no_failure_of_the_archive(
    pacs: PacsSimulator, tmp_path: Path, retrieve: str
) -> None:
    large = make_series(SeriesSpec("CT", 1, rows=256, columns=256, study="3"))
    pacs.add(large)
    bounds = {"max_held_bytes": Overloaded, "max_object_bytes": ObjectRefused}
    for bound, error in bounds.items():
        plugin = make_plugin(pacs, tmp_path, retrieve, **{bound: 100_000})
        host = PluginHost(plugin, name="dicom")
        try:
            for _ in range(2):
                asked = pacs.moves + pacs.gets
                outcomes = stage(host, refs(host, f"SOPInstanceUID={large[0].SOPInstanceUID}"))
                assert [type(each) for each in outcomes.values()] == [error]
                assert pacs.moves + pacs.gets == asked + 1
            assert set(stage(host, refs(host, "Modality=MR")).values()) == {None}
        finally:
            plugin.close()


@pytest.mark.parametrize(("status", "error"), [(0xA702, SourceUnavailable), (0xA900, SourceRefused)])
def test_a_refusal(host: PluginHost, pacs: PacsSimulator, status: int, error: type[Exception]) -> None:
    files = refs(host)
    pacs.faults.refuses_move = pacs.faults.refuses_find = status
    assert {type(each) for each in stage(host, files).values()} == {error}
    with pytest.raises(error) as caught:
        refs(host)
    assert "CANARY" not in str(caught.value)


def test_a_destination_that_the_archive_does_not_know(host: PluginHost, pacs: PacsSimulator) -> None:
    files = refs(host)
    pacs.destinations.clear()
    assert {type(each) for each in stage(host, files).values()} == {SourceRefused}


def test_an_object_that_nobody_asked_for_is_refused(
    plugin: DicomPlugin, host: PluginHost, pacs: PacsSimulator
) -> None:
    stage(host, refs(host))
    _, port = pacs.destinations["MDM1"]
    entity = Entity(ae_title="PACS")
    entity.add_requested_context(CT[0].SOPClassUID, CT[0].file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="MDM1")
    assert association.send_c_store(CT[0]).Status == 0x0124
    association.release()


def test_arrivals_are_what_discovery_finds(host: PluginHost, pacs: PacsSimulator) -> None:
    arrived: list[Discovered] = []
    other: list[Discovered] = []
    fresh = make_series(SeriesSpec("CT", 4, number=7))
    with host.listen({RELEASE: arrived.append, OTHER_RELEASE: other.append}):
        pacs.add(fresh, forward=True)
        wait_for(lambda: len(pacs.forwarded) == 4)
    assert len(arrived) == len(other) == 4
    found = {
        each.guid: each for each in host.discover(f"SeriesInstanceUID={fresh[0].SeriesInstanceUID}", RELEASE)
    }
    assert {each.guid for each in arrived} == found.keys()
    assert not {each.guid for each in other} & found.keys()
    for each in arrived:
        assert (each.path, each.group, each.plugin_ref) == (
            found[each.guid].path,
            found[each.guid].group,
            found[each.guid].plugin_ref,
        )


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
def test_an_arrival_under_the_name_of_another_object_is_refused(
    host: PluginHost, pacs: PacsSimulator, keyword: str
) -> None:
    arrived: list[Discovered] = []
    fresh = make_series(SeriesSpec("CT", 2, number=7))
    named = copy.deepcopy(fresh[0])
    setattr(named, keyword, "1.2.840.10008.5.1.4.1.1.4")
    with host.listen({RELEASE: arrived.append}):
        pacs.add([Misnamed(fresh[0], named), fresh[1]], forward=True)
        wait_for(lambda: arrived)
    (found,) = host.discover(f"SOPInstanceUID={fresh[1].SOPInstanceUID}", RELEASE)
    assert [each.guid for each in arrived] == [found.guid]


def test_an_arrival_that_did_not_become_durable_is_not_acknowledged(
    host: PluginHost, pacs: PacsSimulator
) -> None:
    seen: list[Discovered] = []

    def arrived(item: Discovered) -> None:
        seen.append(item)
        if len(seen) == 1:
            raise InternalError("the journal is full")

    with host.listen({RELEASE: arrived}):
        pacs.add(CT, forward=True)
        wait_for(lambda: len(seen) == 3)
        wait_for(lambda: len(pacs.forwarded) == 2)


def wait_for(true: object, timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_checks(host: PluginHost, pacs: PacsSimulator) -> None:
    assert [check.passed for check in host.checks()] == [True, True, True]
    pacs.faults.moves_nothing = True
    assert [check.passed for check in host.checks()] == [True, True, False]
    pacs.stop()
    checks = list(host.checks())
    assert [check.passed for check in checks] == [True, False, False]
    assert not [check for check in checks if "CANARY" in check.detail]


def test_an_archive_whose_name_nobody_knows_does_not_answer(
    host: PluginHost, pacs: PacsSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    assert all(check.passed for check in host.checks())
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", away)
        with pytest.raises(SourceUnavailable):
            refs(host)
        told = {check.name: check.passed for check in host.checks()}
        assert told == {"AE MDM1": True, "PACS main: C-ECHO": False, "PACS main: C-MOVE": False}


def test_an_archive_elsewhere_cannot_send_to_loopback(pacs: PacsSimulator, tmp_path: Path) -> None:
    """All that such an archive says is that the move has failed."""
    source = {"name": "main", "ae_title": "PACS", "host": "192.0.2.1", "port": pacs.port}
    plugin = make_plugin(pacs, tmp_path, sources=[source])
    listens = next(iter(plugin.checks()))
    plugin.close()
    assert (listens.name, listens.passed) == ("AE MDM1", False)
    assert "no other machine can send to" in listens.detail
    assert "`bind`" in listens.detail


def test_a_check_while_a_stager_holds_the_port(
    plugin: DicomPlugin, pacs: PacsSimulator, tmp_path: Path
) -> None:
    assert all(check.passed for check in plugin.checks()), "it holds the port from now on"
    beside = DicomPlugin(PluginContext("dicom", plugin.context.settings, tmp_path, SystemClock()))
    fetched = list(beside.checks())[-1]
    assert fetched.passed, fetched.detail
    assert "to the stager that runs here" in fetched.detail
    pacs.faults.moves_nothing = True
    fetched = list(beside.checks())[-1]
    assert (fetched.passed, "no image came" in fetched.detail) == (False, True)
    plugin.close()
    pacs.faults.moves_nothing = False
    assert "stager" not in list(beside.checks())[-1].detail
    beside.close()


def test_a_port_that_somebody_else_holds(plugin: DicomPlugin, pacs: PacsSimulator) -> None:
    moves = plugin.context.settings["moves"]
    with socket.create_server(("0.0.0.0", moves["port"])):
        fetched = list(plugin.checks())[-1]
        assert (fetched.passed, "does not answer" in fetched.detail) == (False, True)
        with pytest.raises(Overloaded, match="cannot listen"):
            plugin._archives["main"].fetch([Wanted("1", "2", ("3",))], lambda *_: None, 5.0)


def test_a_source_that_is_not_configured(host: PluginHost) -> None:
    with pytest.raises(InvalidRequest):
        refs(host, "source=elsewhere")


def test_secrets_stay_secret(plugin: DicomPlugin, pacs: PacsSimulator, tmp_path: Path) -> None:
    for name in ("master", "ref"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    (tmp_path / "ref").chmod(0o644)
    with pytest.raises(ConfigError):
        make_plugin(pacs, tmp_path)


SOURCE = {"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sources": []},
        {"sources": [SOURCE, SOURCE]},
        {"sources": [SOURCE | {"ae_title": "longer than sixteen"}]},
        {"sources": [SOURCE | {"port": 0x10000}]},
        {"sources": [SOURCE | {"naem": "x"}]},
        {"sources": [SOURCE | {"name": "a b"}]},
        {"sources": [SOURCE], "batch_files": 0},
        {"sources": [SOURCE], "peers": [{"ae_title": "CT1", "addresses": ["127.0.0.1"], "source": "other"}]},
    ],
)
def test_settings_are_checked(settings: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        DicomPlugin(PluginContext("dicom", settings, tmp_path, SystemClock()))

"""The plugin keeps its contract with real archives: by C-MOVE, C-GET and DICOMweb, in the clear and over TLS.

Debian's dcmqrscp, movescu and getscu (3.6.7) have no TLS: it gets a relay on either side, as a hospital
would put stunnel there. dcmtk's programs that have TLS are tried against our receiver.
"""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.errors import Aborted, ConfigError, SourceUnavailable
from srm_dicom.plugin.api import FileRef, PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_dicom.testing.archives import (
    ORTHANC_PLUGINS,
    SYSTEM_PATH,
    ArchiveTls,
    Dcmqrscp,
    Orthanc,
    program,
)
from srm_dicom.testing.contract import RELEASE, PluginContract, PluginSite
from srm_dicom.testing.images import SeriesSpec, identities, make_series, save
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.ports import free_port
from srm_dicom.testing.sink import MemorySink, MemorySlot
from srm_plugin_dicom.arrivals import ArrivalDesk
from srm_plugin_dicom.association import Limits
from srm_plugin_dicom.plugin import DicomPlugin
from srm_plugin_dicom.receiver import Peer, Receiver
from srm_plugin_dicom.reference import open_ref
from srm_plugin_dicom.source_settings import TlsSettings

IMAGES = make_series(SeriesSpec("CT", 3)) + make_series(SeriesSpec("MR", 2, study="2"))
Archive = Orthanc | Dcmqrscp


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> TestPki:
    return TestPki(tmp_path_factory.mktemp("pki"), fast=True)


def files(pki: TestPki, name: str) -> ArchiveTls:
    host = pki.host(name)
    return ArchiveTls(host.certificate, host.key, pki.directory / "ca" / "cert.pem")


def table(tls: ArchiveTls | None) -> dict[str, str] | None:
    return tls and {
        "certificate": str(tls.certificate),
        "key": str(tls.key),
        "authorities": str(tls.authorities),
    }


def make_plugin(
    secrets: Path, sources: list[dict[str, object]], port: int, tls: ArchiveTls | None = None, **more: object
) -> DicomPlugin:
    settings = {
        "sources": sources,
        "moves": {"ae_title": "MDM1", "port": port, "tls": table(tls)},
        "connect_s": 3.0,
        "answer_s": 10.0,
        "settle_s": 0.3,
        **more,
    }
    return DicomPlugin(PluginContext("dicom", settings, secrets, SystemClock()))


def dicom_source(archive: Archive, tls: ArchiveTls | None = None, **more: object) -> dict[str, object]:
    return {
        "name": "main",
        "ae_title": "PACS",
        "host": "localhost" if tls else "127.0.0.1",
        "port": archive.port,
        "tls": table(tls),
        **more,
    }


def site(archive: Archive, tmp_path: Path, make: Callable[[], DicomPlugin]) -> Iterator[PluginSite]:
    archive.add(IMAGES)
    plugin = make()
    key = (tmp_path / "ref").read_bytes()
    yield PluginSite(
        plugin=plugin,
        restart=make,
        selector="source=main",
        identities=identities(IMAGES),
        lose=lambda item: archive.remove(open_ref(key, item.guid, item.plugin_ref).instance),
        halt=archive.stop,
    )
    plugin.close()
    archive.stop()


class _Checked(PluginContract):
    def test_checks_pass(self, host: PluginHost) -> None:
        checks = list(host.checks())
        assert all(check.passed for check in checks), checks
        assert sum(check.name.startswith("PACS ") for check in checks) == 2


@pytest.mark.interop("Orthanc")
class TestGetFromOrthanc(_Checked):
    @pytest.fixture
    def site(self, tmp_path: Path) -> Iterator[PluginSite]:
        port = free_port()
        # Orthanc knows this AE at a port where nobody listens.
        archive = Orthanc(tmp_path / "pacs", {"MDM1": free_port()})
        source = dicom_source(archive, retrieve="get")
        yield from site(archive, tmp_path, lambda: make_plugin(tmp_path, [source], port))


@pytest.mark.interop("Orthanc")
class TestMoveFromOrthancOverTls(_Checked):
    @pytest.fixture
    def site(self, tmp_path: Path, pki: TestPki) -> Iterator[PluginSite]:
        port = free_port()
        archive = Orthanc(tmp_path / "pacs", {"MDM1": port}, tls=files(pki, "pacs"))
        ours = files(pki, "mdm")
        source = dicom_source(archive, ours)
        yield from site(archive, tmp_path, lambda: make_plugin(tmp_path, [source], port, ours))


@pytest.mark.interop("Orthanc")
class TestGetFromOrthancOverTls(_Checked):
    @pytest.fixture
    def site(self, tmp_path: Path, pki: TestPki) -> Iterator[PluginSite]:
        archive = Orthanc(tmp_path / "pacs", {"MDM1": free_port()}, tls=files(pki, "pacs"))
        source = dicom_source(archive, files(pki, "mdm"), retrieve="get")
        yield from site(archive, tmp_path, lambda: make_plugin(tmp_path, [source], free_port()))


@pytest.mark.interop("Orthanc", f"{ORTHANC_PLUGINS}/libOrthancDicomWeb.so")
class TestDicomWebFromOrthanc(_Checked):
    @pytest.fixture
    def site(self, tmp_path: Path) -> Iterator[PluginSite]:
        archive = Orthanc(tmp_path / "pacs", {})
        source: dict[str, object] = {"kind": "dicomweb", "name": "main", "url": archive.web_url}
        yield from site(archive, tmp_path, lambda: make_plugin(tmp_path, [source], free_port()))


class _OnDcmqrscp(_Checked):
    retrieve = "move"

    @pytest.fixture
    def site(self, tmp_path: Path) -> Iterator[PluginSite]:
        port = free_port()
        archive = Dcmqrscp(tmp_path / "pacs", {"MDM1": port})
        source = dicom_source(archive, retrieve=self.retrieve)
        yield from site(archive, tmp_path, lambda: make_plugin(tmp_path, [source], port))


@pytest.mark.interop("dcmqrscp", "storescu")
class TestMoveFromDcmqrscp(_OnDcmqrscp): ...


@pytest.mark.interop("dcmqrscp", "storescu")
class TestGetFromDcmqrscp(_OnDcmqrscp):
    retrieve = "get"


class Relay:
    """Passes connections on to a port of this machine, with TLS on the one side or the other."""

    def __init__(
        self, target: int, *, inner: ssl.SSLContext | None = None, outer: ssl.SSLContext | None = None
    ) -> None:
        self._target, self._inner, self._outer = target, inner, outer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(caller,), daemon=True).start()

    def _pass(self, caller: socket.socket) -> None:
        with caller, suppress(OSError):
            if self._outer is not None:
                caller = self._outer.wrap_socket(caller, server_side=True)
            called = socket.create_connection(("localhost", self._target), 10)
            if self._inner is not None:
                called = self._inner.wrap_socket(called, server_hostname="localhost")
            called.settimeout(None)
            back = threading.Thread(target=pump, args=(called, caller), daemon=True)
            back.start()
            pump(caller, called)
            back.join()
            called.close()
            caller.close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until one of them ends; then both do."""
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            socket.socket.shutdown(each, socket.SHUT_RDWR)


def mutual(purpose: ssl.Purpose, tls: ArchiveTls) -> ssl.SSLContext:
    context = ssl.create_default_context(purpose, cafile=str(tls.authorities))
    context.load_cert_chain(str(tls.certificate), str(tls.key))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class _OnDcmqrscpBehindRelays(_Checked):
    retrieve = "move"

    @pytest.fixture
    def site(self, tmp_path: Path, pki: TestPki) -> Iterator[PluginSite]:
        theirs, ours, port = files(pki, "pacs"), files(pki, "mdm"), free_port()
        to_us = Relay(port, inner=mutual(ssl.Purpose.SERVER_AUTH, theirs))
        archive = Dcmqrscp(tmp_path / "pacs", {"MDM1": to_us.port})
        to_them = Relay(archive.port, outer=mutual(ssl.Purpose.CLIENT_AUTH, theirs))
        source = dicom_source(archive, ours, retrieve=self.retrieve) | {"port": to_them.port}
        yield from site(archive, tmp_path, lambda: make_plugin(tmp_path, [source], port, ours))
        to_us.close()
        to_them.close()


@pytest.mark.interop("dcmqrscp", "storescu")
class TestMoveFromDcmqrscpOverTls(_OnDcmqrscpBehindRelays): ...


@pytest.mark.interop("dcmqrscp", "storescu")
class TestGetFromDcmqrscpOverTls(_OnDcmqrscpBehindRelays):
    retrieve = "get"


@pytest.mark.interop("Orthanc", "dcmqrscp", "storescu")
@pytest.mark.parametrize("kind", [Orthanc, Dcmqrscp])
def test_small_series_of_a_study_are_one_move(kind: type[Archive], tmp_path: Path) -> None:
    port = free_port()
    archive = kind(tmp_path / "pacs", {"MDM1": port})
    archive.add([image for number in range(9) for image in make_series(SeriesSpec("CT", 2, number=number))])
    plugin = make_plugin(tmp_path, [dicom_source(archive)], port)
    host = PluginHost(plugin, name="dicom")
    try:
        found = list(host.discover("source=main", RELEASE))
        (batch,) = host.plan([FileRef(each.guid, each.plugin_ref, RELEASE) for each in found])
        assert set(host.stage(batch, MemorySink(), 20).values()) == {None}
        assert plugin._archives["main"]._takes_lists, "it was not asked again"
    finally:
        host.close()
        archive.stop()


# --- TLS -----------------------------------------------------------------------------------------


@pytest.mark.interop("Orthanc")
@pytest.mark.parametrize("ours", ["none", "of another authority"])
def test_orthanc_refuses_us_without_the_right_certificate(ours: str, pki: TestPki, tmp_path: Path) -> None:
    archive = Orthanc(tmp_path / "pacs", {"MDM1": free_port()}, tls=files(pki, "pacs"))
    stranger = files(TestPki(tmp_path / "other", fast=True), "mdm")
    half = ArchiveTls(stranger.certificate, stranger.key, files(pki, "pacs").authorities)
    source = dicom_source(archive, half if ours != "none" else None)
    plugin = make_plugin(tmp_path, [source], free_port())
    try:
        with pytest.raises(SourceUnavailable):
            plugin.sources()[0].probe()
    finally:
        archive.stop()


@pytest.mark.interop("Orthanc")
@pytest.mark.parametrize("name", ["localhost", "pacs.hospital.example"])
def test_the_name_in_the_certificate_of_the_archive_counts(name: str, pki: TestPki, tmp_path: Path) -> None:
    archive = Orthanc(tmp_path / "pacs", {"MDM1": free_port()}, tls=files(pki, "pacs"))
    source = dicom_source(archive, files(pki, "mdm"))
    source["tls"] = {**(table(files(pki, "mdm")) or {}), "name": name}
    plugin = make_plugin(tmp_path, [source], free_port())
    try:
        if name == "localhost":
            plugin.sources()[0].probe()
        else:
            with pytest.raises(SourceUnavailable):
                plugin.sources()[0].probe()
    finally:
        archive.stop()


@pytest.fixture
def receiver(pki: TestPki) -> Iterator[Receiver]:
    tls = table(files(pki, "mdm"))
    assert tls is not None
    receiver = Receiver(
        "MDMIN",
        bind="127.0.0.1",
        port=0,
        peers=[Peer("STORESCU", frozenset({"127.0.0.1"})), Peer("ECHOSCU", frozenset({"127.0.0.1"}))],
        handler=ArrivalDesk(lambda _info, _header: None),
        clock=SystemClock(),
        limits=Limits(negotiate_s=1.0),
        tls=TlsSettings(**tls).credential(),
    )
    receiver.start()
    yield receiver
    receiver.stop()


def client(name: str, receiver: Receiver, *options: str) -> int:
    images = [option for option in options if option.endswith(".dcm")]
    words = [option for option in options if option not in images]
    command = [program(name), "-aec", "MDMIN", *words, "127.0.0.1", str(receiver.port), *images]
    done = subprocess.run(command, timeout=20, capture_output=True, env={"PATH": SYSTEM_PATH}, check=False)
    return done.returncode


def with_tls(tls: ArchiveTls, authorities: Path) -> tuple[str, ...]:
    return "+tls", str(tls.key), str(tls.certificate), "+cf", str(authorities)


@pytest.mark.interop("storescu", "echoscu")
def test_dcmtk_stores_to_us_over_tls(receiver: Receiver, pki: TestPki, tmp_path: Path) -> None:
    authorities = files(pki, "mdm").authorities
    mutually = with_tls(files(pki, "modality"), authorities)
    path = str(save(IMAGES[:1], tmp_path)[0])
    assert client("echoscu", receiver, *mutually) == 0
    assert client("storescu", receiver, *mutually, path) == 0
    stranger = with_tls(files(TestPki(tmp_path / "other", fast=True), "modality"), authorities)
    assert client("echoscu", receiver, *stranger) != 0
    assert client("echoscu", receiver, "+tla", "+cf", str(authorities)) != 0
    assert client("echoscu", receiver) != 0
    assert client("echoscu", receiver, *mutually) == 0


@pytest.mark.interop("echoscu")
def test_those_who_say_nothing_hold_nobody_up(receiver: Receiver, pki: TestPki) -> None:
    silent = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(5)]
    mutually = with_tls(files(pki, "modality"), files(pki, "mdm").authorities)
    assert client("echoscu", receiver, *mutually) == 0
    end_s = time.monotonic() + 5
    while receiver.associations and time.monotonic() < end_s:
        time.sleep(0.05)
    assert receiver.associations == 0
    for each in silent:
        each.close()


def test_tls_files_are_looked_at_before_the_port_opens(pki: TestPki, tmp_path: Path) -> None:
    tls = files(pki, "mdm")
    wrong = ArchiveTls(tls.certificate, files(pki, "other").key, tls.authorities)
    plugin = make_plugin(tmp_path, [UNREACHABLE], free_port(), arrivals=arrivals(wrong))
    with pytest.raises(ConfigError), plugin.listen({RELEASE: lambda _found: None}):
        pass


UNREACHABLE = {"name": "gone", "ae_title": "GONE", "host": "127.0.0.1", "port": 1}


def arrivals(tls: ArchiveTls | None) -> dict[str, object]:
    return {"ae_title": "MDMIN", "port": free_port(), "tls": table(tls)}


# --- several archives ----------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[int, Orthanc, Dcmqrscp]]:
    port = free_port()
    first = Orthanc(tmp_path / "a", {"MDM1": port})
    second = Dcmqrscp(tmp_path / "b", {"MDM1": port})
    for archive in (first, second):
        archive.add(IMAGES)
    yield port, first, second
    first.stop()
    second.stop()


@pytest.mark.interop("Orthanc", "dcmqrscp", "storescu")
def test_a_mirror_delivers_when_the_source_does_not(
    pair: tuple[int, Orthanc, Dcmqrscp], tmp_path: Path
) -> None:
    port, first, second = pair
    sources = [
        dicom_source(first) | {"mirrors": ["b"]},
        dicom_source(second) | {"name": "b", "retrieve": "get"},
    ]
    plugin = make_plugin(tmp_path, sources, port)
    host = PluginHost(plugin, name="dicom")
    refs = [FileRef(each.guid, each.plugin_ref, RELEASE) for each in host.discover("source=main", RELEASE)]

    def stage() -> set[str]:
        every = [host.stage(batch, MemorySink(), 15) for batch in host.plan(refs)]
        return {type(error).__name__ for told in every for error in told.values()}

    first.remove(IMAGES[0].SOPInstanceUID)
    assert stage() == {"NoneType"}, "what one lost, the other has"
    first.stop()
    assert stage() == {"NoneType"}
    second.stop()
    assert stage() == {"SourceUnavailable"}
    plugin.close()


# --- C-CANCEL ------------------------------------------------------------------------------------


class Fickle(MemorySink):
    """Opens slots slowly, and after three of them nobody waits any more."""

    def open(self, ref: FileRef) -> MemorySlot:
        time.sleep(0.1)
        self.wanted = len(self.slots) < 3
        return super().open(ref)


@pytest.mark.interop("Orthanc", "dcmqrscp", "storescu", f"{ORTHANC_PLUGINS}/libOrthancDicomWeb.so")
@pytest.mark.parametrize(
    ("kind", "retrieve"),
    [(Orthanc, "move"), (Orthanc, "get"), (Orthanc, "web"), (Dcmqrscp, "move"), (Dcmqrscp, "get")],
)
def test_what_nobody_waits_for_is_not_sent(kind: type[Archive], retrieve: str, tmp_path: Path) -> None:
    """Whether the archive heeds C-CANCEL or has to be left; then it is asked for something else."""
    port = free_port()
    archive = kind(tmp_path / "pacs", {"MDM1": port})
    archive.add(make_series(SeriesSpec("CT", 60)))
    source = (
        {"kind": "dicomweb", "name": "main", "url": archive.web_url}
        if retrieve == "web" and isinstance(archive, Orthanc)
        else dicom_source(archive, retrieve=retrieve)
    )
    host = PluginHost(make_plugin(tmp_path, [source], port), name="dicom")
    try:
        refs = [FileRef(each.guid, each.plugin_ref, RELEASE) for each in host.discover("", RELEASE)]
        (batch,) = host.plan(refs[:50])
        sink = Fickle()
        outcomes = host.stage(batch, sink, 60)
        assert {type(each) for each in outcomes.values()} == {type(None), Aborted}
        assert len(sink.files) < 40
        (batch,) = host.plan(refs[50:])
        assert set(host.stage(batch, MemorySink(), 20).values()) == {None}
    finally:
        host.close()
        archive.stop()

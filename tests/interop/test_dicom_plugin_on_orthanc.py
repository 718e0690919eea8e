"""The DICOM plugin keeps the contract of plugins with a real PACS behind it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.plugin.api import PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_dicom.testing.archives import Orthanc
from srm_dicom.testing.contract import PluginContract, PluginSite
from srm_dicom.testing.images import SeriesSpec, identities, make_series
from srm_dicom.testing.ports import free_port
from srm_plugin_dicom.plugin import DicomPlugin
from srm_plugin_dicom.reference import open_ref

IMAGES = make_series(SeriesSpec("CT", 3)) + make_series(SeriesSpec("MR", 2, study="2"))


@pytest.mark.interop("Orthanc")
class TestDicomPluginOnOrthanc(PluginContract):
    @pytest.fixture
    def site(self, tmp_path: Path) -> Iterator[PluginSite]:
        port = free_port()
        archive = Orthanc(tmp_path / "pacs", {"MDM1": port})
        archive.add(IMAGES)

        def make() -> DicomPlugin:
            settings = {
                "sources": [{"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": archive.port}],
                "moves": {"ae_title": "MDM1", "port": port},
                "connect_s": 3.0,
                "answer_s": 10.0,
                "settle_s": 0.3,
            }
            return DicomPlugin(PluginContext("dicom", settings, tmp_path, SystemClock()))

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

    def test_checks_pass(self, host: PluginHost) -> None:
        assert [check.passed for check in host.checks()] == [True, True, True]

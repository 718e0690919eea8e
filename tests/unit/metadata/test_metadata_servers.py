"""Every metadata server asked at once: answers merged, failures told, nobody waited for too long."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from srm_dicom.client.metadata import MetadataServers
from srm_dicom.errors import CatalogueUnavailable, InvalidRequest, NotFound


@pytest.fixture
def other(site: Any, tmp_path: Path) -> Any:
    """A second site with the same entries."""
    running = type(site)(tmp_path, site.pki)
    running.fill()
    yield running
    running.close()


@pytest.fixture
def mute() -> Any:
    """An endpoint that accepts and never says a word."""
    with socket.create_server(("localhost", 0)) as listener:
        yield f"localhost:{listener.getsockname()[1]}"


def test_a_file_that_two_servers_know_is_told_once(site: Any, other: Any) -> None:
    servers = MetadataServers([site.endpoint, other.endpoint], site.users["physician"])
    findings = servers.find('Modality = "CT"', ["Rows"])
    assert len(findings.found) == 3
    assert findings.failures == {}
    assert len(servers.find("", limit=4).found) == 4


def test_servers_that_fail_are_told_and_do_not_hold_up_the_others(site: Any, mute: str) -> None:
    servers = MetadataServers([mute, "localhost:1", site.endpoint], site.users["researcher"], timeout_s=1.5)
    began_s = time.monotonic()
    findings = servers.find('Modality = "CT"')
    assert time.monotonic() - began_s < 10
    assert len(findings.found) == 2
    assert set(findings.failures) == {mute, "localhost:1"}
    assert all(isinstance(error, CatalogueUnavailable) for error in findings.failures.values())


def test_an_attribute_that_only_one_server_has(site: Any, other: Any) -> None:
    other.channel("registrar").call("addattr", "/mdm/here/heart-v1/image", "Extra", "int")
    servers = MetadataServers([site.endpoint, other.endpoint], site.users["physician"])
    findings = servers.find("Extra is null")
    assert len(findings.found) == 4
    assert findings.failures == {}
    with pytest.raises(NotFound):
        servers.find("Nowhere = 1")


def test_what_is_wrong_at_once(site: Any) -> None:
    with pytest.raises(InvalidRequest):
        MetadataServers([site.endpoint], site.users["physician"]).find("Modality =")
    with pytest.raises(CatalogueUnavailable):
        MetadataServers([], site.users["physician"]).find("")
    findings = MetadataServers(["localhost:x", site.endpoint], site.users["physician"]).find("")
    assert isinstance(findings.failures["localhost:x"], InvalidRequest)

"""An upload that the inner zone fetches from a node elsewhere: through its intake, piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from srm_dicom.broker import uploaded
from srm_dicom.broker.views import FileState
from srm_dicom.client.scratch import RemoteScratch
from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotAuthorised, Overloaded
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.transfer.intake import Intake, application
from srm_dicom.web.server import WebServer

CONTENT = os.urandom(300_017)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploaded, "CHUNK_BYTES", 100_000)


@pytest.fixture
def pki(tmp_path: Any) -> TestPki:
    return TestPki(tmp_path / "pki", fast=True)


@pytest.fixture
def intake(site: Any, pki: TestPki) -> Iterator[WebServer]:
    """The port of the node's scratch, which knows one stager."""
    host = pki.host("stager")
    names = [pki.dn(Credential(host.certificate, host.key, pki.trust_dir))]
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    server = WebServer(
        application(Intake(site.area, names, site.audit)), gate, host="localhost", port=0, name="intake"
    )
    server.start()
    yield server
    server.stop(0.5)


@pytest.fixture
def remote(intake: WebServer, pki: TestPki) -> Iterator[RemoteScratch]:
    host = pki.host("stager")
    node = RemoteScratch(
        f"https://localhost:{intake.port}", Credential(host.certificate, host.key, pki.trust_dir)
    )
    yield node
    node.close()


def test_an_upload_is_stored_from_another_machine(site: Any, remote: RemoteScratch) -> None:
    site.inner = site.storing(remote)
    view = site.put("a.dat", overwrite=True)
    site.upload(view, CONTENT)
    assert [file.failure for file in site.done(view)] == [None]
    assert list(site.on_disk().values()) == [CONTENT]
    assert site.read("a.dat") == CONTENT


def test_while_the_node_does_not_answer_the_upload_waits(
    site: Any, remote: RemoteScratch, intake: WebServer
) -> None:
    site.inner = site.storing(remote)
    view = site.put("a.dat")
    site.upload(view, CONTENT)
    intake.stop(0.5)
    (late,) = site.done(view)
    assert late.state is FileState.STORING
    assert not site.on_disk()
    site.inner = site.storing(site.area)
    site.clock.advance(60)
    site.work()
    assert site.read("a.dat") == CONTENT


def test_a_strangers_stager_reads_nothing(site: Any, intake: WebServer, pki: TestPki) -> None:
    view = site.put("a.dat")
    site.upload(view, CONTENT)
    other = pki.host("other")
    node = RemoteScratch(
        f"https://localhost:{intake.port}", Credential(other.certificate, other.key, pki.trust_dir)
    )
    with pytest.raises(Overloaded) as told:  # the stager can do nothing but try again; the log says why
        node.read(view.files[0].turl.rpartition("/")[2], 0, 10)
    assert isinstance(told.value.__cause__, NotAuthorised)
    node.close()

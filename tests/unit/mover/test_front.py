"""The SRM's process with ``[copies]``: takes delegations, and ends what its predecessor had in hand."""

import socket
from datetime import UTC, datetime, timedelta

import pytest

from srm_dicom.client.http import HttpClient
from srm_dicom.daemon.outer import front
from srm_dicom.ids import SitePath, Token
from srm_dicom.store.requests import FileState, Request, RequestFile, RequestKind
from srm_dicom.store.stores import Stores
from srm_dicom.testing.pki import TestPki
from srm_dicom.wire.gridsite import NAMESPACES

CONFIG = """
database = "sqlite:///{base}/names.db"
audit = "audit"
projects = "projects.d"
[site]
name = "site"
vo = "vo"
host = "localhost"
[trust]
certificates = "{pki.trust_dir}"
host_certificate = "{host.certificate}"
host_key = "{host.key}"
[srm]
host = "localhost"
port = 0
[scratch]
directory = "scratch"
[catalogues]
keys = []
files = ""
metadata = []
"""
COPIES = """
[copies.hosts]
"*" = ["se.example.org"]
"""
ASK = (
    '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
    f'<d:getInterfaceVersion xmlns:d="{NAMESPACES[0]}"/></e:Body></e:Envelope>'
).encode()


@pytest.fixture
def pki(tmp_path):
    return TestPki(tmp_path / "pki", fast=True)


@pytest.fixture
def start(tmp_path, pki):
    """Start the role with more of a configuration; returns a client of its port."""
    running = []

    def start(more="", clients=0):
        (tmp_path / "projects.d").mkdir(exist_ok=True)
        config = tmp_path / "srm-dicom.toml"
        config.write_text(CONFIG.format(base=tmp_path, pki=pki, host=pki.host()) + more)
        services = front(config)
        for service in services:
            service.start()
        running.extend(services)
        url = f"https://localhost:{services[-1].port}"
        alice = pki.proxy(pki.user("Alice"))
        return [HttpClient(url, alice) for _ in range(clients)] if clients else HttpClient(url, alice)

    yield start
    for service in reversed(running):
        service.stop()


def test_it_takes_delegations_where_copies_go_somewhere(start):
    told = start(COPIES).request("POST", "/.gridsite-delegation", ASK)
    assert (told.status, b"2.0.0" in told.body) == (200, True)


def test_without_hosts_there_is_nothing_to_delegate_for(start):
    told = start().request("POST", "/.gridsite-delegation", ASK)
    assert (told.status, b"2.0.0" in told.body) == (500, False)


def test_what_its_predecessor_had_in_hand_has_failed_when_the_port_opens(start, tmp_path):
    stores = Stores.open(f"sqlite:///{tmp_path}/names.db")
    now = datetime.now(UTC)
    request = Request(Token("t"), RequestKind.COPY, "/CN=A", "https", now, now + timedelta(hours=1), 3600)
    states = (
        FileState.SPACE_AVAILABLE,
        FileState.QUEUED,
        FileState.PINNED,
        FileState.STORING,
        FileState.STORED,
    )
    files = [RequestFile(f"x{at}", SitePath(f"/x{at}"), None, state) for at, state in enumerate(states)]
    stores.requests.add(request, files)
    stores.errands.add(request.token, range(3), f"{socket.gethostname()}/front")
    stores.errands.add(request.token, [3], "another/front")
    start(COPIES)
    found = stores.requests.files(request.token)
    assert [file.state for file in found] == [FileState.FAILED] * 3 + [FileState.STORING, FileState.STORED]
    assert {file.failure.message for file in found[:3]} == {"the delegated credential is gone, submit again"}
    assert stores.errands.of(f"{socket.gethostname()}/front") == []


def test_the_bounds_of_connections_are_the_configurations(start):
    client = start("[connections]\nper_identity = 1\n", clients=2)
    client[0].request("POST", "/.gridsite-delegation", ASK)
    assert client[1].request("POST", "/.gridsite-delegation", ASK).status == 503
    client[0].close()

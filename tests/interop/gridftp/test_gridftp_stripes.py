"""A site of two transfer nodes, each a process with an address of its own, and the clients that stripe."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from srm_dicom import telemetry
from srm_dicom.audit.doors import DoorLog
from srm_dicom.clock import SystemClock
from srm_dicom.identity.credential import Credential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.transfer.stripelink import StripeNodes
from srm_dicom.transfer.stripenode import NodeServices, StripeNode
from srm_dicom.wire.gridftp.addresses import Address

GUC = pytest.mark.interop("globus-url-copy")
GLOBUS = pytest.mark.interop("globus-gridftp-server")
NODE_HOST = "127.0.0.2"
DOOR_DN = "/DC=test/DC=mdm/CN=localhost"
OPTIONS = ["", "-nodcau", "-p 2 -sbs 1048576", "-dcpriv -p 2"]


def serve(base, root, node_port):
    """Be one process of the site: its door if there is a node to ask, else its second node."""
    telemetry.configure("transfer", level=logging.INFO)
    clock, pki, files = SystemClock(), TestPki(base / "pki"), DirectoryFiles(root, checksums=False)
    host = pki.host()
    gate = Gate(TrustSettings(pki.trust_dir), host, clock)
    settings = GridFtpSettings(
        port=0, data_ports=(0, 0), data_connect_s=10.0, third_party=(f"{NODE_HOST}/32",)
    )
    if node_port:
        shown = Credential(host.certificate, host.key, pki.trust_dir)
        nodes = StripeNodes([Address(NODE_HOST, node_port)], shown, connect_s=5.0, silence_s=15.0)
        service = GridFtpDoor(files, gate, settings, clock, writing=files, nodes=nodes)
    else:
        services = NodeServices(
            files, files, gate, clock, settings.data, settings.policy,
            frozenset({DOOR_DN}), DoorLog(None, "stripes", clock),
        )  # fmt: skip
        service = StripeNode(services, NODE_HOST, 0)
    service.start()
    sys.stdout.write(f"port {service.port}\n")
    sys.stdout.flush()
    time.sleep(600)


@contextmanager
def process(site, root, log, node_port=0):
    command = [sys.executable, __file__, site.base, root, str(node_port)]
    with log.open("w") as errors:
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        for line in running.stdout:
            if line.startswith("port "):
                break
        yield running, int(line.split()[1])
    finally:
        running.kill()
        running.wait(30)


@contextmanager
def striped_site(site, root, logs):
    logs.mkdir()
    with (
        process(site, root, logs / "node") as (node, node_port),
        process(site, root, logs / "door", node_port) as (_, port),
    ):
        yield SimpleNamespace(url=f"gsiftp://localhost:{port}", root=root, node=node, logs=logs)


def moved(striped, name, event, path):
    """Return the bytes that a process says it has moved of a file."""
    lines = [line for line in (striped.logs / name).read_text().splitlines() if line.startswith("{")]
    told = [json.loads(line) for line in lines]
    return sum(one["bytes"] for one in told if one["event"] == event and one["path"] == path)


@pytest.fixture(scope="module")
def source(site, tmp_path_factory):
    with striped_site(site, site.root, tmp_path_factory.mktemp("source") / "logs") as striped:
        yield striped


@pytest.fixture(scope="module")
def sink(site, tmp_path_factory):
    base = tmp_path_factory.mktemp("sink")
    (base / "files").mkdir()
    with striped_site(site, base / "files", base / "logs") as striped:
        yield striped


@GUC
@pytest.mark.parametrize(("name", "options"), [("empty", ""), *(("large", options) for options in OPTIONS)])
def test_a_download_flows_from_both_nodes(site, source, tmp_path, options, name):
    before = moved(source, "node", "share_sent", f"/{name}")
    copy = tmp_path / "copy"
    site.succeed("globus-url-copy", "-stripe", *options.split(), f"{source.url}/{name}", f"file://{copy}")
    assert copy.read_bytes() == (site.root / name).read_bytes()
    half = copy.stat().st_size / 2
    assert abs(moved(source, "node", "share_sent", f"/{name}") - before - half) < 1


@GUC
@pytest.mark.parametrize("options", ["", "-nodcau", "-dcpriv -p 2"])
def test_an_upload_flows_to_both_nodes(site, sink, options):
    large, name = site.root / "large", f"up{options.replace(' ', '')}"
    command = ["globus-url-copy", "-stripe", "-sbs", "500000", *options.split()]
    site.succeed(*command, f"file://{large}", f"{sink.url}/{name}")
    assert (sink.root / name).read_bytes() == large.read_bytes()
    there = moved(sink, "node", "share_received", f"/{name}")
    assert 0 < there < large.stat().st_size
    assert moved(sink, "door", "file_received", f"/{name}") == large.stat().st_size


@GUC
@pytest.mark.parametrize("options", ["", "-dcpriv -p 2"])
def test_between_two_sites_of_two_nodes(site, source, sink, options):
    name = f"two{options.replace(' ', '')}"
    site.succeed("globus-url-copy", "-stripe", *options.split(), f"{source.url}/large", f"{sink.url}/{name}")
    assert (sink.root / name).read_bytes() == (site.root / "large").read_bytes()
    assert moved(sink, "node", "share_received", f"/{name}") > 0


@GLOBUS
@GUC
def test_with_globus_of_two_data_nodes(site, source, sink, striped_globus, tmp_path):
    command = ["globus-url-copy", "-stripe", "-p", "2"]
    site.succeed(*command, f"{source.url}/large", f"{striped_globus}{tmp_path}/there")
    assert (tmp_path / "there").read_bytes() == (site.root / "large").read_bytes()
    site.succeed(*command, f"{striped_globus}{tmp_path}/there", f"{sink.url}/back")
    assert (sink.root / "back").read_bytes() == (site.root / "large").read_bytes()
    assert moved(sink, "node", "share_received", "/back") > 0


@GUC
@pytest.mark.parametrize("options", ["-pp", "-fast -p 2"])
def test_a_directory_over_kept_connections(site, source, tmp_path, options):
    command = ["globus-url-copy", "-stripe", *options.split(), "-cd", "-r"]
    site.succeed(*command, f"{source.url}/dir/", f"file://{tmp_path}/copy/")
    here = {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    assert here == {path.name: path.read_bytes() for path in (site.root / "dir").iterdir()}


@GUC
def test_a_node_that_stops_or_dies_is_told_and_nobody_hangs(site, sink, tmp_path):
    """Uploads by stripes are refused; a download from one address goes on without the node.

    The last test: it spends the node.
    """
    (sink.root / "file").write_bytes(os.urandom(3_000_000))
    for number in (signal.SIGSTOP, signal.SIGKILL):
        sink.node.send_signal(number)
        put = site.run("globus-url-copy", "-stripe", f"file://{sink.root}/file", f"{sink.url}/copy")
        assert put.returncode != 0
        assert "425" in put.stderr
        assert "transfer node" in put.stderr
        assert not (sink.root / "copy").exists()
    site.succeed("globus-url-copy", "-stripe", f"{sink.url}/file", f"file://{tmp_path}/copy")
    assert (tmp_path / "copy").read_bytes() == (sink.root / "file").read_bytes()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

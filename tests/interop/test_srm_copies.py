"""Copies between servers with the real programs: gfal2 between two SRMs, srmCopy with a Globus server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from srm_dicom.testing.copies import Sites
from srm_dicom.testing.ports import free_port

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("sites"))
    yield made
    made.stop()


@pytest.mark.interop("gfal-copy")
def test_gfal_copies_between_two_srms(sites: Sites, tmp_path: Path) -> None:
    content = os.urandom(2_000_003)
    names = sites.store(sites.here, "gfal", content), sites.there.surl("gfal")
    environment = {
        "PATH": PATH,
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        **sites.here.pki.environment(sites.here.alice),
    }
    command = ["gfal-copy", "-D", "BDII:ENABLED=false", "-vv", "-f", "-K", "ADLER32", *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sites.stored(sites.there, "gfal") == content


# --- srmCopy and a server that is no SRM


@pytest.fixture(scope="module")
def globus(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A globus-gridftp-server on loopback that trusts the same authority, and a directory of its user."""
    port = free_port()
    base, host = tmp_path_factory.mktemp("globus"), sites.here.pki.host()
    (base / "gridmap").write_text(
        f'"{sites.here.pki.dn(sites.here.alice)}" {os.environ.get("USER", "root")}\n'
    )
    process = subprocess.Popen(
        [
            *(shutil.which("globus-gridftp-server", path=PATH) or "", "-allow-root", "-p", str(port)),
            *("-control-interface", "127.0.0.1", "-data-interface", "127.0.0.1"),
            *("-log-level", "ERROR", "-logfile", str(base / "log")),
        ],
        env={
            "PATH": PATH,
            "HOME": str(base),
            "X509_CERT_DIR": str(sites.here.pki.trust_dir),
            "X509_USER_CERT": str(host.certificate),
            "X509_USER_KEY": str(host.key),
            "GRIDMAP": str(base / "gridmap"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"gsiftp://localhost:{port}", base
    process.terminate()
    process.wait(10)


@pytest.mark.interop("globus-gridftp-server")
def test_srm_copies_from_and_to_a_globus_server(sites: Sites, globus: tuple[str, Path]) -> None:
    url, base = globus
    content = os.urandom(2_000_003)
    (base / "source").write_bytes(content)
    fetched = sites.copy(f"{url}{base}/source", sites.here.surl("from-globus"))
    assert fetched.code == "SRM_SUCCESS", fetched.said
    assert sites.stored(sites.here, "from-globus") == content
    sent = sites.copy(sites.here.surl("from-globus"), f"{url}{base}/target")
    assert sent.code == "SRM_SUCCESS", sent.said
    assert (base / "target").read_bytes() == content
    again = sites.copy(sites.here.surl("from-globus"), f"{url}{base}/target")
    assert again.code == "SRM_DUPLICATION_ERROR"
    absent = sites.copy(f"{url}{base}/absent", sites.here.surl("absent"))
    assert (absent.code, "No such file" in absent.said) == ("SRM_INVALID_PATH", True), absent.said


@pytest.mark.interop("globus-gridftp-server")
def test_srm_copies_as_the_user_and_as_nobody_else(sites: Sites, globus: tuple[str, Path]) -> None:
    """The Globus server knows Alice; of Bob's proxy it wants to know nothing."""
    url, base = globus
    (base / "hers").write_bytes(b"hers")
    bob = sites.delegating(sites.here.bob)
    done = sites.copy(f"{url}{base}/hers", sites.here.surl("not-his"), bob)
    assert done.code in ("SRM_AUTHENTICATION_FAILURE", "SRM_AUTHORIZATION_FAILURE"), done.said

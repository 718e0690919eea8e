"""A real VOMS server on loopback: what it signs is believed, and nothing when it is not to be.

Debian's server reads its members from MySQL tables; a MariaDB of its own, on a socket in the test's
directory, holds the few that it asks for.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.identity.explain import Verdict, explain
from srm_dicom.identity.gate import TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.ports import free_port
from srm_dicom.testing.voms import TestVo

VO = "biomed.test"
ALICE, BOB = "/DC=test/DC=mdm/CN=Alice", "/DC=test/DC=mdm/CN=Bob"
AUTHORITY = "/DC=test/DC=mdm/CN=MDM Test CA"
START_S = 60.0
SCHEMA = f"""
CREATE DATABASE voms; USE voms;
CREATE TABLE version (version INT);
CREATE TABLE seqnumber (seq VARCHAR(64));
CREATE TABLE ca (cid INT, subject_string VARCHAR(255), ca VARCHAR(255));
CREATE TABLE usr (userid BIGINT, dn VARCHAR(255), ca INT, suspended INT, suspended_reason VARCHAR(255));
CREATE TABLE certificate (usr_id BIGINT, ca_id INT, subject_string VARCHAR(255), suspended INT,
                          suspended_reason VARCHAR(255));
CREATE TABLE `groups` (gid BIGINT, dn VARCHAR(255), must INT);
CREATE TABLE roles (rid BIGINT, role VARCHAR(255));
CREATE TABLE m (userid BIGINT, gid BIGINT, rid BIGINT);
CREATE TABLE attributes (a_id BIGINT, a_name VARCHAR(255));
CREATE TABLE usr_attrs (a_id BIGINT, u_id BIGINT, a_value VARCHAR(255));
CREATE TABLE group_attrs (a_id BIGINT, g_id BIGINT, a_value VARCHAR(255));
CREATE TABLE role_attrs (a_id BIGINT, g_id BIGINT, r_id BIGINT, a_value VARCHAR(255));
INSERT INTO version VALUES (3);
INSERT INTO seqnumber VALUES ('00');
INSERT INTO ca VALUES (1, '{AUTHORITY}', '{AUTHORITY}');
INSERT INTO usr VALUES (1, '{ALICE}', 1, 0, NULL), (2, '{BOB}', 1, 0, NULL);
INSERT INTO certificate VALUES (1, 1, '{ALICE}', 0, NULL), (2, 1, '{BOB}', 0, NULL);
INSERT INTO `groups` VALUES (1, '/{VO}', 0), (2, '/{VO}/radiology', 0);
INSERT INTO roles VALUES (1, 'physician');
INSERT INTO m VALUES (1, 1, NULL), (1, 2, NULL), (1, 2, 1), (2, 1, NULL);
CREATE USER voms@localhost IDENTIFIED BY 'secret';
GRANT ALL ON voms.* TO voms@localhost;
"""

pytestmark = pytest.mark.interop("voms", "mariadbd", "mariadb-install-db", "mariadb", "voms-proxy-init")


@dataclass
class Server:
    """A VOMS server and the PKI that it belongs to."""

    pki: TestPki
    vo: TestVo
    port: int

    def proxy(self, user: str, *options: str) -> Path:
        """Let the real client fetch groups for a user."""
        credential, out = self.pki.user(user), self.pki.directory / f"{user}.pem"
        vomses = self.pki.directory / "vomses"
        server = "/DC=test/DC=mdm/CN=voms.mdm.test"
        vomses.write_text(f'"{VO}" "localhost" "{self.port}" "{server}" "{VO}"\n')
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.pki.directory),
            "X509_CERT_DIR": str(self.pki.trust_dir),
            "X509_VOMS_DIR": str(self.vo.vomsdir),
        }
        files = ("-cert", str(credential.certificate), "-key", str(credential.key), "-out", str(out))
        done = subprocess.run(
            ["voms-proxy-init", "-rfc", "-bits", "2048", "-vomses", str(vomses), *files, *options],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return out

    def verdict(self, proxy: Path) -> Verdict:
        trust = TrustSettings(self.pki.trust_dir, vomsdir=self.vo.vomsdir)
        return explain(proxy, trust, clock=SystemClock())


def wait_until(works: Callable[[], bool], server: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + START_S
    while not works():
        late = server.poll() is not None or time.monotonic() > until_s
        assert not late, log.read_text(errors="replace")[-2000:]
        time.sleep(0.2)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A MariaDB with the members; its socket."""
    place = tmp_path_factory.mktemp("mariadb")
    data, sock, log = place / "data", place / "s", place / "log"
    base = ["--no-defaults", f"--datadir={data}"]
    if os.geteuid() == 0:
        base.append("--user=root")
    install = ["mariadb-install-db", *base, "--auth-root-authentication-method=normal"]
    subprocess.run(install, capture_output=True, timeout=120, check=True)
    small = ("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--skip-networking")
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["/usr/sbin/mariadbd", *base, *small, f"--socket={sock}", f"--pid-file={place / 'pid'}"],
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        client = ["mariadb", "--no-defaults", "-uroot", f"--socket={sock}"]
        quiet = subprocess.DEVNULL
        ready = [*client, "-e", "SELECT 1"]
        wait_until(
            lambda: (
                subprocess.run(ready, stdout=quiet, stderr=quiet, timeout=20, check=False).returncode == 0
            ),
            server,
            log,
        )
        subprocess.run(client, input=SCHEMA.encode(), timeout=30, check=True)
        yield sock
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("voms")
    pki = TestPki(place / "pki")
    vo = TestVo(pki, VO)
    password, log = place / "password", place / "log"
    password.write_text("secret\n")
    password.chmod(0o640)
    port = free_port()
    with (place / "output").open("wb") as output:
        process = subprocess.Popen(
            [
                *("/usr/sbin/voms", "-foreground", "-port", str(port), "-vo", VO, "-newformat"),
                *("-uri", f"voms.mdm.test:{port}", "-logfile", str(log), "-timeout", "43200"),
                *("-dbname", "voms", "-username", "voms", "-passfile", str(password)),
                *("-contactstring", "localhost", "-mysql-socket", str(database)),
                *("-sqlloc", "/usr/lib/voms/libvomsmysql.so", "-x509_cert_dir", str(pki.trust_dir)),
                *("-x509_user_cert", str(vo.server.certificate), "-x509_user_key", str(vo.server.key)),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: listens(port), process, place / "output")
        yield Server(pki, vo, port)
    finally:
        process.kill()
        process.wait(10)


def test_groups_of_the_real_server(server: Server) -> None:
    verdict = server.verdict(server.proxy("Alice", "-voms", VO))
    assert (verdict.accepted, verdict.dn, verdict.limited) == (True, ALICE, False), verdict.reason
    assert verdict.fqans == (f"/{VO}", f"/{VO}/radiology")


def test_a_role_that_was_asked_for_comes_first(server: Server) -> None:
    proxy = server.proxy("Alice", "-voms", f"{VO}:/{VO}/radiology/Role=physician")
    assert server.verdict(proxy).fqans[0] == f"/{VO}/radiology/Role=physician"


def test_a_limited_proxy_with_groups(server: Server) -> None:
    verdict = server.verdict(server.proxy("Bob", "-voms", VO, "-limited"))
    assert (verdict.dn, verdict.limited, verdict.fqans) == (BOB, True, (f"/{VO}",)), verdict.reason


def test_a_server_that_is_not_listed_is_not_believed(server: Server) -> None:
    proxy = server.proxy("Alice", "-voms", VO)
    lists = server.vo.vomsdir / VO / "voms.mdm.test.lsc"
    text = lists.read_text()
    try:
        lists.write_text("/CN=somebody\n/CN=else\n")
        verdict = server.verdict(proxy)
    finally:
        lists.write_text(text)
    assert (verdict.accepted, verdict.fqans) == (True, ())
    assert "not a server of" in verdict.reason

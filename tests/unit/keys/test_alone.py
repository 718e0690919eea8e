"""A key server that stands alone: a process with nothing but what it needs, from its own command."""

import errno
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mdm_keys import archive
from srm_dicom.cli.keyserver import main
from srm_dicom.client.http import HttpClient
from srm_dicom.client.keys import KeyServers
from srm_dicom.crypto.keyfile import write_public_key, write_secret_key
from srm_dicom.crypto.keyrecord import issue
from srm_dicom.crypto.sealing import public_key_of
from srm_dicom.crypto.signing import trusting
from srm_dicom.errors import KeyQuorumMissing, NotAuthorised, NotFound
from srm_dicom.rights.acl import Acl
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.pki import TestPki

ROOT = Path(__file__).parents[3]
REQUIREMENTS = re.findall(r"(?m)^([A-Za-z0-9-]+)>=", (ROOT / "etc/mdm-keys.requirements.txt").read_text())
NOT_THERE = ("spyne", "pydicom", "pynetdicom", "rich", "six", "zeep", "numpy")
START_S = 120


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """As in a venv with the packages of the requirements, what they require, and srm-dicom itself."""
    packages = tmp_path_factory.mktemp("packages")
    for name in closure(REQUIREMENTS):
        for file in distribution(name).files:
            top, there = file.parts[0], packages / file.parts[0]
            if top not in ("..", "__pycache__") and not there.is_symlink():
                there.symlink_to(distribution(name).locate_file(top))
    for source in (ROOT / "srm_dicom", ROOT / "catalog/mdm_keys"):
        (packages / source.name).symlink_to(source)
    return {"PYTHONPATH": str(packages), "PATH": os.defpath}


def closure(names):
    """Return packages with all that they require."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name.lower() in found:
            continue
        found.add(name.lower())
        required = (one for one in distribution(name).requires or () if ";" not in one)
        waiting += [re.split(r"[^A-Za-z0-9._-]", one)[0] for one in required]
    return found | {"cffi", "pycparser"}


def python(environment, *arguments):
    """Run Python without the packages of this one."""
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=START_S, check=False
    )


class Alone:
    """A key server of its own, run by its own command."""

    def __init__(self, directory, environment):
        self.directory, self.environment = directory, environment
        self.pki = TestPki(directory / "pki", fast=True)
        self.registrar, self.alice = map(self.pki.user, ("registrar", "alice"))
        self.signing_key = Ed25519PrivateKey.generate()
        self.host = self.pki.host("localhost")
        self.process = None

    def write(self, name="keys"):
        server = {
            "database": f"sqlite://{self.directory}/{name}.db",
            "sites": [self.signing_key.public_key().public_bytes_raw().hex()],
            "creators": [self.pki.dn(self.registrar)],
            "host": "127.0.0.1",
            "port": 0,
        }
        trust = {
            "certificates": str(self.pki.trust_dir),
            "host_certificate": str(self.host.certificate),
            "host_key": str(self.host.key),
        }
        table = {"role": "keys", "audit": str(self.directory / "audit"), "trust": trust, "server": server}
        path = self.directory / f"{name}.toml"
        path.write_text(toml(table))
        return path

    def command(self, *arguments, name="keys"):
        return python(
            self.environment, "-m", "srm_dicom.cli.keyserver", *arguments, "--config", str(self.write(name))
        )

    def start(self):
        command = [sys.executable, "-S", "-m", "srm_dicom.cli.keyserver", "serve", "--config", self.write()]
        log = self.directory / "log"
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)
        until = time.monotonic() + START_S
        while not (port := re.search(r'"web_server_started".*"port": (\d+)', log.read_text())):
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        return f"https://localhost:{port[1]}"

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(30) == 0

    def client(self, url, credential):
        return KeyServers([url], credential, sites=trusting(self.signing_key.public_key()))

    def register(self, url):
        private = secrets.token_bytes(32)
        until = FakeClock().now().replace(year=2099)
        records = issue(
            private,
            k=1,
            n=1,
            valid_until=until,
            signing_key=self.signing_key,
            random_bytes=secrets.token_bytes,
        )
        acl = Acl.parse(f'user:"{self.pki.dn(self.alice)}":gx')
        self.client(url, self.registrar).register(records, acl)
        return records[0].charter, private


def toml(table):
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if key not in inner]
    return "\n".join([*lines, *(f"[{name}]\n{toml(value)}" for name, value in inner.items())])


@pytest.fixture
def alone(tmp_path, environment):
    alone = Alone(tmp_path, environment)
    yield alone
    alone.stop()


def test_it_imports_few_things(environment):
    program = (
        "import sys, srm_dicom.cli.keyserver; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = python(environment, "-c", program)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & set(NOT_THERE)
    house = (
        "import sys, srm_dicom.cli.keyserver; print(*(m for m in sys.modules if m.startswith('srm_dicom.')))"
    )
    parts = {name.split(".")[1] for name in python(environment, "-c", house).stdout.split()}
    assert not parts & {
        "broker",
        "store",
        "scratch",
        "plugin",
        "registry",
        "srm",
        "transfer",
        "daemon",
        "client",
    }


def test_the_role_of_serve_imports_no_other_catalogue():
    program = """
import sys
from srm_dicom.daemon import catalogues
catalogues.import_module(catalogues._SERVERS["keys"][0])
print(*(name for name in ("mdm_files", "mdm_metadata", "pydicom", "spyne") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_it_serves_alone(alone):
    url = alone.start()
    charter, private = alone.register(url)
    assert alone.client(url, alone.alice).fetch(charter.key_id, charter.public_key) == private
    alone.stop()
    with pytest.raises(KeyQuorumMissing):
        alone.client(url, alone.alice).fetch(charter.key_id, charter.public_key)


def test_its_records_survive_the_loss_of_its_disk(alone):
    """Exported while it serves, imported into a new one that another command line has set up."""
    escrow = secrets.token_bytes(32)
    (alone.directory / "escrow.pub").write_text(write_public_key(public_key_of(escrow)))
    (alone.directory / "escrow.key").write_text(write_secret_key(escrow))
    url = alone.start()
    charter, private = alone.register(url)
    file = str(alone.directory / "keys.c4gh")
    done = alone.command("export", "--recipient", str(alone.directory / "escrow.pub"), file)
    assert done.returncode == 0, done.stderr
    alone.stop()
    (alone.directory / "keys.db").unlink()
    done = alone.command("import", "--sk", str(alone.directory / "escrow.key"), file)
    assert done.stdout == "1 keys and 1 shares added, 0 left out as destroyed\n", done.stderr
    url = alone.start()
    assert alone.client(url, alone.alice).fetch(charter.key_id, charter.public_key) == private


def test_a_database_of_before_brings_no_destroyed_key_back(alone):
    """The ledger lies beside the audit log: whoever restores the database does not restore it."""
    url = alone.start()
    (destroyed, _), (kept, private) = alone.register(url), alone.register(url)
    alone.stop()
    backup = (alone.directory / "keys.db").read_bytes()
    url = alone.start()
    told = alone.client(url, alone.registrar).destroy({destroyed.key_id: destroyed.public_key})
    assert told[destroyed.key_id].done
    alone.stop()
    for path in alone.directory.glob("keys.db*"):
        path.unlink()
    (alone.directory / "keys.db").write_bytes(backup)
    url = alone.start()
    with pytest.raises(NotAuthorised):
        alone.client(url, alone.alice).fetch(destroyed.key_id, destroyed.public_key)
    with pytest.raises(NotFound):
        alone.client(url, alone.registrar).fetch(destroyed.key_id, destroyed.public_key)
    assert alone.client(url, alone.alice).fetch(kept.key_id, kept.public_key) == private


def test_an_export_to_a_full_disk_leaves_nothing(alone, monkeypatch):
    def cut(*_):
        yield b"x"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive, "export", cut)
    (alone.directory / "escrow.pub").write_text(write_public_key(public_key_of(secrets.token_bytes(32))))
    file = alone.directory / "keys.c4gh"
    recipient = ["--recipient", str(alone.directory / "escrow.pub")]
    done = CliRunner().invoke(main, ["export", "--config", str(alone.write()), *recipient, str(file)])
    assert done.exit_code == 31, done.output
    assert not list(alone.directory.glob("keys.c4gh*"))


def test_whoever_runs_it_finds_an_edit_in_its_audit_log(alone):
    url = alone.start()
    alone.register(url)
    assert alone.command("verify").stdout == "1 logs are whole\n"
    [log] = (alone.directory / "audit").glob("*.jsonl")
    log.write_text(log.read_text().replace("putKeys", "getKeys"))
    done = alone.command("verify")
    assert done.returncode == 1
    assert done.stdout.startswith(f"{log.stem}: ")


def test_an_import_waits_for_no_running_server(alone):
    alone.start()
    (alone.directory / "some").write_bytes(b"")
    done = alone.command("import", str(alone.directory / "some"))
    assert done.returncode == 30
    assert "another process writes the audit log" in done.stderr


def test_it_tells_its_public_key(alone):
    told = alone.command("public-key").stdout
    assert re.fullmatch(r"[0-9a-f]{64}\n", told)
    assert alone.command("public-key").stdout == told
    file = alone.directory / "server.pub"
    alone.command("public-key", "-o", str(file))
    assert file.read_text() == write_public_key(bytes.fromhex(told))
    url = alone.start()
    connection = HttpClient(url, alone.alice)
    assert connection.request("GET", "/?wsdl").status == 200
    connection.close()


def test_a_renewed_certificate_is_shown_without_a_restart(alone):
    url = alone.start()
    charter, private = alone.register(url)
    port = int(url.rpartition(":")[2])

    def shown():
        context = alone.alice.client_context()
        with (
            socket.create_connection(("localhost", port)) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            return connection.getpeercert(binary_form=True)

    before = shown()
    alone.host.certificate.unlink()
    alone.host.key.unlink()
    alone.pki.host("localhost")
    assert shown() != before
    assert alone.client(url, alone.alice).fetch(charter.key_id, charter.public_key) == private

"""Three key servers in this process, called as WSGI applications, and records for them."""

import io
import itertools
import json
import re
import secrets
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mdm_keys.access import Access
from mdm_keys.application import application
from mdm_keys.ledger import DestructionLedger
from mdm_keys.server import KeyServer, KeyServerSettings, spending
from mdm_keys.service import KeyService
from mdm_keys.store import KeyStore
from srm_dicom.audit.log import AuditLog
from srm_dicom.cli import eds
from srm_dicom.client.http import Response
from srm_dicom.client.keys import KeyServers
from srm_dicom.clock import SystemClock
from srm_dicom.crypto import keyrecord
from srm_dicom.crypto.signing import trusting
from srm_dicom.db.database import Database
from srm_dicom.db.usage import Ledger
from srm_dicom.errors import KeyServerUnavailable
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.acl import Acl
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.voms import TestVo

LOG = re.compile(r"\d{4}-\d\d-\d\d \d\d:")
EXPIRES = datetime(2090, 1, 1, tzinfo=UTC)


def principal(name, *fqans, limited=False):
    return Principal(f"/DC=test/DC=mdm/CN={name}", fqans, limited, EXPIRES)


class Server:
    """One key server, and what can be wrong with it."""

    def __init__(self, directory, name, sites, clock):
        self.name, self.directory = name, directory
        self.database = Database(database_url(directory, name))
        self.store = KeyStore(self.database)
        self.audit = AuditLog(directory, name, "localhost", clock)
        creators = frozenset({principal("registrar").dn})
        self.access = Access(self.store, self.audit, creators)
        self.ledger = DestructionLedger(directory / f"{name}.destroyed")
        self.sites, self.clock = sites, clock
        self.serve()
        self.down = False
        self.away_s = 0.0
        self.hung = threading.Event()
        self.hung.set()
        self.change = lambda statuses: statuses

    def serve(self, *peers):
        """Serve with these servers' public keys as peers."""
        texts = [peer.service.get_service_metadata(None, "public_key") for peer in peers]
        keys = frozenset(map(bytes.fromhex, texts))
        self.service = KeyService(self.store, self.access, self.sites, self.clock, self.ledger, keys)
        self.app = application(self.service)

    def bound(self, **settings):
        """Serve within bounds of what may be fetched."""
        bounds = KeyServerSettings("", **settings)
        spend = spending(bounds, Ledger(self.database, self.audit, self.clock), self.clock)
        self.access = Access(self.store, self.audit, frozenset({principal("registrar").dn}), spend=spend)
        self.serve()

    def events(self):
        return self.audit.path.read_text()

    def dies_at(self, operation, *, answered):
        """Be down from a call of this operation on, before it is done or after it; once."""
        real = self.post

        def post(body, caller):
            if f":{operation}".encode() not in body:
                return real(body, caller)
            self.down, self.post = True, real
            if answered:
                real(body, caller)
            raise KeyServerUnavailable("it died")

        self.post = post

    def tells(self, element, text):
        """Say something else in an element of every answer."""
        pattern, lie = f"<{element}>[^<]+<".encode(), f"<{element}>{text}<".encode()
        self.change = lambda answer: Response(
            answer.status, answer.headers, re.sub(pattern, lie, answer.body)
        )

    def post(self, body, caller):
        status, out = [], b""
        environ = {
            "REQUEST_METHOD": "POST",
            "QUERY_STRING": "",
            "wsgi.input": io.BytesIO(body),
            "srm_dicom.principal": caller,
        }
        out = b"".join(self.app(environ, lambda *head: status.append(head)))
        return Response(int(status[0][0][:3]), (("content-type", "text/xml"),), out)


class Connection:
    def __init__(self, server, caller, client):
        self.server, self.caller, self.client = server, caller, client

    def request(self, method, target, body, headers, *, repeatable):
        if next(self.client, None) is None:
            raise KeyServerUnavailable("the client has died")
        assert (method, target) == ("POST", "/glite-data-hydra-service/services/Hydra")
        self.server.hung.wait(20)
        time.sleep(self.server.away_s)
        if self.server.down:
            raise KeyServerUnavailable("it is down")
        return self.server.change(self.server.post(body, self.caller))

    def start(self, *_request):
        return None

    def close(self):
        pass


class KeySite:
    """A registering site and its three key servers."""

    def __init__(self, directory):
        self.directory = directory
        self.clock = FakeClock()
        self.signing_key = Ed25519PrivateKey.generate()
        self.sites = trusting(self.signing_key.public_key())
        self.servers = {f"keys{i}": Server(directory, f"keys{i}", self.sites, self.clock) for i in (1, 2, 3)}

    def another(self, name):
        """Set up another key server, which nobody knows yet."""
        self.servers[name] = Server(self.directory, name, self.sites, self.clock)
        return self.servers[name]

    def client(self, caller, *, sites=None, timeout_s=10.0, names=("keys1", "keys2", "keys3"), life=None):
        calls = iter(range(life)) if life is not None else itertools.count()

        def connect(url):
            return Connection(self.servers[url.removeprefix("https://")], caller, calls)

        urls = [f"https://{name}" for name in names]
        sites = self.sites if sites is None else sites
        return KeyServers(urls, None, sites=sites, timeout_s=timeout_s, connect=connect)

    def issue(self, private=None, **changed):
        private = private or X25519PrivateKey.generate().private_bytes_raw()
        settings = {"k": 2, "n": 3, "valid_until": EXPIRES, "signing_key": self.signing_key} | changed
        return keyrecord.issue(private, random_bytes=secrets.token_bytes, **settings)

    def registered(self, acl="", **changed):
        private = X25519PrivateKey.generate()
        records = self.issue(private.private_bytes_raw(), **changed)
        self.client(principal("registrar")).register(records, Acl.parse(acl))
        return Registered(records, private.private_bytes_raw())

    def close(self):
        for server in self.servers.values():
            server.hung.set()
            server.audit.close()
            server.database.close()


class Registered:
    def __init__(self, records, private):
        charter = records[0].charter
        self.records, self.private = records, private
        self.id, self.public, self.charter = charter.key_id, charter.public_key, charter


class LiveSite:
    """Real key servers on loopback, with TLS, and a registering site."""

    def __init__(self, directory):
        self.directory, self.signing_key = directory, Ed25519PrivateKey.generate()
        self.pki = TestPki(directory / "pki")
        self.registrar, self.alice, self.stranger = map(self.pki.user, ("registrar", "alice", "stranger"))
        self.vo = TestVo(self.pki, "org.acme")
        trust = TrustSettings(self.pki.trust_dir, vomsdir=self.vo.vomsdir)
        gate = Gate(trust, self.pki.host(), SystemClock())
        self.servers, self.audits = [], []
        for number in (1, 2, 3):
            settings = KeyServerSettings(
                database=database_url(directory, f"keys{number}"),
                sites=(self.signing_key.public_key().public_bytes_raw().hex(),),
                creators=(self.pki.dn(self.registrar), f"/{self.vo.name}"),
                host="127.0.0.1",
                port=0,
            )
            audit = AuditLog(directory, f"keys{number}", "localhost", SystemClock())
            self.audits.append(audit)
            self.servers.append(KeyServer(settings, gate, audit, SystemClock()))
            self.servers[-1].start()
        self.urls = [f"https://localhost:{server.port}" for server in self.servers]

    def client(self, credential, urls=None):
        return KeyServers(
            urls or self.urls, credential, sites=trusting(self.signing_key.public_key()), timeout_s=10.0
        )

    def issue(self, private, **changed):
        settings = {"k": 2, "n": 3, "valid_until": EXPIRES, "signing_key": self.signing_key} | changed
        return keyrecord.issue(private, random_bytes=secrets.token_bytes, **settings)

    def register(self, count=1, who="alice"):
        private = [secrets.token_bytes(32) for _ in range(count)]
        keys = [self.issue(key) for key in private]
        acl = Acl.parse(f'user:"{self.pki.dn(getattr(self, who))}":gx')
        self.client(self.registrar).register_many(keys, acl)
        charters = [records[0].charter for records in keys]
        return {charter.key_id: charter.public_key for charter in charters}, private

    def description(self, directory, urls=None):
        """Write a site.json; the services beside the key servers are nowhere."""
        known = self.signing_key.public_key().public_bytes_raw().hex()
        site = {"name": "test", "srm": "httpg://localhost:1/srm", "files": "https://localhost:1"}
        site |= {"metadata": ["localhost:1"], "keys": urls or self.urls, "signing_keys": [known]}
        path = directory / "site.json"
        path.write_text(json.dumps(site))
        return path

    def stop(self):
        for server in self.servers:
            server.stop(0.5)
        for audit in self.audits:
            audit.close()


@pytest.fixture(scope="module")
def live_site(tmp_path_factory):
    site = LiveSite(tmp_path_factory.mktemp("keys"))
    yield site
    site.stop()


@pytest.fixture
def eds_command(live_site, tmp_path, monkeypatch):
    """Runs ``glite-eds-*`` as somebody, in a directory of its own; gives exit code and output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "signing.key").write_bytes(live_site.signing_key.private_bytes_raw())

    def call(name, *arguments, who, stdin=None, signing=True, urls=None):
        environment = live_site.pki.environment(who)
        environment["MDM_SITE"] = str(live_site.description(tmp_path, urls))
        environment["MDM_SIGNING_KEY"] = str(tmp_path / "signing.key") if signing else ""
        command = getattr(eds, name.replace("-", "_"))
        done = CliRunner().invoke(command, arguments, input=stdin, env=environment)
        assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
        lines = done.output.splitlines(keepends=True)
        told = "".join(line for line in lines if not LOG.match(line))  # the servers are in this process
        return done.exit_code, told

    return call


@pytest.fixture
def key_site():
    """For whoever makes sites of its own."""
    return KeySite


@pytest.fixture
def site(tmp_path):
    site = KeySite(tmp_path)
    yield site
    site.close()


@pytest.fixture
def alice():
    return principal("alice", "/biomed/radiology")


@pytest.fixture
def registrar():
    return principal("registrar")


@pytest.fixture
def stranger():
    return principal("stranger")


@pytest.fixture
def limited(alice):
    return replace(alice, limited=True)

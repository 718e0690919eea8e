"""A site that speaks https alone: SRM, namespace, scratch and the WebDAV door, with real clients."""

import json
import os
import shutil
import ssl
import subprocess
import time
import zlib
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from srm_dicom.audit.event import Action
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.clock import SystemClock
from srm_dicom.config import Issuer, Tokens
from srm_dicom.daemon.outer import make_tokens
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.ids import Guid, parse_path
from srm_dicom.rights.acl import Acl
from srm_dicom.scratch.area import ScratchArea, StagedName
from srm_dicom.srm.service import application
from srm_dicom.store.namespace import Entry, Facts, Kind
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores
from srm_dicom.testing.pki import TestPki
from srm_dicom.transfer.served import StagedFilesOfNode
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.server import WebServer

SERIES = "/vo/mdm/site/heart-v1/p/s"
SHOWN = datetime(2026, 11, 1, tzinfo=UTC)
NODE = "node"
PATH = "/usr/bin:/bin"
ISSUER = "https://issuer.example.org/"
SIGNER = ec.generate_private_key(ec.SECP256R1())


class House:
    """A site with a few staged files that Alice may read."""

    def __init__(self, directory):
        self.directory = directory
        self.pki = TestPki(directory / "pki")
        self.alice, self.bob = (self.pki.proxy(self.pki.user(name)) for name in ("Alice", "Bob"))
        self.stores = Stores.open(f"sqlite:///{directory}/names.db")
        self.area = ScratchArea(directory / "scratch")
        self.acl = Acl.parse(f'user:"{self.pki.dn(self.alice)}":rx')
        self.stores.namespace.make_directory(parse_path(SERIES), self.acl, SHOWN)
        self.contents = {f"{number}.dcm.c4gh": os.urandom(100_000 + number) for number in range(3)}
        for number, (name, content) in enumerate(self.contents.items()):
            self._stage(Guid(f"00000000-0000-4000-8000-{number:012d}"), name, content)
        self._serve()
        (directory / "home").mkdir()

    def _stage(self, guid, name, content):
        facts = Facts(len(content), f"{zlib.adler32(content):08x}", '{"signed": true}')
        path = parse_path(f"{SERIES}/{name}")
        self.stores.namespace.add_file(Entry(path, Kind.FILE, "", self.acl, SHOWN, guid=guid, facts=facts))
        incoming = self.area.begin()
        incoming.write(content)
        incoming.finish()
        self.area.publish([(StagedName(guid, 1), incoming.id)])
        self.stores.staged.add([Staged(guid, NODE, 1, len(content))], SystemClock().now())

    def _serve(self):
        clock = SystemClock()
        self.audit = AuditLog(self.directory / "audit", "transfer", "host", clock)
        access = FileAccess(self.stores.namespace, {}, self.audit, clock)
        gate = Gate(TrustSettings(self.pki.trust_dir), self.pki.host(), clock)
        files = StagedFilesOfNode(NODE, self.area, self.stores, access, self.audit, clock)
        where = {"host": "localhost", "port": 0}
        self.door = WebServer(WebDavDoor(files), gate, name="webdav", tokens=self._tokens(), **where)
        nodes = {NODE: {"https": f"https://localhost:{self.door.port}"}}
        broker = Broker(BrokerSettings("localhost", nodes), self.stores, access, clock)
        tls = ssl.TLSVersion.TLSv1_2
        self.srm = WebServer(application(broker), gate, maximum_tls=tls, name="srm", **where)
        for server in (self.door, self.srm):
            server.start()

    def _tokens(self):
        keys = self.directory / "keys.jwks"
        key = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(SIGNER.public_key()))
        keys.write_text(json.dumps({"keys": [key]}))
        mapped = self.directory / "token-map"
        mapped.write_text(f'"token:{ISSUER}#alice" "{self.pki.dn(self.alice)}"\n')
        issuer = Issuer(url=ISSUER, audiences=("site",), keys=str(keys))
        return make_tokens(Tokens(issuers=(issuer,), map_file=mapped), SystemClock())

    def surl(self, name=""):
        return f"srm://localhost:{self.srm.port}/srm/managerv2?SFN={SERIES}/{name}"

    def url(self, name=""):
        return f"davs://localhost:{self.door.port}{SERIES}/{name}"

    def run(self, *command, credential=None, **variables):
        environment = self.pki.environment(credential or self.alice) | variables
        return subprocess.run(
            [shutil.which(command[0], path=PATH), *map(str, command[1:])],
            env={"PATH": PATH, "HOME": str(self.directory / "home"), "LANG": "C", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def gfal(self, tool, *arguments, **options):
        return self.run(tool, "-D", "BDII:ENABLED=false", *arguments, **options)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("house"))
    yield house
    for server in (house.srm, house.door):
        server.stop()


def succeeded(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def releases(house):
    """How often bytes were released, by the audit trail."""
    trail = (path.read_text() for path in (house.directory / "audit").rglob("*") if path.is_file())
    return "".join(trail).count(f'"{Action.BYTES_RELEASED.value}"')


@pytest.mark.interop("gfal-copy")
@pytest.mark.parametrize("name", ["0.dcm.c4gh", "1.dcm.c4gh"])
def test_gfal_copy_through_the_srm(house, tmp_path, name):
    before = releases(house)
    succeeded(house.gfal("gfal-copy", "-K", "ADLER32", house.surl(name), f"file://{tmp_path}/copy"))
    assert (tmp_path / "copy").read_bytes() == house.contents[name]
    assert releases(house) == before + 1


@pytest.mark.interop("arccp")
def test_arccp_through_the_srm(house, tmp_path):
    succeeded(house.run("arccp", house.surl("2.dcm.c4gh"), tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == house.contents["2.dcm.c4gh"]


@pytest.mark.interop("gfal-ls")
def test_the_door_shows_the_namespace(house):
    assert succeeded(house.gfal("gfal-ls", house.url())).split() == sorted(house.contents)
    wanted = f"{zlib.adler32(house.contents['0.dcm.c4gh']):08x}"
    assert succeeded(house.gfal("gfal-sum", house.url("0.dcm.c4gh"), "ADLER32")).split()[-1] == wanted
    assert "2026-11-01" in succeeded(house.gfal("gfal-stat", house.url("0.dcm.c4gh")))


@pytest.mark.interop("gfal-copy")
def test_the_manifest_is_beside_the_file(house, tmp_path):
    succeeded(house.gfal("gfal-copy", house.url("0.dcm.c4gh.manifest"), f"file://{tmp_path}/manifest"))
    assert (tmp_path / "manifest").read_text() == '{"signed": true}'


@pytest.mark.interop("gfal-copy", "gfal-ls")
def test_bob_learns_nothing(house, tmp_path):
    for url in (house.url("0.dcm.c4gh"), house.url("nothing"), house.surl("0.dcm.c4gh")):
        done = house.gfal("gfal-copy", url, f"file://{tmp_path}/copy", credential=house.bob)
        assert (done.returncode, "No such file" in done.stderr) == (2, True), done.stderr
    done = house.gfal("gfal-ls", house.url(), credential=house.bob)
    assert (done.returncode, "No such file" in done.stderr) == (2, True), done.stderr


def bearer(subject="alice", scope=f"storage.read:{SERIES}"):
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": subject, "aud": "site", "iat": now, "exp": now + 600, "scope": scope}
    return jwt.encode(claims, SIGNER, algorithm="ES256")


def curl(house, token, url):
    options = ("-sS", "--capath", house.pki.trust_dir, "-o", "-", "-w", "%{http_code}")
    done = house.run("curl", *options, "-H", f"Authorization: Bearer {token}", url)
    return succeeded(done)[-3:]


@pytest.mark.interop("curl")
def test_a_token_instead_of_a_certificate(house):
    url = house.url("0.dcm.c4gh.manifest").replace("davs:", "https:")
    assert curl(house, bearer(), url) == "200"
    assert curl(house, bearer(scope="storage.read:/vo/other"), url) == "403"
    assert curl(house, bearer("bob"), url) == "404"
    assert curl(house, bearer() + "x", url) == "401"


@pytest.mark.interop("gfal-copy")
def test_gfal_copy_with_a_token(house, tmp_path):
    copy = ("gfal-copy", house.url("0.dcm.c4gh"), f"file://{tmp_path}/copy")
    succeeded(house.gfal(*copy, X509_USER_PROXY="", BEARER_TOKEN=bearer()))
    assert (tmp_path / "copy").read_bytes() == house.contents["0.dcm.c4gh"]
    (tmp_path / "copy").unlink()
    narrowed = bearer(scope="storage.read:/vo/other")
    done = house.gfal(*copy, X509_USER_PROXY="", BEARER_TOKEN=narrowed)
    assert (done.returncode, "HTTP 403" in done.stderr) == (1, True), done.stderr

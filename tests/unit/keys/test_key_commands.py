"""The commands of docs/admin/keys.md, on three key servers that run and one that is new."""

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.client.amga import AmgaChannel
from srm_dicom.client.keys import KeyServers
from srm_dicom.client.metadata import MetadataClient
from srm_dicom.crypto.keyfile import write_public_key, write_secret_key
from srm_dicom.crypto.keyrecord import issue, key_id_of
from srm_dicom.crypto.sealing import public_key_of
from srm_dicom.daemon.catalogues import catalogue
from srm_dicom.daemon.common import ADMIN, Common, host_credential
from srm_dicom.daemon.inner import key_servers, make_journal, make_places
from srm_dicom.demo.site import PROJECT, DemoSite
from srm_dicom.errors import KeyServerError, NotAuthorised
from srm_dicom.registry.journal import Group
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.project import Release

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/admin/keys.md").read_text()
COMMANDS = [
    line[2:] for block in re.findall(r"(?ms)^```console\n(.*?)^```", PAGE) for line in block.splitlines()
]


pytestmark = pytest.mark.timeout(400)


class Site:
    """A demo site's configuration, its metadata server and three key servers, a fourth, keys on the three."""

    def __init__(self, directory):
        self.demo = DemoSite(directory)
        self.demo.write()
        self.names = [*self.demo.key_servers, "keys-4"]
        self.write_fourth()
        self.running = {}
        self.be_peers()
        for name in (*self.names, "metadata"):
            self.start(name)
        self.urls = {name: url_of(self, name) for name in self.names}
        self.point_at(self.urls[name] for name in self.demo.key_servers)
        self.keys = dict(self.register(f"series {number}") for number in range(3))

    def file(self, name):
        return self.demo.directory / "etc" / "catalog.d" / f"{name}.toml"

    def write_fourth(self):
        text = self.file("keys-3").read_text()
        self.file("keys-4").write_text(text.replace("keys-3", "keys-4"))

    def be_peers(self):
        """Let each print its public key, and write all into the file of each; any port will do."""
        told = [run(f"mdm-keys public-key --config {self.file(name)}").strip() for name in self.names]
        for name in self.names:
            text = re.sub(r"(?m)^port = \d+$", "port = 0", self.file(name).read_text())
            self.file(name).write_text(re.sub(r"(?m)^peers = .*$", f"peers = {json.dumps(told)}", text))

    def point_at(self, urls):
        text = self.demo.config.read_text()
        self.demo.config.write_text(re.sub(r"(?m)^keys = \[.*\]$", f"keys = {json.dumps(list(urls))}", text))

    def start(self, name):
        self.running[name] = catalogue(self.file(name))
        for service in self.running[name]:
            service.start()

    def stop(self, name):
        for service in reversed(self.running.pop(name)):
            service.stop()

    def common(self):
        return Common(self.demo.config, ADMIN)

    def register(self, group):
        """Register a key as the registrar does."""
        common = self.common()
        private = X25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        project, series = common.projects[PROJECT], Group("dicom", Release(PROJECT, "basic", "v1"), group)
        journal = make_journal(common)
        journal.intend_key(series, key_id_of(public), public)
        records = issue(
            private.private_bytes_raw(),
            k=2,
            n=3,
            valid_until=project.valid_until,
            signing_key=InnerSecrets.load(common.inner().secrets).signing_key,
            random_bytes=secrets.token_bytes,
        )
        key_servers(common).register(records, project.key_acl())
        assert journal.confirm_key(series, key_id_of(public))
        return key_id_of(public), private.private_bytes_raw()

    def fetch(self, key_id):
        """Fetch a key as a researcher, from the servers that the configuration names now."""
        urls = self.common().config.catalogues.keys
        sites = self.demo.description.trusted_signers()
        client = KeyServers(urls, self.demo.users["researcher"], sites=sites)
        return client.fetch(key_id, public_key_of(self.keys[key_id]))

    def all_fetched(self):
        return all(self.fetch(key_id) == private for key_id, private in self.keys.items())


def run(command, config="", *, fails=False):
    program, *words = shlex.split(command)
    module = {"srm-dicom": "admin", "mdm-keys": "keyserver"}[Path(program).name]
    done = subprocess.run(
        [sys.executable, "-m", f"srm_dicom.cli.{module}", *words],
        env={**os.environ, "SRM_DICOM_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, f"{command}: {told}"
    return told


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    escrow = secrets.token_bytes(32)
    Path("escrow.key").write_text(write_secret_key(escrow))
    Path("escrow.pub").write_text(write_public_key(public_key_of(escrow)))
    site = Site(tmp_path / "site")
    yield site
    for name in list(site.running):
        site.stop(name)


def test_the_page_does_what_it_says(site):
    """In its order; between two commands every key can be fetched by who may, as the page says."""
    first, *others = site.keys
    where = {
        "/etc/srm-dicom/catalog.d/keys.toml": str(site.file("keys-1")),
        "0123456789abcdef0123456789abcdef01234567": first,
        **{f"https://keys{n}.example.org:8450": site.urls[f"keys-{n}"] for n in (1, 2, 3, 4)},
    }
    for command in COMMANDS:
        if Path(command.split()[0]).name in ("python3", "pip") or " serve " in command:
            continue  # of the machine; serving alone is another test
        line = re.sub("|".join(map(re.escape, where)), lambda found: where[found[0]], command)
        if " import " in line:
            site.stop("keys-1")
        told = run(line, site.demo.config)
        if " import " in line:
            assert told.startswith("0 keys and 0 shares added")
            site.start("keys-1")
            old, new = where["https://keys1.example.org:8450"], url_of(site, "keys-1")
            site.point_at(new if url == old else url for url in site.common().config.catalogues.keys)
        if "catalogues.keys = " in told:
            site.point_at(json.loads(re.search(r"catalogues.keys = (\[.*\])", told)[1]))
            threshold = re.search(r"catalogues.threshold = (\d+)", told)[1]
            text = site.demo.config.read_text()
            site.demo.config.write_text(re.sub(r"(?m)^threshold = \d+$", f"threshold = {threshold}", text))
        assert all(site.fetch(key_id) == site.keys[key_id] for key_id in others)
    with pytest.raises((NotAuthorised, KeyServerError)):
        site.fetch(first)


def url_of(site, name):
    return f"https://localhost:{site.running[name][-1].port}"


def test_reshare_and_move(site):
    assert site.all_fetched()
    told = run("srm-dicom keys reshare", site.demo.config)
    assert "3 of 3 keys have fresh shares, 2 of 3" in told
    assert site.all_fetched()
    site.stop("keys-2")
    move = f"srm-dicom keys move {site.urls['keys-2']} {site.urls['keys-4']}"
    told = run(move, site.demo.config, fails=True)
    assert "3 of them keep their old shares too" in told
    site.point_at(site.urls[name] for name in ("keys-1", "keys-4", "keys-3"))
    assert site.all_fetched()
    told = run("srm-dicom keys reshare --without-proof", site.demo.config)
    audited = "".join(path.read_text() for path in (site.demo.directory / "audit").glob("admin*"))
    assert [audited.count(f'"operation":"keys {name}"') for name in ("reshare", "move")] == [2, 1]
    assert "3 of 3 keys have fresh shares" in told
    assert "old shares" not in told
    assert site.all_fetched()
    listed = [json.loads(line) for line in run("srm-dicom keys list --json", site.demo.config).splitlines()]
    assert {one["key_id"] for one in listed} == set(site.keys)
    assert {one["state"] for one in listed} == {"kept"}
    assert "none of this site's key servers" in run(
        "srm-dicom keys move https://a https://b", site.demo.config, fails=True
    )


def test_nobody_is_told_to_use_servers_that_have_no_shares(site):
    """The servers of today deal to none of those of tomorrow: nobody has told them that these are peers."""
    for name in site.demo.key_servers:
        site.stop(name)
        site.file(name).write_text(re.sub(r"(?m)^peers = .*\n", "", site.file(name).read_text()))
        site.start(name)
    site.point_at(url_of(site, name) for name in site.demo.key_servers)
    for command in ("reshare --threshold 3", f"move {url_of(site, 'keys-2')} {site.urls['keys-4']}"):
        told = run(f"srm-dicom keys {command}", site.demo.config, fails=True)
        assert "0 of 3 keys have fresh shares" in told
        assert "Now set" not in told
        assert "3 keys have none yet: give the command again" in told
    assert site.all_fetched()


def acls(site, key_id):
    told = key_servers(site.common()).get_acl(key_id)
    return [str(acl).partition("other::-\n")[2] for acl in told.values()]


def change_project(site, old, new):
    path = site.demo.directory / "etc" / "projects.d" / "demo.toml"
    path.write_text(re.sub(old, new, path.read_text()))


def test_keys_follow_their_project(site):
    """Who leaves a project loses its keys and who joins it gets them, at each server that answers."""
    first, *others = site.keys
    before = acls(site, first)[0]
    members = site.common().projects[PROJECT].members
    name = next(one.name for one in members if one.name.endswith("researcher"))
    change_project(site, re.escape(name), "/DC=test/DC=mdm/CN=successor")
    site.stop("keys-2")
    told = run("srm-dicom rights", site.demo.config, fails=True)
    assert "cannot be reached" in told
    assert told.count("3 of 3 keys have the rights of their projects") == 2
    with pytest.raises((NotAuthorised, KeyServerError)):
        site.fetch(first)
    site.start("keys-2")
    site.point_at(url_of(site, each) for each in site.demo.key_servers)
    key_servers(site.common()).remove(others[0])
    told = run("srm-dicom rights", site.demo.config, fails=True)
    assert told.count("2 of 3 keys have the rights of their projects") == 3
    assert told.count("it has not all keys\n       Give srm-dicom keys reshare.") == 3
    after = before.replace(name, "/DC=test/DC=mdm/CN=successor")
    assert acls(site, first) == [after] * 3
    (site.demo.directory / "etc" / "projects.d" / "demo.toml").unlink()
    told = run("srm-dicom rights", site.demo.config, fails=True)
    assert told.count("2 of 3 keys") == 3
    assert acls(site, first) == [""] * 3


def test_collections_follow_their_project(site):
    """Who leaves a project searches no more, and when it ends or is gone nobody does."""
    common = site.common()
    project, collection = common.projects[PROJECT], make_places(common).collection(PROJECT)
    (endpoint,) = common.config.catalogues.metadata
    credential = host_credential(common.config.trust)
    with ExitStack() as stack:
        server = stack.enter_context(closing(MetadataClient(endpoint, credential)))
        raw = stack.enter_context(closing(AmgaChannel(endpoint, credential, timeout_s=30.0)))
        said = f"{endpoint}: {{}} collections have the rights of their projects"
        assert said.format("0 of 0") in run("srm-dicom rights", site.demo.config)
        assert not server.has(collection), "nothing was ever registered"
        server.set_acl(collection, project.metadata_acl())
        name = next(one.name for one in project.members if one.name.endswith("researcher"))
        change_project(site, re.escape(name), "/DC=test/DC=mdm/CN=successor")
        change_project(site, r"(?m)^valid_until = .*$", "valid_until = 2099-01-01T00:00:00Z")
        assert said.format("1 of 1") in run("srm-dicom rights", site.demo.config)
        assert name not in str(server.acl(collection))
        assert "CN=successor" in str(server.acl(collection))
        assert raw.call("getvalidity", collection)[0].startswith("2099-01-01")
        (site.demo.directory / "etc" / "projects.d" / "demo.toml").unlink()
        release = Release(PROJECT, "basic", "v1")
        top = make_places(common).path(release, ())
        common.stores.namespace.make_directory(top, Acl(), datetime(2026, 11, 1, tzinfo=UTC), release)
        assert said.format("1 of 1") in run("srm-dicom rights", site.demo.config)
        assert not server.acl(collection).entries
    site.stop("metadata")
    told = run("srm-dicom rights", site.demo.config, fails=True)
    assert said.format("0 of 0") in told
    assert f"error: {endpoint}: " in told


def test_destruction_is_asked_for_until_it_is_done(site):
    key_id = next(iter(site.keys))
    site.stop("keys-1")
    site.stop("keys-2")
    told = run(f"srm-dicom keys destroy --yes {key_id}", site.demo.config, fails=True)
    assert f"{key_id}: not yet: 1 servers have confirmed, 2 are needed" in told
    site.start("keys-2")
    site.point_at([site.urls["keys-1"], url_of(site, "keys-2"), site.urls["keys-3"]])
    told = run("srm-dicom keys replay", site.demo.config)
    assert f"{key_id}: destroyed: 2 servers have confirmed" in told
    assert "not every server has confirmed; the registrar goes on asking" in told
    site.start("keys-1")
    site.point_at(url_of(site, name) for name in ("keys-1", "keys-2", "keys-3"))
    with pytest.raises((NotAuthorised, KeyServerError)):
        site.fetch(key_id)
    assert f"{key_id}: destroyed: 3 servers have confirmed" in run("srm-dicom keys replay", site.demo.config)
    assert "no key unknown" in run("srm-dicom keys destroy --yes unknown", site.demo.config, fails=True)
    assert "plugins.d has no none.toml" in run(
        "srm-dicom register --plugin none x", site.demo.config, fails=True
    )

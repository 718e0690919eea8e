"""Real key servers on loopback: TLS, our client, and zeep driving the generated WSDL."""

import re
import secrets
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import zeep
import zeep.exceptions

import mdm_keys.wsdl
from mdm_keys.server import KeyServer, KeyServerSettings
from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError, NotAuthorised
from srm_dicom.rights.acl import Acl

ROOT = Path(__file__).parents[3]
EXPIRES = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def site(live_site):
    return live_site


@pytest.fixture(scope="module")
def hydra(site):
    """zeep, with the registrar's certificate, on the first server's own WSDL."""
    session = requests.Session()
    session.cert = (str(site.registrar.certificate), str(site.registrar.key))
    session.verify = str(site.pki.trust_dir)
    session.trust_env = False
    transport = zeep.Transport(session=session, timeout=10, operation_timeout=10)
    return zeep.Client(
        f"{site.urls[0]}/glite-data-hydra-service/services/Hydra?wsdl", transport=transport
    ).service


def test_the_wsdl_in_the_tree_is_the_generated_one():
    assert (ROOT / "wsdl" / "hydra.wsdl").read_bytes() == mdm_keys.wsdl.document()


def test_keys_over_tls_with_a_dead_and_a_hung_server(site):
    wanted, [private] = site.register()
    [(key_id, public_key)] = wanted.items()
    client = site.client(site.pki.proxy(site.alice, limited=True))
    assert client.fetch(key_id, public_key) == private
    assert client.fetch(key_id, public_key) == private
    client.close()
    with socket.create_server(("127.0.0.1", 0)) as hung:
        dead = "https://localhost:1"
        for url in (dead, f"https://localhost:{hung.getsockname()[1]}"):
            start = time.monotonic()
            assert site.client(site.alice, [url, *site.urls[1:]]).fetch(key_id, public_key) == private
            assert time.monotonic() - start < 8  # the client's timeout is ten
    with pytest.raises(NotAuthorised):
        site.client(site.stranger).fetch(key_id, public_key)


class Proxy:
    """Stands before a key server and passes bytes on; of what the server says only as many as it is let."""

    def __init__(self, port):
        self.port_behind, self.left, self.opened = port, None, 0
        self.flows = threading.Event()
        self.flows.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self.listener.getsockname()[1]}"
        self.pairs = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                pair = self.listener.accept()[0], socket.create_connection(("127.0.0.1", self.port_behind))
                self.opened += 1
                self.pairs.append(pair)
                for one, other in (pair, pair[::-1]):
                    answers = one is pair[1]
                    threading.Thread(target=self.pass_on, args=(one, other, answers), daemon=True).start()

    def pass_on(self, one, other, answers):
        with suppress(OSError):
            while data := one.recv(65536):
                self.flows.wait(20)
                if answers and self.left is not None:
                    data, self.left = data[: self.left], max(0, self.left - len(data))
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self):
        """Close the connections that there are."""
        while self.pairs:
            for sock in self.pairs.pop():
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()

    def close(self):
        self.listener.close()
        self.cut()


@pytest.fixture
def proxy(site):
    made = Proxy(site.servers[0].port)
    yield made
    made.close()


def test_a_connection_is_kept_and_used_again(site, proxy):
    wanted, private = one_of_one(site)
    client = site.client(site.alice, [proxy.url])
    for _ in range(10):
        assert list(client.fetch_many(wanted).values()) == private
    assert proxy.opened == 1
    client.close()


def test_a_connection_that_was_closed_while_idle_is_made_anew(site, proxy):
    client = site.client(site.alice, [proxy.url])
    wanted, private = one_of_one(site)
    for opened in (1, 2, 3):
        assert list(client.fetch_many(wanted).values()) == private
        assert proxy.opened == opened
        proxy.cut()
    client.close()


def test_a_liar_that_answers_late_is_named_though_the_key_is_there(site, proxy, capsys):
    """It is asked on a connection that is open, and the others give the key while it is silent."""
    wanted, private = site.register()
    [key_id] = wanted
    client = site.client(site.alice, [proxy.url, *site.urls[1:]])
    assert list(client.fetch_many(wanted).values()) == private
    damaged = "UPDATE share SET share = ? WHERE key_id = ?"
    site.servers[0]._database.execute_many(damaged, [(b"x" * 32, key_id)])
    proxy.flows.clear()
    assert list(client.fetch_many(wanted).values()) == private
    proxy.flows.set()
    until, told = time.monotonic() + 10, ""
    while "key_share_invalid" not in told and time.monotonic() < until:
        time.sleep(0.02)
        told += capsys.readouterr().out
    assert re.search(f"key_share_invalid.*{key_id}.*server={urlsplit(proxy.url).netloc}", told)
    client.close()


@pytest.mark.parametrize("let_through", [0, 1, 40, 300])
def test_a_server_that_stops_in_the_middle_of_its_answer_delays_nobody(site, proxy, let_through):
    """The connection is open and the request taken; then some bytes of the answer come, and no more."""
    wanted, private = site.register()
    client = site.client(site.alice, [proxy.url, *site.urls[1:]])
    assert list(client.fetch_many(wanted).values()) == private
    proxy.left = let_through
    start = time.monotonic()
    for _ in range(5):
        assert list(client.fetch_many(wanted).values()) == private
    assert time.monotonic() - start < 8  # the client's timeout is ten
    proxy.left = None
    proxy.cut()
    client.close()


def test_a_server_that_leaves_in_the_middle_of_its_answer_is_named(site, proxy):
    wanted, private = one_of_one(site, 60)
    client = site.client(site.alice, [proxy.url])
    assert list(client.fetch_many(wanted).values()) == private
    proxy.left = 20_000  # the first of several TLS records
    threading.Timer(0.3, proxy.cut).start()
    for error in client.fetch_many(wanted).values():
        assert "broke off in the middle of its answer" in error.message
    proxy.left = None
    assert list(client.fetch_many(wanted).values()) == private
    client.close()


def one_of_one(site, count=1):
    """Register keys that one server has alone; returns what is wanted and what it is."""
    private = [secrets.token_bytes(32) for _ in range(count)]
    keys = [site.issue(one, k=1, n=1) for one in private]
    acl = Acl.parse(f'user:"{site.pki.dn(site.alice)}":gx')
    site.client(site.registrar, site.urls[:1]).register_many(keys, acl)
    charters = [records[0].charter for records in keys]
    return {charter.key_id: charter.public_key for charter in charters}, private


def test_a_revoked_user_fetches_nothing(site):
    mallory = site.pki.user("mallory")
    wanted, _ = site.register()
    [(key_id, public_key)] = wanted.items()
    site.pki.revoke(mallory)
    with pytest.raises(NotAuthorised, match=r"."):
        site.client(site.stranger).fetch(key_id, public_key)
    found = site.client(mallory).fetch_many(wanted)[key_id]
    assert not isinstance(found, bytes)


def test_hundreds_of_keys_in_one_call(site):
    wanted, private = site.register(300)
    found = site.client(site.alice).fetch_many(wanted)
    assert list(found.values()) == private


def test_zeep_drives_hydras_operations(site, hydra):
    record = site.issue(b"x" * 32, k=1, n=1)[0]
    key_id = record.charter.key_id
    hydra.createEntry(entries={"item": [{"string1": key_id, "string2": "eds"}]})
    values = {
        "edscipher": "crypt4gh-x25519",
        "edskey": record.share.data.hex(),
        "edskeyindex": "1",
        "edskeysneeded": "1",
        "edskeygeneration": "1",
        "edskeycommitments": record.charter.text,
        "edskeyproject": "",
    }
    attributes = [{"name": name, "value": value, "type": "string"} for name, value in values.items()]
    hydra.setAttributes(item=key_id, attributes={"item": attributes})
    got = hydra.getAttributes(item=key_id, attributeNames={"item": ["edskey", "edskeyindex"]})
    assert [(one.name, one.value) for one in got] == [
        ("edskey", record.share.data.hex().upper()),
        ("edskeyindex", "1"),
    ]
    assert len(hydra.listAttributes(item=key_id)) == 9
    hydra.clearAttributes(item=key_id, attributeNames={"item": ["edskey"]})
    hydra.removeEntry(items={"item": [key_id]})


def test_zeep_drives_what_is_for_many_keys(site, hydra):
    one, other = (site.issue(letter * 32, k=1, n=1)[0] for letter in (b"y", b"z"))
    ids = [record.charter.key_id for record in (one, other)]
    keys = [
        {"item": key_id, "index": 1, "share": record.share.data.hex(), "charter": record.charter.text}
        for key_id, record in zip(ids, (one, other), strict=True)
    ]
    nobody = dict.fromkeys(
        ("permission", "remove", "read", "write", "list", "execute", "getMetadata", "setMetadata"), False
    )
    permission = {"userName": "", "groupName": "", "acl": []}
    permission |= {f"{who}Perm": nobody for who in ("user", "group", "other")}
    permission["acl"] = [
        {"principal": site.pki.dn(site.registrar), "principalPerm": nobody | {"getMetadata": True}}
    ]
    kept = hydra.putKeys(keys={"item": [*keys, {**keys[0], "item": "other"}]}, permission=permission)
    assert [(status.item, status.isNew) for status in kept] == [
        (ids[0], True),
        (ids[1], True),
        ("other", False),
    ]
    assert kept[2].exception == "InvalidArgumentException"
    described = hydra.describeKeys(items={"item": ids})
    assert [status["keys"][0].share for status in described] == [None, None]
    assert [status.exception for status in hydra.getKeys(items={"item": ["none"]})] == ["NotExistsException"]
    gone = hydra.removeKeys(keys={"item": [{"item": ids[0], "generation": 1}]})
    assert not gone[0].exception
    destroyed = hydra.destroyKeys(
        keys={"item": [{"string1": ids[1], "string2": other.charter.public_key.hex()}]}
    )
    assert not destroyed[0].exception


def test_zeep_reads_and_writes_permissions(site, hydra):
    hydra.createEntry(entries={"item": [{"string1": "entry", "string2": "eds"}]})
    [entry] = hydra.getPermission(items={"item": ["entry"]})
    dn = site.pki.dn(site.registrar)
    assert (entry.item, entry.permission.userName) == ("entry", dn)
    granted = {letter for letter in entry.permission.userPerm if entry.permission.userPerm[letter]}
    assert granted == {"permission", "remove", "read", "write", "list", "getMetadata", "setMetadata"}
    assert not any(entry.permission.otherPerm[letter] for letter in entry.permission.otherPerm)
    none = dict.fromkeys(entry.permission.otherPerm, False)
    fetch = none | {"getMetadata": True}
    entry.permission.acl = [{"principal": "/biomed", "principalPerm": fetch}]
    hydra.setPermission(permissions={"item": [entry]})
    [entry] = hydra.getPermission(items={"item": ["entry"]})
    assert [(one.principal, one.principalPerm.getMetadata) for one in entry.permission.acl] == [
        ("/biomed", True)
    ]
    hydra.checkPermission(items={"item": ["entry"]}, perm=fetch)
    hydra.removeEntry(items={"item": ["entry"]})


def test_zeep_asks_what_the_service_is(hydra):
    assert hydra.getInterfaceVersion() == "1.2.0"
    assert hydra.getVersion()
    assert hydra.getSchemaVersion()
    assert hydra.getServiceMetadata(key="max_keys_per_call") == "10000"
    assert hydra.listSchemas() == ["eds"]
    assert hydra.describeSchema(schemaName="eds")[0].name == "edscipher"


def test_zeep_gets_hydras_faults(hydra):
    invalid, none = "InvalidArgumentException", {"item": []}
    calls = [
        ("NotExistsException", lambda: hydra.removeEntry(items={"item": ["nothing"]})),
        (invalid, lambda: hydra.query(query="x", type="sql", limit=1, offset=0)),
        (invalid, lambda: hydra.createSchema(schemaName="other", attributes=none)),
        (invalid, lambda: hydra.addSchemaAttributes(schemaName="eds", attributes=none)),
        (invalid, lambda: hydra.removeSchemaAttributes(schemaName="eds", attributeNames=none)),
        (invalid, lambda: hydra.dropSchema(schemaName="eds")),
    ]
    for exception, call in calls:
        with pytest.raises(zeep.exceptions.Fault) as told:
            call()
        [detail] = told.value.detail
        assert detail.tag == "fault"
        assert detail.get("{http://www.w3.org/2001/XMLSchema-instance}type") == f"t:{exception}"


def test_a_sites_key_has_to_be_a_key(site, tmp_path):
    settings = KeyServerSettings(database=f"sqlite://{tmp_path}/keys.db", sites=("abc",))
    with pytest.raises(ConfigError):
        KeyServer(settings, None, None, SystemClock())

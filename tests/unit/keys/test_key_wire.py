"""Real key servers on loopback: TLS, our client, and zeep driving the generated WSDL."""

import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
import zeep
import zeep.exceptions

import mdm_keys.wsdl
from mdm_keys.server import KeyServer, KeyServerSettings
from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError, NotAuthorised

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
            assert time.monotonic() - start < 5
    with pytest.raises(NotAuthorised):
        site.client(site.stranger).fetch(key_id, public_key)


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
    calls = {
        "NotExistsException": lambda: hydra.removeEntry(items={"item": ["nothing"]}),
        "InvalidArgumentException": lambda: hydra.query(query="x", type="sql", limit=1, offset=0),
    }
    for exception, call in calls.items():
        with pytest.raises(zeep.exceptions.Fault) as told:
            call()
        [detail] = told.value.detail
        assert detail.tag == "fault"
        assert detail.get("{http://www.w3.org/2001/XMLSchema-instance}type") == f"t:{exception}"


def test_a_sites_key_has_to_be_a_key(site, tmp_path):
    settings = KeyServerSettings(database=f"sqlite://{tmp_path}/keys.db", sites=("abc",))
    with pytest.raises(ConfigError):
        KeyServer(settings, None, None, SystemClock())

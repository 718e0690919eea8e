"""Fetching and registering against servers that are down, hung or refuse."""

import json
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.crypto.signing import trusting
from srm_dicom.errors import (
    AlreadyExists,
    ConfigError,
    KeyQuorumMissing,
    KeyServerUnavailable,
    MdmError,
    NotAuthorised,
    NotFound,
)
from srm_dicom.rights.acl import Acl

ALICE = 'user:"/DC=test/DC=mdm/CN=alice":g'


def test_two_of_three_give_the_key(site, alice):
    key = site.registered(ALICE)
    assert site.client(alice).fetch(key.id, key.public) == key.private


@pytest.mark.parametrize("name", ["keys1", "keys2", "keys3"])
def test_one_dead_server_does_not_matter(site, alice, name):
    key = site.registered(ALICE)
    site.servers[name].down = True
    assert site.client(alice).fetch(key.id, key.public) == key.private


def test_one_hung_server_does_not_matter_and_does_not_delay(site, alice):
    key = site.registered(ALICE)
    site.servers["keys2"].hung.clear()
    client = site.client(alice)
    start = time.monotonic()
    for _ in range(20):  # more than may wait for one server
        assert client.fetch(key.id, key.public) == key.private
    assert time.monotonic() - start < 5


def test_servers_that_are_far_away_are_not_late_for_that(site, alice):
    """No third one gives its share away because the way to the first two is long."""
    key = site.registered(ALICE)
    for server in site.servers.values():
        server.away_s = 0.15
    client = site.client(alice)
    client.fetch(key.id, key.public)
    time.sleep(0.5)  # the first one asks all: then their answers are there
    for server in client._servers:
        server.answered(0.15)  # over connections that are kept, which there are none of here
    before = released(site)
    for _ in range(3):
        assert client.fetch(key.id, key.public) == key.private
    assert released(site) == before + 3 * 2


def released(site):
    """Return how many shares all servers have released."""
    lines = [line for server in site.servers.values() for line in server.events().splitlines()]
    return sum(json.loads(line)["event"]["action"] == "key_released" for line in lines)


def test_two_servers_missing_are_told_with_reasons(site, alice):
    key = site.registered(ALICE)
    site.servers["keys1"].down = True
    site.servers["keys2"].hung.clear()
    with pytest.raises(KeyQuorumMissing) as told:
        site.client(alice, timeout_s=0.3).fetch(key.id, key.public)
    assert "keys1: it is down" in told.value.message
    assert "keys2 did not answer within 0.3 s" in told.value.message


def test_a_server_is_named_once(site, alice):
    key = site.registered(ALICE)
    for name in ("keys1", "keys2"):
        site.servers[name].hung.clear()
    with pytest.raises(KeyQuorumMissing) as told:
        site.client(alice, timeout_s=0.3).fetch(key.id, key.public)
    assert told.value.message.count("keys1") == told.value.message.count("keys2") == 1


def test_a_key_of_no_file_is_fetched_by_what_the_site_signed(site, alice):
    key = site.registered(ALICE)
    assert site.client(alice).fetch(key.id) == key.private


def test_an_unknown_site_is_not_trusted(site, alice):
    key = site.registered(ALICE)
    others = trusting(Ed25519PrivateKey.generate().public_key())
    for sites in ({}, others):
        with pytest.raises(KeyQuorumMissing):
            site.client(alice, sites=sites).fetch(key.id, key.public)


def test_refused_and_unknown_keys(site, stranger, registrar):
    key = site.registered(ALICE)
    with pytest.raises(NotAuthorised):
        site.client(stranger).fetch(key.id, key.public)
    with pytest.raises(NotAuthorised):
        site.client(stranger).fetch("no-such-key", key.public)
    with pytest.raises(NotFound):
        site.client(registrar).fetch("no-such-key", key.public)
    site.servers["keys1"].down = True
    with pytest.raises(NotAuthorised):
        site.client(stranger).fetch(key.id, key.public)


def test_the_registrar_cannot_fetch_what_it_registered(site, registrar):
    key = site.registered(ALICE)
    with pytest.raises(NotAuthorised):
        site.client(registrar).fetch(key.id, key.public)


def test_many_keys_in_one_call(site, alice, registrar):
    keys = [site.registered(ALICE) for _ in range(5)]
    hidden = site.registered()
    wanted = {key.id: key.public for key in (*keys, hidden)}
    found = site.client(alice).fetch_many(wanted)
    assert [found[key.id] for key in keys] == [key.private for key in keys]
    assert isinstance(found[hidden.id], NotAuthorised)


def test_many_keys_in_several_calls(site, alice, monkeypatch):
    monkeypatch.setattr("srm_dicom.client.keys.KEYS_PER_CALL", 2)
    keys = [site.registered(ALICE) for _ in range(7)]
    hidden = site.registered()
    wanted = {key.id: key.public for key in (*keys[:3], hidden, *keys[3:])}
    found = site.client(alice).fetch_many(wanted)
    assert list(found) == list(wanted)
    assert [found[key.id] for key in keys] == [key.private for key in keys]
    assert isinstance(found[hidden.id], NotAuthorised)
    assert site.client(alice).fetch_many({}) == {}


def test_registration_is_all_or_nothing(site, registrar):
    records = site.issue()
    client = site.client(registrar)
    site.servers["keys3"].down = True
    with pytest.raises(KeyServerUnavailable):
        client.register(records, Acl())
    site.servers["keys3"].down = False
    key_id = records[0].charter.key_id
    assert [server.store.find([key_id]) for server in site.servers.values()] == [{}, {}, {}]
    client.register(records, Acl())
    assert all(server.store.find([key_id]) for server in site.servers.values())


def test_a_failed_repetition_leaves_the_first_registration(site, alice, registrar):
    key = site.registered(ALICE)
    client = site.client(registrar)
    client.register(key.records, Acl.parse(ALICE))
    site.servers["keys2"].down = True
    with pytest.raises(KeyServerUnavailable):
        client.register(key.records, Acl.parse(ALICE))
    with pytest.raises((AlreadyExists, KeyServerUnavailable)):
        client.register(site.issue(key.private), Acl.parse(ALICE))
    site.servers["keys2"].down = False
    assert site.client(alice).fetch(key.id, key.public) == key.private


def test_records_have_to_be_one_a_server(site, registrar):
    with pytest.raises(ConfigError):
        site.client(registrar).register(site.issue(n=4), Acl())


def test_two_generations_side_by_side(site, alice, registrar):
    key = site.registered(ALICE)
    client = site.client(registrar)
    client.register(site.issue(key.private, generation=2, k=3), Acl())
    assert site.client(alice).fetch(key.id, key.public) == key.private
    client.remove(key.id, 1)
    assert site.client(alice).fetch(key.id, key.public) == key.private
    site.servers["keys1"].down = True
    with pytest.raises(KeyQuorumMissing):
        site.client(alice).fetch(key.id, key.public)
    site.servers["keys1"].down = False
    client.remove(key.id, 2)
    with pytest.raises(NotFound):
        site.client(registrar).fetch(key.id, key.public)


def test_removal_is_everywhere_and_may_be_repeated(site, alice, registrar):
    key = site.registered(ALICE)
    client = site.client(registrar)
    site.servers["keys2"].down = True
    with pytest.raises(KeyServerUnavailable):
        client.remove(key.id)
    site.servers["keys2"].down = False
    client.remove(key.id)
    client.remove(key.id)
    with pytest.raises(NotAuthorised):
        site.client(alice).fetch(key.id, key.public)


def test_rights_are_given_and_taken(site, stranger, registrar):
    key = site.registered()
    client = site.client(registrar)
    told = client.set_acls({key.id: Acl.parse('user:"/DC=test/DC=mdm/CN=stranger":g'), "none": Acl()})
    assert list(told.values()) == [["none"]] * 3
    assert site.client(stranger).fetch(key.id, key.public) == key.private
    acls = set(map(str, client.get_acl(key.id).values()))
    assert acls == {'user::pdls\ngroup::-\nother::-\nuser:"/DC=test/DC=mdm/CN=stranger":g'}
    site.servers["keys2"].down = True
    told = client.set_acls({key.id: Acl()})
    assert {server for server, one in told.items() if one == []} == {"keys1", "keys3"}
    assert isinstance(told["keys2"], KeyServerUnavailable)
    with pytest.raises(NotAuthorised):
        site.client(stranger).fetch(key.id, key.public)
    told = site.client(stranger).set_acls({key.id: Acl.parse("other::g")})
    assert all(isinstance(one, MdmError) for one in told.values())


def test_a_right_that_one_server_gives_alone_is_none(site, alice, registrar):
    key = site.registered(ALICE)
    assert site.client(alice).may(key.id, "g")
    site.client(registrar, names=("keys2", "keys3")).set_acls({key.id: Acl()})
    assert not site.client(alice).may(key.id, "g")
    site.servers["keys3"].down = True
    assert not site.client(alice).may(key.id, "g")
    site.client(registrar, names=("keys2",)).set_acls({key.id: Acl.parse(ALICE)})
    assert site.client(alice).may(key.id, "g")


def test_a_key_ends_with_its_validity(site, alice):
    key = site.registered(ALICE, valid_until=site.clock.now())
    with pytest.raises(NotAuthorised):
        site.client(alice).fetch(key.id, key.public)


def test_nothing_secret_in_what_is_shown(site, alice, capsys):
    key = site.registered(ALICE)
    site.client(alice).fetch(key.id, key.public)
    shown = capsys.readouterr()
    secrets_ = [record.share.data.hex() for record in key.records] + [key.private.hex()]
    told = shown.out + shown.err + "".join(server.events() for server in site.servers.values())
    assert not any(secret in told.lower() for secret in secrets_)
    assert not any(secret in repr(key.records) for secret in secrets_)


def test_a_key_that_is_somebody_elses_on_a_server_keeps_no_other_from_its_rights(site, alice, registrar):
    taken, other = site.registered(ALICE), site.registered(ALICE)
    store = site.servers["keys1"].store
    store.set_permission(replace(store.find([taken.id])[taken.id], owner="/CN=nobody"))
    told = site.client(registrar).set_acls({taken.id: Acl(), other.id: Acl()})
    assert isinstance(told.pop("keys1"), NotAuthorised)
    assert told == {"keys2": [], "keys3": []}
    with pytest.raises(NotAuthorised):
        site.client(alice, names=("keys1",)).fetch(other.id, other.public)

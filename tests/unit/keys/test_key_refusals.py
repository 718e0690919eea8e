"""Refusals on a key server: each leaves its trace, and a flood of them fills no disk."""

import json

import pytest

from mdm_keys.access import Access
from srm_dicom.audit.doors import DoorLog
from srm_dicom.errors import NotAuthorised, Overloaded
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.enumeration import Guesses, Patience
from srm_dicom.wire.hydra.contract import Perm, SharedKey
from srm_dicom.wire.hydra.permissions import permission_of

ALICE = 'user:"/DC=test/DC=mdm/CN=alice":g'


@pytest.fixture
def server(site):
    return site.servers["keys1"]


@pytest.fixture
def ids(site, server, registrar):
    records = [site.issue()[0] for _ in range(6)]
    shared = [
        SharedKey(one.charter.key_id, one.share.index, one.share.data.hex(), one.charter.text)
        for one in records
    ]
    server.service.put_keys(registrar, shared, permission_of(Acl.parse(ALICE)))
    return sorted(one.charter.key_id for one in records)


def patient(site, server, registrar, misses, refusals_per_minute=120):
    """Let a server bear so many ids tried in vain in a minute."""
    guesses = Guesses(Patience(misses), site.clock)
    door = DoorLog(server.audit, "keys", site.clock, refusals_per_minute=refusals_per_minute)
    server.access = Access(server.store, server.audit, frozenset({registrar.dn}), guesses, door=door)
    server.serve()


def told(server, operation):
    events = [json.loads(line)["event"] for line in server.events().splitlines()]
    return [
        (e["action"], e["outcome"], sorted(e.get("objects", [])), e["rule"])
        for e in events
        if e["operation"] == operation
    ]


def test_who_fetches_too_fast_is_in_the_audit_log(server, ids, alice):
    server.bound(keys_per_minute=3)
    server.service.get_keys(alice, ids[:3])
    with pytest.raises(Overloaded):
        server.service.get_keys(alice, ids[3:])
    with pytest.raises(Overloaded):
        server.service.get_attributes(alice, ids[3], ())
    too_much = "too much was asked for in a minute: "
    assert told(server, "getKeys") == [
        ("key_released", "allowed", ids[:3], ALICE),
        ("key_released", "denied", ids[3:], f"{too_much}3 keys"),
    ]
    assert told(server, "getAttributes") == [("key_released", "denied", [ids[3]], f"{too_much}1 keys")]


def test_who_guesses_too_much_is_in_the_audit_log(site, server, stranger, registrar):
    patient(site, server, registrar, misses=2)
    server.service.get_keys(stranger, ["a", "b"])
    with pytest.raises(Overloaded):
        server.service.get_keys(stranger, [f"c{n}" for n in range(1000)])
    refused = told(server, "getKeys")[-1]
    assert refused[:2] == ("key_released", "denied")
    assert refused[3] == "too many names that are not there were asked for: 1000 keys"
    assert refused[2] == sorted(f"c{n}" for n in range(20)), "a large call does not make a large event"


def test_a_flood_of_limited_calls_is_counted(site, server, stranger, registrar):
    patient(site, server, registrar, misses=1, refusals_per_minute=2)
    server.service.get_keys(stranger, ["a"])
    for _ in range(10):
        with pytest.raises(Overloaded):
            server.service.get_keys(stranger, ["a"])
    limited = "too many names that are not there were asked for: 1 keys"
    assert [rule for *_, rule in told(server, "getKeys")] == ["no such key", limited, limited]
    site.clock.advance(61)
    server.service.get_keys(stranger, ["a"])
    with pytest.raises(Overloaded):
        server.service.get_keys(stranger, ["a"])
    assert told(server, "getKeys")[-1][3] == f"8 refusals before it were not kept; {limited}"


def test_a_refused_check_of_permissions_is_in_the_audit_log(server, ids, alice, stranger):
    with pytest.raises(NotAuthorised):
        server.service.check_permission(stranger, [ids[0], "unknown"], Perm.of("g"))
    with pytest.raises(NotAuthorised):
        server.service.check_permission(alice, ids[:2], Perm.of("gd"))
    server.service.check_permission(alice, ids, Perm.of("g"))
    assert told(server, "checkPermission") == [
        ("query", "denied", ["unknown"], "no such key"),
        ("query", "denied", [ids[0]], "the caller does not have g"),
        ("query", "denied", ids[:2], "the caller does not have dg"),
    ]


def test_permissions_are_not_checked_to_guess_ids(site, server, ids, stranger, registrar):
    patient(site, server, registrar, misses=2)
    for _ in range(2):
        with pytest.raises(NotAuthorised):
            server.service.check_permission(stranger, ["unknown"], Perm.of("g"))
    with pytest.raises(Overloaded):
        server.service.check_permission(stranger, ids, Perm.of("g"))
    assert told(server, "checkPermission")[-1][3].startswith("too many names")

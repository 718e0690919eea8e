"""Refusals on a key server: each leaves its trace, and a flood of them fills no disk."""

import json
import secrets

import pytest

from mdm_keys.access import Access
from srm_dicom.audit.doors import DoorLog
from srm_dicom.crypto import reshare
from srm_dicom.crypto.keyrecord import Charter
from srm_dicom.errors import IntegrityError, NotAuthorised, Overloaded, RequestExpired
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.enumeration import Guesses, Patience
from srm_dicom.wire.hydra.contract import Attribute, Perm, SealedPieces, SharedKey, StringPair
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


def shared(record):
    return SharedKey(record.charter.key_id, record.share.index, record.share.data.hex(), record.charter.text)


def test_a_record_that_is_not_kept_is_in_the_audit_log(site, server, registrar, stranger, key_site, tmp_path):
    forger = key_site(tmp_path / "forger")
    forged, destroyed = forger.issue()[0], site.issue()[0]
    forger.close()
    half = destroyed.charter.public_key.hex()
    server.service.destroy_keys(registrar, [StringPair(destroyed.charter.key_id, half)])
    forged_id, gone_id = forged.charter.key_id, destroyed.charter.key_id
    server.service.put_keys(stranger, [shared(forged)], permission_of(Acl()))
    server.service.put_keys(registrar, [shared(destroyed), SharedKey("a b", 1, "", "")], permission_of(Acl()))
    unknown = "the signer of a key charter is not known here"
    assert told(server, "putKeys") == [
        ("administrative", "denied", [forged_id], unknown),
        ("administrative", "denied", [gone_id], "the key has been destroyed and does not come back"),
    ]
    server.service.create_entry(registrar, [StringPair(forged_id, "eds")])
    record = {"edskey": shared(forged).share, "edskeyindex": "1", "edskeycommitments": forged.charter.text}
    with pytest.raises(IntegrityError):
        server.service.set_attributes(registrar, forged_id, [Attribute(*one) for one in record.items()])
    assert told(server, "setAttributes")[-1] == ("administrative", "denied", [forged_id], unknown)


def test_an_order_that_is_not_obeyed_is_in_the_audit_log(site, server, ids, registrar, stranger):
    forged = "{}"
    for caller, call in ((stranger, server.service.deal_keys), (registrar, server.service.deal_keys)):
        with pytest.raises(IntegrityError):
            call(caller, [forged])
    with pytest.raises(IntegrityError):
        server.service.take_keys(stranger, [SealedPieces(forged, ("00",))])
    assert [one[:3] for one in told(server, "dealKeys")] == [("administrative", "denied", [])] * 2
    assert [one[:3] for one in told(server, "takeKeys")] == [("administrative", "denied", [])]
    charter = Charter.verify(server.store.find(ids[:1])[ids[0]].shares[0].charter, site.sites)
    abroad = b"\x07" * 32
    order = reshare.order(charter, 2, (1, 2), (abroad,), 1, site.signing_key)
    [dealt] = server.service.deal_keys(registrar, [order.text])
    assert dealt.exception == "AuthorizationException"
    assert told(server, "dealKeys")[-1] == (
        "administrative",
        "denied",
        ids[:1],
        f"{abroad.hex()} is no peer of this server",
    )


def test_a_key_whose_time_is_over_is_refused_and_costs_nothing(site, server, registrar, alice):
    server.bound(keys_per_minute=1)
    until = site.clock.now()
    over, good = (site.issue(valid_until=one)[0] for one in (until, until.replace(year=2090)))
    server.service.put_keys(registrar, [shared(over), shared(good)], permission_of(Acl.parse(ALICE)))
    statuses = server.service.get_keys(alice, [over.charter.key_id, good.charter.key_id])
    assert [one.message for one in statuses] == ["the key was for a time that is over", ""]
    with pytest.raises(RequestExpired):
        server.service.get_attributes(alice, over.charter.key_id, ())
    expired = ("key_released", "denied", [over.charter.key_id], "the key was for a time that is over")
    assert told(server, "getKeys") == [expired, ("key_released", "allowed", [good.charter.key_id], ALICE)]
    assert told(server, "getAttributes") == [expired]


def test_of_two_generations_only_the_one_whose_time_is_not_over_is_released(site, server, registrar, alice):
    until = site.clock.now()
    private = secrets.token_bytes(32)
    first, second = (
        site.issue(private, generation=number, valid_until=end)[0]
        for number, end in ((1, until), (2, until.replace(year=2090)))
    )
    for record in (first, second):
        server.service.put_keys(registrar, [shared(record)], permission_of(Acl.parse(ALICE)))
    [status] = server.service.get_keys(alice, [first.charter.key_id])
    assert [key.charter for key in status.keys] == [second.charter.text]


def test_who_only_looks_has_changed_and_released_nothing(server, ids, alice, registrar):
    server.service.get_permission(registrar, ids[:1])
    server.service.list_attributes(alice, ids[0])
    server.service.describe_keys(registrar, ids[:1])
    for operation in ("getPermission", "listAttributes", "describeKeys"):
        assert [one[:3] for one in told(server, operation)] == [("query", "allowed", ids[:1])]

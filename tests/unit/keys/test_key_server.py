"""The server: rights, records, Hydra's operations and faults."""

import json
import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from mdm_keys.application import method_name
from mdm_keys.service import KeyService
from srm_dicom import errors
from srm_dicom.errors import (
    AlreadyExists,
    BudgetExhausted,
    IntegrityError,
    InvalidRequest,
    KeyShareInvalid,
    MdmError,
    NotAuthorised,
    NotFound,
    NotSupported,
    TooLarge,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.declare import declared
from srm_dicom.soap.envelope import body_entry
from srm_dicom.wire.hydra import contract, messages
from srm_dicom.wire.hydra.contract import (
    ACLEntry,
    Attribute,
    KeyReference,
    Perm,
    Permission,
    PermissionEntry,
    SharedKey,
    StringPair,
)
from srm_dicom.wire.hydra.permissions import acl_of, permission_of

ALICE = 'user:"/DC=test/DC=mdm/CN=alice":g'


@pytest.fixture
def server(site):
    return site.servers["keys1"]


@pytest.fixture
def service(server):
    return server.service


def shared(record):
    return SharedKey(record.charter.key_id, record.share.index, record.share.data.hex(), record.charter.text)


def attributes(record):
    return [
        Attribute("edskey", record.share.data.hex().upper()),
        Attribute("edskeyindex", str(record.share.index)),
        Attribute("edskeycommitments", record.charter.text),
    ]


def status(statuses):
    return [one.exception for one in statuses]


def test_every_operation_declares_a_right():
    for operation in contract.OPERATIONS:
        assert declared(getattr(KeyService, method_name(operation))) is not None, operation


def test_every_error_has_an_exception():
    assert set(contract.EXCEPTION_OF) == set(errors.leaves())


def test_hydras_own_way_of_registering(site, service, registrar, alice):
    record = site.issue(project="heart")[0]
    key_id = record.charter.key_id
    service.create_entry(registrar, [StringPair(key_id, "eds")])
    assert service.get_attributes(registrar, key_id, ()) == []
    service.set_attributes(registrar, key_id, attributes(record))
    got = {one.name: one.value for one in service.get_attributes(registrar, key_id, ())}
    assert got == {
        "edscipher": "crypt4gh-x25519",
        "edskey": record.share.data.hex().upper(),
        "edsiv": "",
        "edskeyinfo": "256",
        "edskeyindex": "1",
        "edskeysneeded": "2",
        "edskeygeneration": "1",
        "edskeycommitments": record.charter.text,
        "edskeyproject": "heart",
    }
    assert [one.name for one in service.get_attributes(registrar, key_id, ("edskeyindex",))] == [
        "edskeyindex"
    ]
    assert [one.value for one in service.list_attributes(registrar, key_id)] == [""] * 9
    with pytest.raises(NotAuthorised):
        service.get_attributes(alice, key_id, ())
    service.clear_attributes(registrar, key_id, ("edskey",))
    assert service.get_attributes(registrar, key_id, ()) == []
    service.remove_entry(registrar, [key_id])
    with pytest.raises(NotFound):
        service.remove_entry(registrar, [key_id])


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("edskey", "00" * 32, KeyShareInvalid),
        ("edskey", "no hex", InvalidRequest),
        ("edskeyindex", "2", KeyShareInvalid),
        ("edskeyindex", "-1", InvalidRequest),
        ("edskeyindex", "\u0661", InvalidRequest),
        ("edskeysneeded", "1", InvalidRequest),
        ("edscipher", "bf-cbc", InvalidRequest),
        ("edskeyproject", "lung", InvalidRequest),
        ("edsother", "", InvalidRequest),
        ("edskeycommitments", "{}", IntegrityError),
    ],
)
def test_records_that_contradict_themselves_are_not_kept(site, service, registrar, name, value, error):
    record = site.issue()[0]
    key_id = record.charter.key_id
    service.create_entry(registrar, [StringPair(key_id, "eds")])
    given_ = [one for one in attributes(record) if one.name != name] + [Attribute(name, value)]
    with pytest.raises(error):
        service.set_attributes(registrar, key_id, given_)
    assert service.get_attributes(registrar, key_id, ()) == []


def test_each_record_of_a_bulk_call_has_its_own_fate(site, server, service, registrar):
    good, tampered, foreign, swapped = (site.issue()[0] for _ in range(4))
    other_site = site.issue(signing_key=Ed25519PrivateKey.generate())[0]
    keys = [
        shared(good),
        SharedKey(tampered.charter.key_id, 1, "00" * 32, tampered.charter.text),
        SharedKey("another-id", 1, foreign.share.data.hex(), foreign.charter.text),
        SharedKey(swapped.charter.key_id, 2, swapped.share.data.hex(), swapped.charter.text),
        shared(other_site),
    ]
    statuses = service.put_keys(registrar, keys, Permission())
    assert status(statuses) == ["", *["InvalidArgumentException"] * 4]
    assert [one.is_new for one in statuses] == [True, False, False, False, False]
    assert set(server.store.find([key.item for key in keys])) == {good.charter.key_id}


BAD = ("bad id!", "", "a" * 129, "a\n")


def test_a_key_id_that_is_none_or_named_twice_fails_alone(site, service, registrar, alice):
    good, twice = (site.issue()[0] for _ in range(2))
    ids = [good.charter.key_id, twice.charter.key_id]
    wrong = [replace(shared(good), item=bad) for bad in BAD]
    putting = [shared(twice), *wrong, shared(good), shared(twice)]
    acl = permission_of(Acl.parse(ALICE))
    statuses = service.put_keys(registrar, putting, acl)
    assert [one.item for one in statuses] == [one.item for one in putting]
    invalid = "InvalidArgumentException"
    assert status(statuses) == [invalid] * 5 + ["", invalid]
    assert [one.item for one in statuses if one.is_new] == [ids[0]]
    [kept] = service.put_keys(registrar, [shared(twice)], acl)
    assert kept.is_new, "neither of the two was kept"
    asked = [ids[0], ids[0], *BAD, ids[1]]
    expected = [*[invalid] * 6, ""]
    statuses = service.get_keys(alice, asked)
    assert [one.item for one in statuses] == asked
    assert status(statuses) == expected
    assert [len(one.keys) for one in statuses] == [0] * 6 + [1]
    assert status(service.describe_keys(registrar, asked)) == expected
    assert status(service.remove_keys(registrar, [KeyReference(one) for one in asked])) == expected
    assert status(service.get_keys(alice, ids)) == ["", "AuthorizationException"]


def test_a_key_to_destroy_that_has_no_public_half_fails_alone(site, server, service, registrar):
    records = [site.issue()[0] for _ in range(3)]
    service.put_keys(registrar, [shared(one) for one in records], Permission())
    ids = [one.charter.key_id for one in records]
    halves = [one.charter.public_key.hex() for one in records]
    pairs = [
        StringPair(ids[0], halves[0]),
        StringPair(ids[1], "none"),
        StringPair(ids[2], halves[2]),
        StringPair("bad id!", halves[1]),
        StringPair(ids[2], "none"),
    ]
    statuses = service.destroy_keys(registrar, pairs)
    assert [one.item for one in statuses] == [one.string1 for one in pairs]
    assert status(statuses) == ["", *["InvalidArgumentException"] * 4]
    assert set(server.store.find(ids)) == set(ids[1:])
    assert [key_id for _, key_id in server.ledger] == ids[:1]


def test_ids_that_nobody_can_have_come_back_over_the_wire(server, registrar):
    """Also those with characters that have to be written otherwise in XML."""
    asked = ["<a>&b", "é", "a", "a"]
    answer = server.post(messages.request("getKeys", asked), registrar)
    statuses = messages.read_response("getKeys", body_entry(answer.body))
    assert [(one.item, one.exception) for one in statuses] == [
        (one, "InvalidArgumentException") for one in asked
    ]


def test_a_record_is_kept_once(site, service, registrar):
    private = b"p" * 32
    one, other = site.issue(private)[0], site.issue(private)[0]
    assert [s.is_new for s in service.put_keys(registrar, [shared(one)], Permission())] == [True]
    [again] = service.put_keys(registrar, [shared(one)], Permission())
    assert (again.exception, again.is_new) == ("", False)
    assert status(service.put_keys(registrar, [shared(other)], Permission())) == ["ExistsException"]
    elsewhere = site.issue(key_id=one.charter.key_id, generation=2)[0]
    lungs = site.issue(private, generation=2, project="lung")[0]
    for wrong in (elsewhere, lungs):
        assert status(service.put_keys(registrar, [shared(wrong)], Permission())) == [
            "InvalidArgumentException"
        ]


def test_only_creators_create_and_never_with_a_limited_proxy(site, service, registrar, alice):
    record = site.issue()[0]
    limited = Principal(registrar.dn, (), limited=True, expires=registrar.expires)
    for caller in (alice, limited):
        with pytest.raises(NotAuthorised):
            service.put_keys(caller, [shared(record)], Permission())
        with pytest.raises(NotAuthorised):
            service.create_entry(caller, [StringPair("a", "eds")])


def test_a_limited_proxy_fetches_and_does_not_administer(site, service, limited, registrar):
    letters = 'user:"/DC=test/DC=mdm/CN=alice":pdrwlxgs'
    record = site.issue()[0]
    key_id = record.charter.key_id
    service.put_keys(registrar, [shared(record)], permission_of(Acl.parse(letters)))
    assert status(service.get_keys(limited, [key_id])) == [""]
    service.check_permission(limited, [key_id], Perm.of("g"))
    for refused in (
        lambda: service.get_permission(limited, [key_id]),
        lambda: service.set_permission(limited, [PermissionEntry(key_id)]),
        lambda: service.remove_entry(limited, [key_id]),
        lambda: service.set_attributes(limited, key_id, attributes(record)),
        lambda: service.check_permission(limited, [key_id], Perm.of("gd")),
    ):
        with pytest.raises(NotAuthorised):
            refused()
    assert status(service.remove_keys(limited, [KeyReference(key_id)])) == ["AuthorizationException"]


def test_a_limited_proxy_fetches_only_keys_that_let_jobs_in(site, service, limited, alice, registrar):
    record = site.issue()[0]
    key_id = record.charter.key_id
    acl = Acl.parse('user:"/DC=test/DC=mdm/CN=alice":g')
    service.put_keys(registrar, [shared(record)], permission_of(acl))
    assert status(service.get_keys(alice, [key_id])) == [""]
    assert status(service.get_keys(limited, [key_id])) == ["AuthorizationException"]
    with pytest.raises(NotAuthorised):
        service.check_permission(limited, [key_id], Perm.of("g"))


def test_groups_and_base_permissions(site, service, registrar, alice, stranger):
    record = site.issue()[0]
    key_id = record.charter.key_id
    service.put_keys(
        registrar, [shared(record)], Permission(group_name="/biomed/radiology", group_perm=Perm.of("g"))
    )
    assert status(service.get_keys(alice, [key_id])) == [""]
    assert status(service.get_keys(stranger, [key_id])) == ["AuthorizationException"]
    [entry] = service.get_permission(registrar, [key_id])
    assert (entry.permission.user_name, entry.permission.group_name) == (registrar.dn, "/biomed/radiology")
    service.set_permission(registrar, [PermissionEntry(key_id, Permission(user_perm=Perm.of("pd")))])
    assert status(service.get_keys(alice, [key_id])) == ["AuthorizationException"]
    named = Permission(
        user_perm=Perm.of("p"), acl=(ACLEntry(Perm.of("g"), "/biomed"), ACLEntry(Perm.of("g"), stranger.dn))
    )
    service.set_permission(registrar, [PermissionEntry(key_id, named)])
    assert status(service.get_keys(stranger, [key_id])) == [""]


@pytest.mark.parametrize(
    "names", [[f"/CN=User {number}" for number in range(1200)], ["/CN=a\nother::g"]], ids=["many", "newline"]
)
def test_an_acl_that_is_not_kept_leaves_the_key_usable(site, service, registrar, names):
    record = site.issue()[0]
    key_id = record.charter.key_id
    service.put_keys(registrar, [shared(record)], Permission())
    named = Permission(user_perm=Perm.of("p"), acl=tuple(ACLEntry(Perm.of("g"), name) for name in names))
    with pytest.raises(InvalidRequest):
        service.set_permission(registrar, [PermissionEntry(key_id, named)])
    [entry] = service.get_permission(registrar, [key_id])
    assert not entry.permission.acl


def test_an_empty_principal_gets_nothing(site, service, registrar):
    """Neither an owner without a name nor a group without one matches a caller without groups."""
    record = site.issue()[0]
    service.put_keys(registrar, [shared(record)], Permission(group_perm=Perm.of("g")))
    nobody = Principal("", (), limited=False, expires=registrar.expires)
    assert status(service.get_keys(nobody, [record.charter.key_id])) == ["AuthorizationException"]


def test_an_unknown_key_looks_like_a_forbidden_one(site, service, registrar, stranger):
    record = site.issue()[0]
    service.put_keys(registrar, [shared(record)], Permission())
    forbidden, unknown = service.get_keys(stranger, [record.charter.key_id, "unknown"])
    assert (forbidden.exception, forbidden.message) == (unknown.exception, unknown.message)
    with pytest.raises(NotAuthorised) as one:
        service.check_permission(stranger, ["unknown"], Perm.of("g"))
    with pytest.raises(NotAuthorised) as two:
        service.check_permission(stranger, [record.charter.key_id], Perm.of("g"))
    assert str(one.value) == str(two.value)


def test_every_decision_is_audited_with_its_rule(site, server, service, registrar, alice, stranger):
    record = site.issue()[0]
    key_id = record.charter.key_id
    service.put_keys(registrar, [shared(record)], permission_of(Acl.parse(ALICE)))
    service.get_keys(alice, [key_id])
    service.get_keys(stranger, [key_id, "unknown"])
    service.set_permission(registrar, [PermissionEntry(key_id, Permission(user_perm=Perm.of("p")))])
    events = [json.loads(line)["event"] for line in server.events().splitlines()]
    told = [(e["operation"], e["action"], e["outcome"], tuple(e["objects"]), e["rule"]) for e in events]
    assert told == [
        ("putKeys", "administrative", "allowed", (key_id,), f"creator {registrar.dn}"),
        ("getKeys", "key_released", "allowed", (key_id,), ALICE),
        ("getKeys", "key_released", "denied", (key_id,), "other::-"),
        ("getKeys", "key_released", "denied", ("unknown",), "no such key"),
        ("setPermission", "rights_changed", "allowed", (key_id,), "user::pdls"),
    ]


def test_events_name_the_project_that_the_site_signed(site, server, service, registrar, alice, stranger):
    heart, lung, none = (site.issue(project=project)[0] for project in ("heart", "lung", ""))
    ids = [one.charter.key_id for one in (heart, lung, none)]
    service.put_keys(registrar, [shared(one) for one in (heart, lung, none)], permission_of(Acl.parse(ALICE)))
    service.get_keys(alice, ids)
    service.get_keys(stranger, ids[:1])
    service.set_permission(registrar, [PermissionEntry(ids[1], Permission(user_perm=Perm.of("p")))])
    events = [json.loads(line)["event"] for line in server.events().splitlines()]
    told = [(e["operation"], e["outcome"], e.get("project", ""), tuple(e["objects"])) for e in events]
    each = [("", (ids[2],)), ("heart", (ids[0],)), ("lung", (ids[1],))]
    assert told == [
        *(("putKeys", "allowed", *one) for one in each),
        *(("getKeys", "allowed", *one) for one in each),
        ("getKeys", "denied", "heart", (ids[0],)),
        ("setPermission", "allowed", "lung", (ids[1],)),
    ]


def test_what_one_call_decides_goes_to_the_disk_at_once(site, server, service, registrar, alice, monkeypatch):
    records = [site.issue(project=project)[0] for project in ("heart", "lung")]
    ids = [one.charter.key_id for one in records]
    service.put_keys(registrar, [shared(one) for one in records], permission_of(Acl.parse(ALICE)))
    waits, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: waits.append(fsync(fd)))
    service.get_keys(alice, [*ids, "unknown"])
    assert len(waits) == 1
    events = [json.loads(line)["event"] for line in server.events().splitlines()[-3:]]
    assert [tuple(one["objects"]) for one in events] == [(ids[0],), (ids[1],), ("unknown",)]


def budgeted(site, server, registrar, *projects):
    """Register a key for each of these projects that alice's group may fetch; returns their ids."""
    records = [site.issue(project=project)[0] for project in projects]
    acl = Acl.parse('group:"/biomed/radiology":g')
    server.service.put_keys(registrar, [shared(one) for one in records], permission_of(acl))
    return [one.charter.key_id for one in records]


def alarms(server):
    events = [json.loads(line)["event"] for line in server.events().splitlines()]
    return [(e["project"], e["outcome"], e["rule"]) for e in events if e["action"] == "alarm"]


def test_callers_together_fetch_no_more_keys_than_their_project_has(site, server, registrar, alice):
    bob = replace(alice, dn=alice.dn + "2")
    server.bound(keys_per_day_of={"heart": 5})
    hearts = budgeted(site, server, registrar, *["heart"] * 6)
    lung, none = budgeted(site, server, registrar, "lung", "")
    service = server.service
    assert status(service.get_keys(alice, hearts[:3])) == [""] * 3
    assert status(service.get_keys(bob, [*hearts[2:5], lung])) == [""] * 4
    for caller in (alice, bob):
        with pytest.raises(BudgetExhausted, match="daily budget of project heart is used up"):
            service.get_keys(caller, [none, hearts[5]])
        with pytest.raises(BudgetExhausted):
            service.get_attributes(caller, hearts[5], ())
        assert status(service.get_keys(caller, [*hearts[:5], lung, none])) == [""] * 7
    used_up = ("heart", "denied", "the daily budget of project heart is used up")
    assert alarms(server) == [
        ("heart", "allowed", "80% of the daily budget of project heart"),
        *[used_up] * 4,
    ]
    site.clock.advance(86_400)
    assert status(service.get_keys(alice, hearts[3:])) == [""] * 3
    assert len(alarms(server)) == 5


def test_a_call_that_one_budget_refuses_is_charged_to_no_other(site, server, registrar, alice):
    server.bound(keys_per_day=4, keys_per_day_of={"heart": 1, "*": 3})
    hearts, lungs = (budgeted(site, server, registrar, *[project] * 4) for project in ("heart", "lung"))
    with pytest.raises(BudgetExhausted, match="heart"):
        server.service.get_keys(alice, [*lungs[:2], *hearts[:2]])
    assert status(server.service.get_keys(alice, [*lungs[:3], hearts[3]])) == [""] * 4
    with pytest.raises(BudgetExhausted, match="caller"):
        server.service.get_keys(alice, lungs[3:])
    with pytest.raises(BudgetExhausted, match="lung"):
        server.service.get_keys(replace(alice, dn=alice.dn + "2"), lungs[3:])


def test_ids_and_numbers_are_bounded(service, registrar):
    for bad in ("", "a" * 129, "a b", "1.2.840.10008.1.2", "a/b", "a\n"):
        with pytest.raises(InvalidRequest):
            service.create_entry(registrar, [StringPair(bad, "eds")])
    with pytest.raises(InvalidRequest):
        service.create_entry(registrar, [StringPair("a", "eds"), StringPair("a", "eds")])
    with pytest.raises(TooLarge):
        service.get_keys(registrar, [str(n) for n in range(contract.MAX_KEYS_PER_CALL + 1)])
    with pytest.raises(InvalidRequest):
        service.create_entry(registrar, [StringPair("a", "other")])


def test_creation_is_all_or_nothing(server, service, registrar):
    service.create_entry(registrar, [StringPair("a", "eds")])
    with pytest.raises(AlreadyExists):
        service.create_entry(registrar, [StringPair("b", "eds"), StringPair("a", "eds")])
    assert set(server.store.find(["a", "b"])) == {"a"}


def test_what_the_service_says_of_itself(service, stranger):
    assert service.list_schemas(stranger) == ["eds"]
    assert [one.name for one in service.describe_schema(stranger, "eds")][:2] == ["edscipher", "edskey"]
    with pytest.raises(NotFound):
        service.describe_schema(stranger, "other")
    for refused in (service.query, service.create_schema, service.drop_schema, service.add_schema_attributes):
        with pytest.raises(NotSupported):
            refused(stranger, "x")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<a/>",
        b"\0",
        b"<!DOCTYPE a><a/>",
        messages.request("getVersion").replace(b"getVersion", b"other"),
    ],
)
def test_bad_messages_get_a_fault(server, registrar, body):
    answer = server.post(body, registrar)
    assert answer.status == 500
    with pytest.raises(MdmError):
        messages.read_response("getVersion", body_entry(answer.body))


def test_a_fault_is_hydras(server, stranger):
    answer = server.post(messages.request("getAttributes", "unknown", ()), stranger)
    detail = body_entry(answer.body).find("detail/fault")
    assert detail.get("{http://www.w3.org/2001/XMLSchema-instance}type") == "t:AuthorizationException"
    assert detail.findtext("message")


@given(st.binary(max_size=60), st.integers(0, 3000))
def test_messages_with_any_damage_are_answered(tmp_path_factory, damage, at):
    whole = messages.request("putKeys", (SharedKey("a", 1, "00", "{}"),), Permission(acl=(ACLEntry(),)))
    at %= len(whole)
    try:
        operation, arguments = messages.read_request(
            body_entry(whole[:at] + damage + whole[at + len(damage) :])
        )
    except (InvalidRequest, TooLarge):
        return
    assert len(arguments) == len(operation.parameters)


LETTERS = st.frozensets(st.sampled_from(contract.LETTERS))


@given(LETTERS, LETTERS, LETTERS, st.dictionaries(st.sampled_from(["/a/b", "/CN=x", "/DC=a/CN=y"]), LETTERS))
def test_permissions_come_back(user, group, other, named):
    entries = tuple(ACLEntry(Perm.of(letters), principal) for principal, letters in named.items())
    permission = Permission("o", "g", Perm.of(user), Perm.of(group), Perm.of(other), entries)
    assert permission_of(acl_of(permission), "o", "g") == permission
    wire = messages.request("setPermission", (PermissionEntry("k", permission),))
    _, [[entry]] = messages.read_request(body_entry(wire))
    assert entry == PermissionEntry("k", permission)


@pytest.mark.parametrize("fqans", [("/biomed",), ("/biomed/radiology/Role=physician", "/biomed")])
def test_a_key_is_its_makers_organisations_unless_it_is_told_whose(site, service, registrar, fqans):
    """As Hydra had it: the group is the VO, and has no rights until it is given some."""
    maker = replace(registrar, fqans=fqans)
    member, stranger = replace(maker, dn="/CN=m", fqans=("/biomed",)), replace(maker, dn="/CN=s", fqans=())
    made, put, told = (record[0] for record in (site.issue(), site.issue(), site.issue()))
    service.create_entry(maker, [StringPair(made.charter.key_id, "eds")])
    service.set_attributes(maker, made.charter.key_id, attributes(made))
    service.put_keys(maker, [shared(put)], Permission(user_perm=Perm.of("pdg")))
    service.put_keys(maker, [shared(told)], Permission(group_name="/other", user_perm=Perm.of("pdg")))
    ids = [record.charter.key_id for record in (made, put, told)]
    permissions = {entry.item: entry.permission for entry in service.get_permission(maker, ids)}
    assert [permissions[key_id].group_name for key_id in ids] == ["/biomed", "/biomed", "/other"]
    assert all(status(service.get_keys(member, ids)))
    group = replace(permissions[ids[1]], group_perm=Perm.of("g"))
    service.set_permission(maker, [PermissionEntry(ids[1], group)])
    assert [bool(one) for one in status(service.get_keys(member, ids))] == [True, False, True]
    assert all(status(service.get_keys(stranger, ids)))
    other = replace(permissions[ids[0]], other_perm=Perm.of("g"))
    service.set_permission(maker, [PermissionEntry(ids[0], other)])
    for caller in (member, stranger):  # who is of the organisation has no less than everybody else
        assert not status(service.get_keys(caller, ids[:1]))[0]

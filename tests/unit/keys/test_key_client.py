"""Fetching and registering against servers that are down, hung, wrong or lying."""

import json
import re
import secrets
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.client.http import Response
from srm_dicom.crypto.keyrecord import KeyRecord, share_hash, sign_charter
from srm_dicom.crypto.shamir import Share
from srm_dicom.crypto.signing import canonical, fingerprint, signer_of, trusting
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


def lying(server, pattern, replacement):
    """Let a server change its answers on the wire."""

    def change(answer):
        body = re.sub(pattern, replacement, answer.body)
        return Response(answer.status, answer.headers, body)

    server.change = change


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


def test_a_wrong_share_is_named_and_another_server_is_asked(site, alice, capsys):
    key = site.registered(ALICE)
    wrong = bytes(byte ^ 255 for byte in key.records[0].share.data).hex().encode()
    lying(site.servers["keys1"], b"<share>.*?</share>", b"<share>" + wrong + b"</share>")
    assert site.client(alice).fetch(key.id, key.public) == key.private
    site.servers["keys2"].down = True
    with pytest.raises(KeyQuorumMissing, match="keys1: share 1 is wrong, stale or another key's"):
        site.client(alice).fetch(key.id, key.public)
    assert "key_share_invalid" in capsys.readouterr().out


def test_another_keys_share_is_named(site, alice):
    key, other = site.registered(ALICE), site.registered(ALICE)
    for name in ("keys1", "keys2"):
        server = site.servers[name]
        record = other.records[int(name[-1]) - 1]
        lying(server, rb"<keys>.*?</keys>", lambda _m, r=record: keys_element(r))
    with pytest.raises(KeyQuorumMissing, match="another key's"):
        site.client(alice).fetch(key.id, key.public)


def keys_element(record):
    charter = record.charter.text.replace("<", "&lt;")
    return (
        f"<keys><item>{record.charter.key_id}</item><index>{record.share.index}</index>"
        f"<share>{record.share.data.hex()}</share><charter>{charter}</charter></keys>"
    ).encode()


def test_a_forged_key_is_refused_though_it_fits_itself(site, alice):
    """Two servers agree on another private key under a charter of their own."""
    key = site.registered(ALICE)
    forged = site.issue(signing_key=Ed25519PrivateKey.generate(), key_id=key.id)
    for index, name in enumerate(("keys1", "keys2")):
        lying(site.servers[name], rb"<keys>.*?</keys>", lambda _m, r=forged[index]: keys_element(r))
    with pytest.raises(KeyQuorumMissing, match="not known here"):
        site.client(alice).fetch(key.id, key.public)


def test_shares_of_a_charter_that_is_not_the_files_are_refused(site, alice):
    key, other = site.registered(ALICE), site.registered(ALICE)
    with pytest.raises(KeyQuorumMissing, match="another key's"):
        site.client(alice).fetch(key.id, other.public)


def forged(record, **changed):
    """Return a record of the same key that claims the site's signature and does not have it."""
    liar = Ed25519PrivateKey.generate()
    charter, settings = record.charter, {"k": record.charter.k} | changed
    share = settings.pop("share", record.share)
    hashes = list(charter.hashes)
    hashes[share.index - 1] = share_hash(charter.key_id, charter.generation, share)
    lie = sign_charter(
        charter.key_id,
        generation=charter.generation,
        hashes=hashes,
        public_key=charter.public_key,
        valid_until=charter.valid_until,
        signing_key=liar,
        **settings,
    )
    text = lie.text.replace(fingerprint(liar.public_key()), signer_of(charter.text))
    return KeyRecord(replace(charter, text=text), share)


def tell(server, record):
    lying(server, rb"<keys>.*?</keys>", lambda _: keys_element(record))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_forged_charter_of_the_files_key_is_named_and_another_server_asked(site, alice, capsys, k):
    """Everything fits but the signature: the wrong share, its hash, the key's id and public half."""
    key = site.registered(ALICE)
    lie = Share(1, bytes(byte ^ 255 for byte in key.records[0].share.data))
    tell(site.servers["keys1"], forged(key.records[0], k=k, share=lie))
    client = site.client(alice)
    for _ in range(2):  # the second time only two are asked at first
        assert client.fetch(key.id, key.public) == key.private
    told, until_s = "", time.monotonic() + 20
    while "signature of a key charter is wrong" not in told and time.monotonic() < until_s:
        time.sleep(0.01)  # its answer may have come when the key was there already
        told += capsys.readouterr().out
    assert "signature of a key charter is wrong" in told
    assert re.search(r"server\W+keys1", told)
    site.servers["keys2"].down = True
    with pytest.raises(KeyQuorumMissing, match="keys1: its share proves nothing: the signature"):
        site.client(alice).fetch(key.id, key.public)


def test_all_who_forged_together_are_named(site, alice):
    key = site.registered(ALICE)
    shares = [Share(index, secrets.token_bytes(32)) for index in (1, 2)]
    hashes = [share_hash(key.id, 1, share) for share in (*shares, key.records[2].share)]
    told = json.loads(key.charter.text)
    told["body"]["hashes"] = hashes
    lie = canonical(told).decode()
    for name, share in zip(("keys1", "keys2"), shares, strict=True):
        tell(site.servers[name], KeyRecord(replace(key.charter, text=lie), share))
    with pytest.raises(KeyQuorumMissing) as told:
        site.client(alice).fetch(key.id, key.public)
    for name in ("keys1", "keys2"):
        assert f"{name}: its share proves nothing: the signature" in told.value.message


def test_a_signature_is_needed_only_where_nothing_else_tells_the_public_half(site, alice):
    """What fits the file's public half is the file's key; a key of no file is what the site has signed."""
    key = site.registered(ALICE)
    spoilt = re.sub('"signature":"..', '"signature":"00', key.charter.text)
    for name, record in zip(site.servers, key.records, strict=True):
        tell(site.servers[name], KeyRecord(replace(key.charter, text=spoilt), record.share))
    assert site.client(alice).fetch(key.id, key.public) == key.private
    with pytest.raises(KeyQuorumMissing, match="signature"):
        site.client(alice).fetch(key.id)


def test_a_key_of_no_file_is_fetched_by_what_the_site_signed(site, alice):
    key = site.registered(ALICE)
    assert site.client(alice).fetch(key.id) == key.private


def test_an_unknown_site_is_not_trusted(site, alice):
    key = site.registered(ALICE)
    others = trusting(Ed25519PrivateKey.generate().public_key())
    for sites in ({}, others):
        with pytest.raises(KeyQuorumMissing):
            site.client(alice, sites=sites).fetch(key.id, key.public)


def test_garbage_is_an_unavailable_server(site, alice):
    key = site.registered(ALICE)
    garbage = [b"", b"<html/>", b"\0" * 1000, b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"]
    for answer in garbage:
        site.servers["keys3"].change = lambda _answer, body=answer: Response(200, (), body)
        assert site.client(alice).fetch(key.id, key.public) == key.private


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


def test_what_a_server_says_is_one_line_of_printable_characters(site, alice, stranger):
    """It goes to a user's terminal."""
    key = site.registered(ALICE)
    for server in site.servers.values():
        server.tells("message", "no\nerror: ask evil.example\u009b31m\u202e" + "x" * 5000)
        server.tells("faultstring", "no\n\u009b31m")
    with pytest.raises(MdmError) as told:
        site.client(stranger).fetch(key.id, key.public)
    spoken = [told.value, *site.client(stranger).permissions(key.id).values()]
    spoken += site.client(stranger).fetch_many({key.id: key.public}).values()
    for error in spoken:
        assert str(error).isprintable()
        assert len(str(error)) < 2000


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


@pytest.mark.parametrize("name", ["keys1", "keys2", "keys3"])
def test_a_liar_whom_nobody_waited_for_is_named(site, alice, name, capsys):
    """Its wrong share comes when the key is there already."""
    key = site.registered(ALICE)
    liar = site.servers[name]
    lying(liar, b"<share>.*?</share>", b"<share>" + b"00" * 32 + b"</share>")
    liar.hung.clear()
    client = site.client(alice)
    assert client.fetch(key.id, key.public) == key.private
    assert "key_share_invalid" not in capsys.readouterr().out
    liar.hung.set()
    assert named_in(capsys) == {name}
    client.close()


def test_who_forges_a_charter_and_is_late_is_named(site, alice, capsys):
    key = site.registered(ALICE)
    late, told = site.servers["keys3"], forged(key.records[2])
    lying(late, rb"<keys>.*?</keys>", lambda _m: keys_element(told))
    late.hung.clear()
    client = site.client(alice)
    assert client.fetch(key.id, key.public) == key.private
    late.hung.set()
    assert named_in(capsys) == {"keys3"}


def named_in(capsys, seconds=10):
    """Wait until somebody is named in the log, and for whoever else is."""
    until, out = time.monotonic() + seconds, ""
    while "key_share_invalid" not in out and time.monotonic() < until:
        time.sleep(0.02)
        out += capsys.readouterr().out
    return set(re.findall(r"key_share_invalid.*server=(\S+)", out))

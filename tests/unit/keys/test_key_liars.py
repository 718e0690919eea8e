"""Servers whose shares, charters or words are not what they should be: no wrong key, and they are named."""

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
from srm_dicom.crypto.signing import canonical, fingerprint, signer_of
from srm_dicom.errors import (
    KeyQuorumMissing,
    MdmError,
)

ALICE = 'user:"/DC=test/DC=mdm/CN=alice":g'


def lying(server, pattern, replacement):
    """Let a server change its answers on the wire."""

    def change(answer):
        body = re.sub(pattern, replacement, answer.body)
        return Response(answer.status, answer.headers, body)

    server.change = change


def keys_element(record):
    charter = record.charter.text.replace("<", "&lt;")
    return (
        f"<keys><item>{record.charter.key_id}</item><index>{record.share.index}</index>"
        f"<share>{record.share.data.hex()}</share><charter>{charter}</charter></keys>"
    ).encode()


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


def named_in(capsys, seconds=10):
    """Wait until somebody is named in the log, and for whoever else is."""
    until, out = time.monotonic() + seconds, ""
    while "key_share_invalid" not in out and time.monotonic() < until:
        time.sleep(0.02)
        out += capsys.readouterr().out
    return set(re.findall(r"key_share_invalid.*server=(\S+)", out))


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


def test_shares_that_the_site_has_signed_and_that_give_another_key_are_refused(site, alice):
    """As an unproven reshare may leave them: hashes and signature are right, and the key would be wrong."""
    key = site.registered(ALICE)
    shares = [Share(index, secrets.token_bytes(32)) for index in (1, 2, 3)]
    charter = sign_charter(
        key.id,
        generation=1,
        k=2,
        hashes=[share_hash(key.id, 1, share) for share in shares],
        public_key=key.public,
        valid_until=key.charter.valid_until,
        signing_key=site.signing_key,
    )
    for share, name in zip(shares, site.servers, strict=True):
        tell(site.servers[name], KeyRecord(charter, share))
    for half in (key.public, None):
        with pytest.raises(KeyQuorumMissing, match="the rebuilt key is not the file's"):
            site.client(alice).fetch(key.id, half)


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


def test_garbage_is_an_unavailable_server(site, alice):
    key = site.registered(ALICE)
    garbage = [b"", b"<html/>", b"\0" * 1000, b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"]
    for answer in garbage:
        site.servers["keys3"].change = lambda _answer, body=answer: Response(200, (), body)
        assert site.client(alice).fetch(key.id, key.public) == key.private


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

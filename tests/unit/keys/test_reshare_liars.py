"""What a key server can make of a reshare by telling what is not so: the key stays, and it is named."""

import secrets
from dataclasses import replace

import pytest

from mdm_keys.application import application, method_name
from srm_dicom.errors import KeyShareInvalid
from srm_dicom.rights.acl import Acl

ALICE = 'user:"/DC=test/DC=mdm/CN=alice":g'
NAMES = ("keys1", "keys2", "keys3")
NONSENSE = ["", "x", "00" * 31, "\u0660" * 64]


@pytest.fixture
def servers(site):
    three = list(site.servers.values())
    for server in three:
        server.serve(*three)
    return three


def reshare(site, caller, key):
    urls = [f"https://{name}" for name in NAMES]
    resharer = site.client(caller, timeout_s=20).resharer(urls, 2, site.signing_key, timeout_s=20)
    [done] = resharer.reshare({key.id: Acl.parse(ALICE)})
    return done


def lies(server, operation, change):
    """Let a server change what it answers to an operation."""
    real = getattr(server.service, method_name(operation))
    setattr(server.service, method_name(operation), lambda *arguments: list(map(change, real(*arguments))))
    server.app = application(server.service)


def claims(server, *indices):
    """Let a server say that it holds these shares."""

    def change(status):
        [own] = status.keys
        return replace(status, keys=tuple(replace(own, index=index) for index in indices))

    lies(server, "describeKeys", change)


@pytest.mark.parametrize("liar", [0, 1, 2])
@pytest.mark.parametrize("claimed", [(1,), (2,), (3,), (3, 1, 2), (4,), (0,), (1000,)])
def test_who_claims_the_shares_of_others_is_left_out(site, servers, alice, registrar, capsys, liar, claimed):
    key = site.registered(ALICE)
    claims(servers[liar], *claimed)
    done = reshare(site, registrar, key)
    honest = claimed == (liar + 1,)
    assert (done.error, done.proven) == (None, honest)
    assert ("claim" in capsys.readouterr().out) is not honest
    assert site.client(alice).fetch(key.id, key.public) == key.private


@pytest.mark.parametrize("text", NONSENSE)
def test_who_deals_nonsense_is_left_out(site, servers, alice, registrar, capsys, text):
    key = site.registered(ALICE)
    lies(servers[1], "dealKeys", lambda one: replace(one, blinded=text))
    assert reshare(site, registrar, key).error is None
    assert "keys2 has dealt what makes no sense" in capsys.readouterr().out
    assert site.client(alice).fetch(key.id, key.public) == key.private


@pytest.mark.parametrize("pieces", [lambda some: some[:-1], lambda some: ("x",) * len(some)])
def test_who_deals_to_some_or_nonsense_is_left_out(site, servers, alice, registrar, capsys, pieces):
    key = site.registered(ALICE)
    lies(servers[1], "dealKeys", lambda one: replace(one, pieces=pieces(one.pieces)))
    assert reshare(site, registrar, key).error is None
    assert "keys2 has dealt what makes no sense" in capsys.readouterr().out
    assert site.client(alice).fetch(key.id, key.public) == key.private


@pytest.mark.parametrize("pieces", [lambda some: some[::-1], lambda some: ("00",) * len(some)])
def test_of_pieces_that_do_not_open_it_is_said_whose_they_are(site, servers, alice, registrar, pieces):
    key = site.registered(ALICE)
    lies(servers[1], "dealKeys", lambda one: replace(one, pieces=pieces(one.pieces)))
    error = reshare(site, registrar, key).error
    assert "what share 2 dealt does not open" in error.message
    assert "2 keys2's" in error.message
    assert site.client(alice).fetch(key.id, key.public) == key.private


def test_who_deals_another_mask_is_among_the_named(site, servers, alice, registrar):
    key = site.registered(ALICE)
    lies(servers[1], "dealKeys", lambda one: replace(one, blinded=secrets.token_hex(32)))
    error = reshare(site, registrar, key).error
    assert error.message == "one of keys1, keys2 has lied about what was dealt"
    assert site.client(alice).fetch(key.id, key.public) == key.private


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("field", ["hash", "blinded", "checks"])
def test_who_tells_nonsense_of_its_new_share_is_named(site, servers, alice, registrar, field, text):
    key = site.registered(ALICE)
    lies(servers[1], "takeKeys", lambda one: replace(one, **{field: (text,) if field == "checks" else text}))
    done = reshare(site, registrar, key)
    assert done.error.message == "keys2 tells what makes no sense of its new share"
    assert site.client(alice).fetch(key.id, key.public) == key.private


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("hash", "keys2 did not adopt its new share"),
        ("blinded", "keys2 tells something else than it was dealt"),
        ("checks", "one of keys1, keys2, keys3 has lied about what was dealt"),
    ],
)
def test_who_tells_something_else_of_its_new_share_is_named(site, servers, alice, registrar, field, words):
    key, lie = site.registered(ALICE), secrets.token_hex(32)
    lies(servers[1], "takeKeys", lambda one: replace(one, **{field: (lie,) if field == "checks" else lie}))
    assert words in reshare(site, registrar, key).error.message
    assert site.client(alice).fetch(key.id, key.public) == key.private


@pytest.mark.parametrize("text", ["", "x", None])
def test_who_has_no_public_key_of_its_own_is_named(site, servers, registrar, text):
    key = site.registered(ALICE)
    others = servers[0].service.get_service_metadata(registrar, "public_key")
    servers[1].service.get_service_metadata = lambda *_: others if text is None else text
    servers[1].app = application(servers[1].service)
    with pytest.raises(KeyShareInvalid, match="keys2 has no public key of its own"):
        reshare(site, registrar, key)

"""From one generation to the next on whole servers: fresh shares, another k or n, a dead server replaced."""

import re
import secrets
from dataclasses import replace
from datetime import timedelta

import pytest

from mdm_keys.store import shares_of
from srm_dicom.client.reshare import Resharer
from srm_dicom.errors import ConfigError, KeyQuorumMissing, KeyServerUnavailable, NotAuthorised
from srm_dicom.rights.acl import Acl

NAMES = ("keys1", "keys2", "keys3")
ALICE = 'user:"/DC=test/DC=mdm/CN=alice":g'


@pytest.fixture
def servers(site):
    """Five servers that trust each other; keys are registered on the first three."""
    five = [*site.servers.values(), site.another("keys4"), site.another("keys5")]
    for server in five:
        server.serve(*five)
    return five


def reshare(site, registrar, keys, names, k, *, old=NAMES, without_proof=False, until=None):
    urls = [f"https://{name}" for name in names]
    client = site.client(registrar, timeout_s=20, names=old)
    resharer = client.resharer(urls, k, site.signing_key, timeout_s=20, without_proof=without_proof)
    acls = {key.id: Acl.parse(ALICE) for key in keys}
    return {one.key_id: one for one in resharer.reshare(acls, dict.fromkeys(acls, until) if until else {})}


def lies(server):
    """Let a server deal another share than it holds, with a mask that fits."""
    resharing = server.service._resharing
    real = resharing._own

    def own(order, shares):
        return replace(real(order, shares), data=secrets.token_bytes(32))

    resharing._own = own


def generations(server, key):
    return [share.generation for share in shares_of(server.store.find([key.id]), key.id)]


def test_fresh_shares_make_old_ones_worthless(site, servers, alice, registrar):
    key = site.registered(ALICE, project="heart")
    before = [server.store.find([key.id])[key.id].shares[0].share for server in servers[:3]]
    [done] = reshare(site, registrar, [key], ["keys1", "keys2", "keys3"], 2).values()
    assert (done.error, done.generation, done.left) == (None, 2, ())
    assert site.client(alice).fetch(key.id, key.public) == key.private
    after = [server.store.find([key.id])[key.id].shares for server in servers[:3]]
    assert [[share.generation for share in shares] for shares in after] == [[2]] * 3
    assert not {shares[0].share for shares in after} & set(before)
    assert {server.store.find([key.id])[key.id].project for server in servers[:3]} == {"heart"}


def test_a_key_is_prolonged_with_its_project(site, servers, alice, registrar):
    """Also one whose time is over already; and the other way round."""
    now = site.clock.now()
    key, other = site.registered(ALICE, valid_until=now), site.registered(ALICE)
    with pytest.raises(NotAuthorised):
        site.client(alice).fetch(key.id, key.public)
    reshare(site, registrar, [key], NAMES, 2, until=now + timedelta(days=1))
    reshare(site, registrar, [other], NAMES, 2, until=now)
    assert site.client(alice).fetch(key.id, key.public) == key.private
    with pytest.raises(NotAuthorised):
        site.client(alice).fetch(other.id, other.public)
    reshare(site, registrar, [key], NAMES, 2)
    assert site.client(alice).fetch(key.id, key.public) == key.private


@pytest.mark.parametrize(
    ("names", "k"),
    [
        (["keys1", "keys2", "keys3", "keys4", "keys5"], 3),
        (["keys4", "keys5"], 2),
        (["keys5"], 1),
        (["keys3", "keys1"], 1),
    ],
)
def test_other_servers_and_another_k(site, servers, alice, registrar, names, k):
    key = site.registered(ALICE)
    [done] = reshare(site, registrar, [key], names, k).values()
    assert (done.error, done.left) == (None, ())
    where = {server.name: generations(server, key) for server in servers}
    assert where == {server.name: [2] if server.name in names else [] for server in servers}
    client = site.client(alice, names=names)
    assert client.fetch(key.id, key.public) == key.private
    for name in names[: len(names) - k]:
        site.servers[name].down = True
    assert site.client(alice, names=names).fetch(key.id, key.public) == key.private


def test_a_dead_server_is_replaced_and_old_shares_stay_that_nobody_could_prove(
    site, servers, alice, registrar
):
    key = site.registered(ALICE)
    site.servers["keys2"].down = True
    names = ["keys1", "keys4", "keys3"]
    for generation in (2, 3):  # again is no better, and leaves no more behind
        [done] = reshare(site, registrar, [key], names, 2).values()
        assert (done.error, done.generation, done.proven) == (None, generation, False)
        where = [generations(server, key) for server in servers]
        assert where == [[generation, 1], [1], [generation, 1], [generation], []]
        assert site.client(alice, names=names).fetch(key.id, key.public) == key.private
    for name in ("keys3", "keys2"):
        site.servers[name].down = True
        assert site.client(alice, names=names).fetch(key.id, key.public) == key.private
        site.servers["keys3"].down = False


def test_old_shares_go_without_proof_when_somebody_says_so(site, servers, alice, registrar):
    key = site.registered(ALICE)
    site.servers["keys2"].down = True
    names = ["keys1", "keys4", "keys3"]
    reshare(site, registrar, [key], names, 2)
    [done] = reshare(site, registrar, [key], names, 2, old=names, without_proof=True).values()
    assert (done.error, done.left, done.proven) == (None, (), True)
    assert [generations(server, key) for server in servers] == [[3], [1], [3], [3], []]
    assert site.client(alice, names=names).fetch(key.id, key.public) == key.private
    [done] = reshare(site, registrar, [key], names, 2, old=names).values()  # all is well from here on
    assert (done.error, done.generation, done.proven) == (None, 4, True)


def test_a_dead_server_is_told_of(site, servers, alice, registrar):
    key = site.registered(ALICE, k=1)
    site.servers["keys2"].down = True
    names = ["keys1", "keys4", "keys3"]
    [done] = reshare(site, registrar, [key], names, 2).values()
    assert (done.error, done.left, done.proven) == (None, ("keys2",), True)
    assert site.client(alice, names=names).fetch(key.id, key.public) == key.private


@pytest.mark.parametrize("liar", NAMES)
@pytest.mark.parametrize("k", [1, 2])
def test_a_dealer_that_lies_is_found_before_anything_is_dropped(site, servers, alice, registrar, liar, k):
    """With two holders to spare it is named, with one nobody can tell which of them it is."""
    key = site.registered(ALICE, k=k)
    lies(site.servers[liar])
    [done] = reshare(site, registrar, [key], ["keys1", "keys4", "keys5"], 2).values()
    named = liar if k == 1 else "one of keys1, keys2, keys3"
    assert done.error.message.startswith(f"{named} has ")
    assert [generations(server, key) for server in servers] == [[1], [1], [1], [], []]
    assert site.client(alice).fetch(key.id, key.public) == key.private
    others = [name for name in NAMES if name != liar]
    [done] = reshare(site, registrar, [key], ["keys1", "keys4", "keys5"], 2, old=others).values()
    assert (done.error, done.proven) == (None, k == 1)


def test_a_receiver_that_tells_something_else_is_named(site, servers, registrar):
    key = site.registered(ALICE)
    servers[3].tells("checks", "00" * 31 + "01")
    [done] = reshare(site, registrar, [key], ["keys1", "keys4", "keys2"], 1).values()
    assert "keys4" in done.error.message
    assert [generations(server, key) for server in servers] == [[1], [1], [1], [], []]


def test_a_lie_that_nobody_could_prove_loses_no_key(site, servers, alice, registrar, capsys):
    """The new generation is of another key; the old one is there, and the log says what was found."""
    key = site.registered(ALICE)
    site.servers["keys2"].down = True
    lies(site.servers["keys1"])
    names = ["keys1", "keys4", "keys3"]
    [done] = reshare(site, registrar, [key], names, 2).values()
    assert (done.error, done.proven) == (None, False)
    for down in ("keys2", "keys4"):
        site.servers[down].down = True
        assert site.client(alice, names=names).fetch(key.id, key.public) == key.private
    assert "the rebuilt key is not the file's" in capsys.readouterr().out


def test_many_keys_and_their_rights(site, servers, alice, stranger, registrar):
    keys = [site.registered(ALICE) for _ in range(20)]
    done = reshare(site, registrar, keys, ["keys4", "keys5"], 2)
    assert [one.error for one in done.values()] == [None] * 20
    found = site.client(alice, names=["keys4", "keys5"]).fetch_many({key.id: key.public for key in keys})
    assert [found[key.id] for key in keys] == [key.private for key in keys]
    assert set(site.client(stranger, names=["keys4", "keys5"]).get_acl(keys[0].id)) == {"keys4", "keys5"}


def test_nothing_changes_when_a_new_server_is_down(site, servers, alice, registrar):
    key = site.registered(ALICE)
    site.servers["keys4"].down = True
    with pytest.raises(KeyServerUnavailable):
        reshare(site, registrar, [key], ["keys1", "keys4"], 2)
    assert generations(servers[0], key) == [1]
    assert site.client(alice).fetch(key.id, key.public) == key.private


def test_what_one_new_server_does_not_adopt_stays_on_no_other(site, servers, alice, registrar):
    key = site.registered(ALICE)
    site.servers["keys4"].dies_at("adoptKeys", answered=False)
    [done] = reshare(site, registrar, [key], ["keys1", "keys2", "keys4"], 2).values()
    assert isinstance(done.error, KeyServerUnavailable)
    assert [generations(server, key) for server in servers[:4]] == [[1], [1], [1], []]
    assert site.client(alice).fetch(key.id, key.public) == key.private


@pytest.mark.parametrize("step", ["dealKeys", "takeKeys", "adoptKeys", "removeKeys"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_dies_at_any_step_loses_no_key(site, servers, alice, registrar, step, when):
    """And the same call, given again, ends what was begun."""
    key = site.registered(ALICE)
    names = ["keys1", "keys2", "keys3"]
    site.servers["keys1"].dies_at(step, answered=when == "after")
    reshare(site, registrar, [key], names, 2)
    assert site.client(alice).fetch(key.id, key.public) == key.private
    site.servers["keys1"].down = False
    assert site.client(alice).fetch(key.id, key.public) == key.private
    [done] = reshare(site, registrar, [key], names, 2).values()
    assert (done.error, done.left) == (None, ())
    assert [generations(server, key) for server in servers[:3]] == [[done.generation]] * 3
    assert site.client(alice).fetch(key.id, key.public) == key.private


def test_a_server_deals_to_its_peers_only(site, servers, registrar):
    """A site that signs orders cannot have shares sent to a server of its own choice."""
    key = site.registered(ALICE)
    servers[0].serve(*servers[:3])
    servers[1].serve(*servers[:3])
    [done] = reshare(site, registrar, [key], ["keys4"], 1).values()
    assert "is no peer of this server" in done.error.message
    assert generations(servers[3], key) == []


def test_a_share_that_has_rotted_is_not_dealt_and_others_are(site, servers, alice, registrar, capsys):
    key = site.registered(ALICE)
    servers[0].store._share.update(share=b"x" * 32).execute()
    [done] = reshare(site, registrar, [key], ["keys4", "keys5"], 2).values()
    assert (done.error, done.proven) == (None, False)
    told = capsys.readouterr().out
    assert re.search(r"key_share_not_dealt.*server\W+keys1", told)
    assert site.client(alice, names=["keys4", "keys5"]).fetch(key.id, key.public) == key.private


def test_too_few_shares_that_have_not_rotted_change_nothing(site, servers, alice, registrar):
    key = site.registered(ALICE)
    for server in servers[:2]:
        server.store._share.update(share=b"x" * 32).execute()
    [done] = reshare(site, registrar, [key], ["keys4", "keys5"], 2).values()
    assert "wrong" in done.error.message
    assert [generations(server, key) for server in servers] == [[1], [1], [1], [], []]


def test_new_shares_that_do_not_fit_are_not_adopted(site, servers, alice, registrar):
    """A receiver that tells something else: the old generation stays."""
    key = site.registered(ALICE)
    servers[3].tells("blinded", "00" * 32)
    [done] = reshare(site, registrar, [key], ["keys1", "keys4", "keys5"], 2).values()
    assert done.error is not None
    assert [generations(server, key) for server in servers] == [[1], [1], [1], [], []]
    assert site.client(alice).fetch(key.id, key.public) == key.private


def test_too_few_old_servers_and_impossible_numbers(site, servers, registrar):
    key = site.registered(ALICE)
    site.servers["keys1"].down = site.servers["keys2"].down = True
    [done] = reshare(site, registrar, [key], ["keys4", "keys5"], 2).values()
    assert isinstance(done.error, KeyQuorumMissing)
    with pytest.raises(ConfigError):
        reshare(site, registrar, [key], ["keys4", "keys5"], 3)


def test_a_stranger_and_the_user_order_nothing(site, servers, alice):
    key = site.registered(ALICE)
    for caller in (alice,):
        [done] = reshare(site, caller, [key], ["keys4", "keys5"], 2).values()
        assert done.error is not None
    assert [generations(server, key) for server in servers] == [[1], [1], [1], [], []]


@pytest.mark.parametrize("step", ["_take", "_adopt"])
def test_two_reshares_at_once_lose_no_key(site, servers, alice, registrar, monkeypatch, step):
    """Both make generation 2; the slower one finds another's share there, and undoes nothing but its own."""
    key, real, outcomes = site.registered(ALICE), getattr(Resharer, step), []

    def overtaken(self, *arguments):
        monkeypatch.setattr(Resharer, step, real)
        outcomes.append(reshare(site, registrar, [key], NAMES, 2)[key.id])
        return real(self, *arguments)

    monkeypatch.setattr(Resharer, step, overtaken)
    slower = reshare(site, registrar, [key], NAMES, 2)[key.id]
    [faster] = outcomes
    assert (faster.error, faster.generation) == (None, 2)
    assert slower.error is not None
    assert site.client(alice).fetch(key.id, key.public) == key.private

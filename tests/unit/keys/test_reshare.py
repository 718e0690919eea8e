"""From one generation to the next on whole servers: fresh shares, another k or n, a dead server replaced."""

import pytest

from srm_dicom.errors import ConfigError, KeyQuorumMissing, KeyServerUnavailable
from srm_dicom.rights.acl import Acl

ALICE = 'user:"/DC=test/DC=mdm/CN=alice":g'


@pytest.fixture
def servers(site):
    """Five servers that trust each other; keys are registered on the first three."""
    five = [*site.servers.values(), site.another("keys4"), site.another("keys5")]
    for server in five:
        server.serve(*five)
    return five


def reshare(site, registrar, keys, names, k):
    urls = [f"https://{name}" for name in names]
    resharer = site.client(registrar, timeout_s=5).resharer(urls, k, site.signing_key, timeout_s=5)
    return {one.key_id: one for one in resharer.reshare({key.id: Acl.parse(ALICE) for key in keys})}


def generations(server, key):
    return [share.generation for share in server.store.shares([key.id]).get(key.id, [])]


def test_fresh_shares_make_old_ones_worthless(site, servers, alice, registrar):
    key = site.registered(ALICE, project="heart")
    before = [server.store.shares([key.id])[key.id][0].share for server in servers[:3]]
    [done] = reshare(site, registrar, [key], ["keys1", "keys2", "keys3"], 2).values()
    assert (done.error, done.generation, done.left) == (None, 2, ())
    assert site.client(alice).fetch(key.id, key.public) == key.private
    after = [server.store.shares([key.id])[key.id] for server in servers[:3]]
    assert [[share.generation for share in shares] for shares in after] == [[2]] * 3
    assert not {shares[0].share for shares in after} & set(before)
    assert {server.store.find([key.id])[key.id].project for server in servers[:3]} == {"heart"}


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


def test_a_dead_server_is_replaced_and_told_of(site, servers, alice, registrar):
    key = site.registered(ALICE)
    site.servers["keys2"].down = True
    names = ["keys1", "keys4", "keys3"]
    [done] = reshare(site, registrar, [key], names, 2).values()
    assert (done.error, done.left) == (None, ("keys2",))
    assert site.client(alice, names=names).fetch(key.id, key.public) == key.private


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


def test_a_share_that_has_rotted_is_not_dealt(site, servers, alice, registrar):
    key = site.registered(ALICE)
    servers[0].store._share.update(share=b"x" * 32).execute()
    [done] = reshare(site, registrar, [key], ["keys4", "keys5"], 2).values()
    assert "wrong" in done.error.message
    assert site.client(alice).fetch(key.id, key.public) == key.private


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

"""A key that is destroyed is gone when n - k + 1 servers say so, and comes back from no backup."""

import os
import resource
from xml.sax.saxutils import escape

import pytest

from mdm_keys.ledger import DestructionLedger
from mdm_keys.server import KeyServer, KeyServerSettings
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError, KeyQuorumMissing, MdmError, NotAuthorised, NotFound
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.rights.acl import Acl
from srm_dicom.testing.databases import VARIABLE, database_url
from srm_dicom.testing.pki import TestPki
from srm_dicom.wire.hydra.contract import SharedKey, StringPair
from srm_dicom.wire.hydra.permissions import permission_of

ALICE = 'user:"/DC=test/DC=mdm/CN=alice":g'


def test_a_key_is_destroyed_when_too_few_shares_can_be_left(site, alice, registrar):
    key = site.registered(ALICE)
    site.servers["keys1"].down = site.servers["keys2"].down = True
    client = site.client(registrar)
    first = client.destroy({key.id: key.public})[key.id]
    assert (first.done, first.needed, first.confirmed) == (False, 2, {"keys3"})
    assert set(first.failures) == {"keys1", "keys2"}
    site.servers["keys2"].down = False
    second = client.destroy({key.id: key.public})[key.id]
    assert (second.done, second.confirmed) == (True, {"keys2", "keys3"})
    site.servers["keys1"].down = False
    with pytest.raises(KeyQuorumMissing):
        site.client(alice).fetch(key.id, key.public)


def test_a_key_that_no_server_knows_has_to_be_denied_by_all(site, registrar):
    key = site.registered(ALICE)
    client = site.client(registrar)
    client.remove(key.id)
    assert client.destroy({key.id: key.public})[key.id].needed == 3


def test_who_tells_of_another_key_does_not_say_how_many_are_enough(site, registrar):
    """One key server cannot have a key taken for destroyed that the others still hold."""
    key, of_one = site.registered(ALICE), site.registered(ALICE, k=3)
    site.servers["keys2"].down = site.servers["keys3"].down = True
    site.servers["keys1"].tells("charter", escape(of_one.charter.text))
    told = site.client(registrar).destroy({key.id: key.public})[key.id]
    assert (told.done, told.described, told.confirmed) == (False, False, frozenset())


def test_who_tells_nonsense_keeps_nothing_from_being_destroyed(site, registrar):
    key = site.registered(ALICE)
    site.servers["keys1"].tells("charter", "{}")
    told = site.client(registrar).destroy({key.id: key.public})[key.id]
    assert (told.done, told.needed, told.confirmed) == (True, 2, {"keys2", "keys3"})
    assert "keys1" in told.failures


def test_a_destroyed_key_is_kept_no_more(site, registrar):
    key = site.registered(ALICE)
    client = site.client(registrar)
    assert client.destroy({key.id: key.public})[key.id].done
    with pytest.raises(Exception, match="has been destroyed"):
        client.register(key.records, Acl.parse(ALICE))
    with pytest.raises(NotFound):
        client.fetch(key.id, key.public)


@pytest.mark.skipif(VARIABLE in os.environ, reason="PostgreSQL overwrites in its own time")
def test_a_share_that_is_destroyed_is_in_no_file_any_more(site, registrar, tmp_path):
    key = site.registered(ALICE)
    shares = [record.share.data for record in key.records]

    def found():
        kept = b"".join(path.read_bytes() for path in tmp_path.glob("*.db*"))
        return [share in kept for share in shares]

    assert found() == [True] * 3
    site.client(registrar).destroy({key.id: key.public})
    assert found() == [False] * 3


def test_who_may_not_remove_a_key_does_not_destroy_it(site, alice, stranger):
    key = site.registered(ALICE)
    for caller in (alice, stranger):
        told = site.client(caller).destroy({key.id: key.public, "unknown": b"x" * 32})
        assert not told[key.id].done
        assert not told["unknown"].confirmed
    assert site.client(alice).fetch(key.id, key.public) == key.private
    with pytest.raises(NotAuthorised):
        site.client(alice).fetch("unknown", b"x" * 32)


def test_a_ledger_is_replayed_over_a_database_of_before(site, alice, registrar):
    """A database put back from a backup still has the share; the server drops it when it starts."""
    key, other = site.registered(ALICE), site.registered(ALICE)
    server = site.servers["keys1"]
    server.ledger.add([(key.public, key.id)])
    assert server.store.find([key.id])[key.id].shares
    reopened = DestructionLedger(server.directory / "keys1.destroyed")
    server.store.remove_of(reopened)
    assert not server.store.find([key.id])
    assert server.store.find([other.id])


def test_the_ledger_knows_before_the_share_goes(site, registrar, monkeypatch):
    """A server that dies in between has noted a key that is still there, and drops it when it starts."""
    key = site.registered(ALICE)
    server = site.servers["keys1"]
    on_disk = []

    def dies(_ids):
        on_disk.extend(DestructionLedger(server.directory / "keys1.destroyed"))
        raise OSError("the power went")

    monkeypatch.setattr(server.store, "remove", dies)
    with pytest.raises(OSError, match="the power went"):
        server.service.destroy_keys(registrar, [StringPair(key.id, key.public.hex())])
    assert on_disk == [(key.public, key.id)]


def test_a_ledger_survives_a_cut_line_and_nothing_else(tmp_path):
    path = tmp_path / "keys.destroyed"
    ledger = DestructionLedger(path)
    ledger.add([(b"a" * 32, "one"), (b"b" * 32, "two")])
    ledger.add([(b"a" * 32, "one")])
    whole = path.read_text()
    assert whole.count("\n") == 2
    path.write_text(whole[:-5])
    again = DestructionLedger(path)
    assert list(again) == [(b"a" * 32, "one")]
    again.add([(b"b" * 32, "two")])
    assert dict(DestructionLedger(path)) == {b"a" * 32: "one", b"b" * 32: "two"}
    path.write_text("something\n")
    with pytest.raises(ConfigError):
        DestructionLedger(path)


def once(monkeypatch, access, step, operation, what, *, time=1):
    """Let something happen when a server has come through a step of an operation for so many times."""
    real, times = getattr(access, step), []

    def then(*arguments, **named):
        told = real(*arguments, **named)
        times.extend([True] * (arguments[0] == operation))
        if len(times) == time:
            times.append(True)
            what()
        return told

    monkeypatch.setattr(access, step, then)


def test_a_key_that_is_destroyed_while_it_is_registered_is_not_kept(site, registrar, monkeypatch):
    """The registration has looked into the ledger already."""
    records = site.issue()
    charter = records[0].charter
    server = site.servers["keys1"]

    def destroy():
        pair = StringPair(charter.key_id, charter.public_key.hex())
        [told] = server.service.destroy_keys(registrar, [pair])
        assert not told.exception

    once(monkeypatch, server.access, "require_creator", "putKeys", destroy)
    with pytest.raises(MdmError, match="has been destroyed"):
        site.client(registrar).register(records, Acl.parse(ALICE))
    assert not server.store.find([charter.key_id])


@pytest.mark.parametrize(("operation", "time"), [("takeKeys", 1), ("adoptKeys", 1), ("adoptKeys", 2)])
def test_a_key_that_is_destroyed_while_it_is_shared_anew_leaves_no_new_shares(
    site, registrar, monkeypatch, operation, time
):
    """Also on a server that had none of it: it looks twice whether the registrar may adopt there."""
    key, names = site.registered(ALICE), ("keys1", "keys2", "keys3", "keys4")
    servers = [*site.servers.values(), site.another("keys4")]
    for server in servers:
        server.serve(*servers)

    def destroy():
        told = site.client(registrar, names=names).destroy({key.id: key.public})
        assert told[key.id].confirmed == set(names)

    once(monkeypatch, servers[3].access, "require_creator", operation, destroy, time=time)
    client = site.client(registrar)
    resharer = client.resharer([f"https://{name}" for name in names], 2, site.signing_key)
    [done] = resharer.reshare({key.id: Acl.parse(ALICE)})
    assert done.error is not None
    for server in servers:
        assert not server.store.find([key.id])
        assert server.store.pending(key.id, 2) is None


def test_a_key_that_is_removed_while_a_share_comes_fails_alone(site, registrar, monkeypatch):
    server, service = site.servers["keys1"], site.servers["keys1"].service
    gone, other = site.registered(ALICE), site.registered(ALICE)
    records = [
        SharedKey(one.id, 1, one.records[0].share.data.hex(), one.charter.text) for one in (gone, other)
    ]
    once(monkeypatch, server.access, "sort", "putKeys", lambda: server.store.remove([gone.id]))
    told = service.put_keys(registrar, records, permission_of(Acl.parse(ALICE)))
    assert [bool(one.exception) for one in told] == [True, False]
    assert "removed meanwhile" in told[0].message


def test_who_makes_keys_destroys_none_of_others_by_their_public_half(site, alice, registrar):
    """Another site's registrar gives an id that is nobody's with the public half of somebody's key."""
    key = site.registered(ALICE)
    server = site.servers["keys1"]
    server.service.destroy_keys(registrar, [StringPair("of-nobody", key.public.hex())])
    reopened = DestructionLedger(server.directory / "keys1.destroyed")
    server.store.remove_of(reopened)
    assert server.store.find([key.id])
    [told] = server.service.destroy_keys(registrar, [StringPair(key.id, key.public.hex())])
    assert not told.exception
    assert (key.public, key.id) in DestructionLedger(server.directory / "keys1.destroyed")


def test_a_disk_that_fills_up_leaves_no_half_line_in_the_ledger(tmp_path):
    path = tmp_path / "keys.destroyed"
    ledger = DestructionLedger(path)
    ledger.add([(b"a" * 32, "one")])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 30, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            ledger.add([(b"b" * 32, "two")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    ledger.add([(b"c" * 32, "three")])
    assert dict(DestructionLedger(path)) == {b"a" * 32: "one", b"c" * 32: "three"}


@pytest.mark.skipif(VARIABLE in os.environ, reason="PostgreSQL overwrites in its own time")
def test_what_a_server_drops_when_it_starts_is_in_no_file_either(site, tmp_path):
    key, server = site.registered(ALICE), site.servers["keys1"]
    server.store.wipe()
    server.ledger.add([(key.public, key.id)])
    for service in (server.database, server.audit):
        service.close()

    def kept():
        return b"".join(path.read_bytes() for path in tmp_path.glob("keys1.db*"))

    share = key.records[0].share.data
    assert share in kept()
    pki = TestPki(tmp_path / "pki", fast=True)
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    audit = AuditLog(tmp_path, "keys1", "localhost", SystemClock())
    settings = KeyServerSettings(database_url(tmp_path, "keys1"), host="127.0.0.1", port=0)
    again = KeyServer(settings, gate, audit, SystemClock())
    assert share not in kept()
    again.stop(0.1)
    audit.close()

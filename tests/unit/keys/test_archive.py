"""A key server's records in a sealed file: whole, for its recipients only, and never the destroyed ones."""

import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mdm_keys import archive
from srm_dicom.crypto import sealing
from srm_dicom.crypto.signing import trusting
from srm_dicom.errors import IntegrityError, InvalidRequest
from srm_dicom.rights.acl import Acl

ALICE = 'user:"/DC=test/DC=mdm/CN=alice":g'


@pytest.fixture
def escrow():
    return secrets.token_bytes(32)


def exported(site, server, *private):
    file = Path(site.directory) / "export.c4gh"
    recipients = [sealing.public_key_of(one) for one in private]
    file.write_bytes(b"".join(archive.export(server.store, server.ledger, recipients, secrets.token_bytes)))
    return file


def imported(site, server, file, private):
    return archive.load(file, private, server.store, server.ledger, site.sites)


def everything(server):
    return list(server.store.all_keys())


def test_all_comes_back_for_each_recipient(site, alice, escrow):
    keys = [site.registered(ALICE) for _ in range(3)]
    file = exported(site, site.servers["keys1"], escrow, secrets.token_bytes(32))
    new = site.another("keys9")
    done = imported(site, new, file, escrow)
    assert (done.keys, done.shares, done.destroyed) == (3, 3, 0)
    assert everything(new) == everything(site.servers["keys1"])
    again = imported(site, new, file, escrow)
    assert (again.keys, again.shares) == (0, 0)
    site.servers["keys1"].down = True
    found = site.client(alice, names=["keys9", "keys2"]).fetch_many({key.id: key.public for key in keys})
    assert [found[key.id] for key in keys] == [key.private for key in keys]


def test_nobody_else_opens_it(site, escrow):
    site.registered(ALICE)
    file = exported(site, site.servers["keys1"], escrow)
    with pytest.raises(InvalidRequest):
        imported(site, site.another("keys9"), file, secrets.token_bytes(32))


def test_what_was_destroyed_does_not_come_back(site, registrar, escrow):
    """Neither what the file knows as destroyed nor what was destroyed after it was made."""
    before, after, alive = (site.registered(ALICE) for _ in range(3))
    client = site.client(registrar)
    client.destroy({before.id: before.public})
    server = site.servers["keys1"]
    file = exported(site, server, escrow)
    client.destroy({after.id: after.public})
    done = imported(site, server, file, escrow)
    assert (done.keys, done.destroyed) == (0, 1)
    assert [key.id for key in everything(server)] == [alive.id]
    new = site.another("keys9")
    imported(site, new, file, escrow)
    assert (before.public, before.id) in new.ledger


def test_a_file_that_is_damaged_adds_nothing(site, escrow):
    for _ in range(200):  # some segments
        site.registered(ALICE)
    whole = exported(site, site.servers["keys1"], escrow).read_bytes()
    segment = 65564
    header = len(whole) - (len(whole) - 124) // segment * segment - (len(whole) - 124) % segment
    damaged = [whole[:-1], whole[: header + segment], bytes([*whole[:-1], whole[-1] ^ 1])]
    damaged.append(whole[:header] + whole[header + segment :])
    for number, content in enumerate(damaged):
        new = site.another(f"new{number}")
        file = Path(site.directory) / "damaged.c4gh"
        file.write_bytes(content)
        with pytest.raises(IntegrityError):
            imported(site, new, file, escrow)
        assert everything(new) == []


def test_records_that_no_known_site_signed_are_not_imported(site, escrow):
    site.registered(ALICE)
    file = exported(site, site.servers["keys1"], escrow)
    new = site.another("keys9")
    others = trusting(Ed25519PrivateKey.generate().public_key())
    with pytest.raises(IntegrityError):
        archive.load(file, escrow, new.store, new.ledger, others)
    assert everything(new) == []


def test_rights_and_owner_come_along(site, registrar, escrow):
    key = site.registered(ALICE)
    acl = Acl.parse('user:"/DC=test/DC=mdm/CN=stranger":gx')
    site.client(registrar).set_acls({key.id: acl})
    new = site.another("keys9")
    imported(site, new, exported(site, site.servers["keys1"], escrow), escrow)
    [kept] = everything(new)
    assert kept.owner == registrar.dn
    assert str(acl) in str(kept.acl)


def test_a_file_of_before_brings_no_share_back_that_fresh_ones_have_replaced(site, registrar, escrow):
    """Else the shares that a thief has are worth something again."""
    key, servers = site.registered(ALICE), list(site.servers.values())
    file = exported(site, servers[0], escrow)
    for server in servers:
        server.serve(*servers)
    resharer = site.client(registrar).resharer(
        [f"https://{one.name}" for one in servers], 2, site.signing_key
    )
    [fresh] = resharer.reshare({key.id: Acl.parse(ALICE)})
    assert fresh.proven
    done = imported(site, servers[0], file, escrow)
    assert (done.keys, done.shares) == (0, 0)
    assert [[share.generation for share in one.shares] for one in everything(servers[0])] == [[2]]

"""As many servers and as many keys in a call as there may be, and a server's last moment."""

import pytest

from srm_dicom.errors import KeyQuorumMissing
from srm_dicom.rights.acl import Acl
from srm_dicom.soap.envelope import body_entry
from srm_dicom.wire.hydra import messages
from srm_dicom.wire.hydra.contract import MAX_KEYS_PER_CALL, SharedKey
from srm_dicom.wire.hydra.permissions import permission_of

ALICE = 'user:"/DC=test/DC=mdm/CN=alice":g'
SERVERS = 16
MANY = (*((n // 2 + 1, n) for n in range(1, SERVERS + 1)), (1, SERVERS), (SERVERS, SERVERS))


def test_any_k_of_any_number_of_servers(site, alice, registrar):
    for number in range(len(site.servers) + 1, SERVERS + 1):
        site.another(f"keys{number}")
    names = list(site.servers)
    registered = {}
    for k, n in MANY:
        records = site.issue(k=k, n=n)
        site.client(registrar, names=names[:n]).register(records, Acl.parse(ALICE))
        registered[k, n] = records[0].charter
    for (k, n), charter in registered.items():
        client = site.client(alice, names=names[:n])
        for server in site.servers.values():
            server.down = server.name in names[: n - k]
        assert len(client.fetch(charter.key_id, charter.public_key)) == 32, (k, n)
        site.servers[names[n - 1]].down = True
        with pytest.raises(KeyQuorumMissing):
            client.fetch(charter.key_id, charter.public_key)


def test_ten_thousand_keys_in_one_call_have_each_their_own_fate(site, alice, registrar):
    assert MAX_KEYS_PER_CALL == 10_000
    records = [site.issue()[0] for _ in range(3)]
    good = [SharedKey(one.charter.key_id, 1, one.share.data.hex(), one.charter.text) for one in records]
    keys = [good[0], *(SharedKey(f"no{i}", 1, "00", "{}") for i in range(MAX_KEYS_PER_CALL - 3)), *good[1:]]
    server = site.servers["keys1"]

    def call(who, operation, *arguments):
        answer = server.post(messages.request(operation, *arguments), who)
        return messages.read_response(operation, body_entry(answer.body))

    kept = call(registrar, "putKeys", keys, permission_of(Acl.parse(ALICE)))
    assert [one.item for one in kept] == [key.item for key in keys]
    assert {one.item for one in kept if one.is_new} == {key.item for key in good}
    assert {one.exception for one in kept if not one.is_new} == {"InvalidArgumentException"}
    found = call(alice, "getKeys", [key.item for key in keys])
    assert [one.item for one in found] == [key.item for key in keys]
    assert [key for one in found for key in one.keys] == good
    assert {one.exception for one in found if not one.keys} == {"AuthorizationException"}


def test_a_call_that_is_late_when_its_server_ends_is_told_so(site, alice, registrar, capsys):
    """As a defect of the program it would be looked for in vain: a log once had ``InterfaceError``."""
    key = site.registered(ALICE)
    server = site.servers["keys1"]
    server.database.close()
    late = {
        "getKeys": ([key.id],),
        "putKeys": ([SharedKey(key.id, 1, "", key.charter.text)], permission_of(Acl.parse(ALICE))),
        "removeEntry": ([key.id],),
    }
    for operation, arguments in late.items():
        answer = server.post(messages.request(operation, *arguments), registrar)
        assert answer.status == 500
        assert b"the service is ending" in answer.body
    assert "key_operation_failed" not in capsys.readouterr().out
    assert site.client(alice).fetch(key.id, key.public) == key.private

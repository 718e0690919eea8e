"""Key servers and clients that are processes, killed at random: nothing is lost, no key is wrong.

The long run against a model is ``test_key_faults``, where whoever dies only falls silent. Here power goes
from real servers in the middle of a transaction, and from real clients in the middle of a registration.
"""

import json
import os
import random
import secrets
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom import telemetry
from srm_dicom.audit import segments
from srm_dicom.audit.verify import verify
from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.client.keys import KeyServers
from srm_dicom.crypto.keyrecord import issue
from srm_dicom.crypto.signing import trusting
from srm_dicom.daemon.common import Common, host_credential
from srm_dicom.demo.site import DemoSite
from srm_dicom.errors import MdmError
from srm_dicom.identity.credential import Credential
from srm_dicom.rights.acl import Acl

OPERATIONS = 1500
UNTIL = datetime(2090, 1, 1, tzinfo=UTC)


class Client:
    """Does one thing after the other and tells each before it is begun and when it has ended."""

    def __init__(self, config, proxy, dn, seed, keys):
        common, self.pick, self.keys = Common(config, "test"), random.Random(seed), keys
        self.signing_key = InnerSecrets.load(common.inner().secrets).signing_key
        self.servers = common.config.catalogues.keys
        self.registrar = host_credential(common.config.trust)
        self.user = Credential(Path(proxy), Path(proxy), common.config.trust.certificates)
        self.acl = Acl.parse(f'user:"{dn}":g')

    def connected(self, credential):
        return KeyServers(
            self.servers, credential, sites=trusting(self.signing_key.public_key()), timeout_s=5
        )

    def run(self):
        while True:
            what = self.pick.choice((self.register, self.register, self.fetch, self.fetch, self.remove))
            if what == self.register or self.keys:
                what()

    def register(self):
        private = X25519PrivateKey.generate().private_bytes_raw()
        records = issue(
            private,
            k=2,
            n=3,
            valid_until=UNTIL,
            signing_key=self.signing_key,
            random_bytes=secrets.token_bytes,
        )
        charter = records[0].charter
        half = charter.public_key.hex()
        told = {"does": "register", "id": charter.key_id, "private": private.hex(), "public": half}
        if self.done(told, lambda: self.connected(self.registrar).register(records, self.acl)):
            self.keys[charter.key_id] = half

    def fetch(self):
        key_id = self.pick.choice(list(self.keys))
        told = {"does": "fetch", "id": key_id}

        def fetch():
            told["private"] = self.connected(self.user).fetch(key_id, bytes.fromhex(self.keys[key_id])).hex()

        self.done(told, fetch)

    def remove(self):
        key_id = self.pick.choice(list(self.keys))
        if self.done({"does": "remove", "id": key_id}, lambda: self.connected(self.registrar).remove(key_id)):
            del self.keys[key_id]

    def done(self, told, does):
        tell(told | {"state": "begun"})
        try:
            does()
        except MdmError:
            tell(told | {"state": "failed"})
            return False
        tell(told | {"state": "done"})
        return True


def tell(what):
    os.write(1, (json.dumps(what) + "\n").encode())


class Model:
    """What has to be there of each key: True, False, or None where it may be either."""

    def __init__(self):
        self.there, self.private, self.public, self.ended = {}, {}, {}, 0

    def hear(self, told):
        key_id, ended = told["id"], told["state"] != "begun"
        self.ended += ended
        match told["does"], told["state"]:
            case "register", state:
                self.private[key_id], self.public[key_id] = told["private"], told["public"]
                self.there[key_id] = True if state == "done" else None
            case "remove", state:
                if self.there[key_id] is not False:
                    self.there[key_id] = False if state == "done" else None
            case "fetch", "done":
                assert told["private"] == self.private[key_id], "a wrong key"
                assert self.there[key_id] is not False, "a key that was removed"


@pytest.mark.timeout(900)
def test_nothing_is_lost_when_processes_are_killed(tmp_path):
    demo, chance, model = DemoSite(tmp_path), random.Random(20261129), Model()
    demo.write()
    units = {unit.name: unit for unit in demo.units() if unit.name in demo.key_servers}
    demo.processes.start(*units.values())
    user = demo.users["researcher"]
    who = {"config": str(demo.config), "proxy": str(user.certificate), "dn": demo.pki.dn(user)}
    kills = {"server": 0, "client": 0}
    try:
        while model.ended < OPERATIONS:
            known = {key_id: model.public[key_id] for key_id, there in model.there.items() if there}
            (tmp_path / "told.json").write_text(json.dumps(who | {"seed": model.ended, "keys": known}))
            command = [sys.executable, __file__, tmp_path / "told.json"]
            client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for line in client.stdout:
                model.hear(json.loads(line))
                if chance.random() < 1 / 60 and client.poll() is None:
                    name = chance.choice(demo.key_servers)
                    demo.processes.stop(name, signal.SIGKILL)
                    demo.processes.start(units[name])
                    kills["server"] += 1
                if chance.random() < 1 / 150 or model.ended >= OPERATIONS:
                    client.kill()
                    kills["client"] += 1
            client.wait()
        client = Client(demo.config, who["proxy"], who["dn"], 0, {})
        wanted = {key_id: bytes.fromhex(public) for key_id, public in model.public.items()}
        found = client.connected(client.user).fetch_many(wanted)
    finally:
        demo.processes.stop_all()
    for key_id, there in model.there.items():
        if there is not None:
            assert isinstance(found[key_id], bytes) == there, found[key_id]
        if isinstance(found[key_id], bytes):
            assert found[key_id].hex() == model.private[key_id]
    assert min(kills.values()) >= 3, kills
    for name in demo.key_servers:
        for files in segments.logs([tmp_path / name / "audit"]).values():
            assert verify(*files) == []


if __name__ == "__main__":
    told = json.loads(Path(sys.argv[1]).read_text())
    with telemetry.aside():
        Client(**told | {"config": Path(told["config"])}).run()

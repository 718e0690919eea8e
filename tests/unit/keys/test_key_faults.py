"""Random operations while key servers and clients die at any call: nothing is lost, no wrong key returned.

A model knows of each key whether it must be there, must be gone, or may be either, because what was done to
it last was told to have failed. A server dies before or after it has done what it was asked, and comes back
with its database; of a client that dies no call reaches a server any more. Each run of the machine is a new
site; ``MDM_FAULT_RUNS`` says how many runs of `STEPS` there are. ``tests/load`` has ten thousand operations.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from srm_dicom.errors import MdmError
from srm_dicom.rights.acl import Acl

RUNS = int(os.environ.get("MDM_FAULT_RUNS", "3"))
STEPS = 50
ACL = Acl.parse('user:"/DC=test/DC=mdm/CN=alice":g')
NAMES = ("keys1", "keys2", "keys3")
CALLS = (
    "putKeys",
    "getKeys",
    "removeKeys",
    "destroyKeys",
    "dealKeys",
    "takeKeys",
    "adoptKeys",
    "describeKeys",
)

number = st.integers(0, 1000)
name = st.sampled_from(NAMES)
life = st.one_of(st.none(), st.none(), st.integers(0, 12))
"""After how many calls a client dies, if it does."""


@dataclass
class Expected:
    """A key: its halves, whether it is there (None: either), and how many servers have to be up for it."""

    private: bytes
    public: bytes
    there: bool | None
    k: int


class Faults(RuleBasedStateMachine):
    """The site, its model, and what may happen; the three below are given by the test."""

    make_site = alice = registrar = None
    done = 0

    def __init__(self):
        super().__init__()
        shared = Path("/dev/shm")
        self.place = tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)
        self.site = type(self).make_site(Path(self.place.name))
        for server in self.site.servers.values():
            server.serve(*self.site.servers.values())
        self.keys = {}

    def teardown(self):
        self.site.close()
        self.place.cleanup()

    def client(self, caller, life=None):
        return self.site.client(caller, timeout_s=20, life=life)

    @invariant()
    def count(self):
        type(self).done += 1

    def up(self):
        return sum(not server.down for server in self.site.servers.values())

    def one(self, number):
        ids = list(self.keys)
        return (ids[number % len(ids)], self.keys[ids[number % len(ids)]]) if ids else (None, None)

    @rule(name=name)
    def a_server_dies(self, name):
        self.site.servers[name].down = True

    @rule(name=name, operation=st.sampled_from(CALLS), answered=st.booleans())
    def a_server_will_die_at(self, name, operation, answered):
        self.site.servers[name].dies_at(operation, answered=answered)

    @rule()
    def all_servers_come_back(self):
        for server in self.site.servers.values():
            server.down = False

    @rule(k=st.integers(1, 3), life=life)
    def register(self, k, life):
        private = X25519PrivateKey.generate()
        records = self.site.issue(private.private_bytes_raw(), k=k)
        there = True
        try:
            self.client(self.registrar, life).register(records, ACL)
        except MdmError:
            there = None
        charter = records[0].charter
        self.keys[charter.key_id] = Expected(private.private_bytes_raw(), charter.public_key, there, k)

    @rule(number=number)
    def fetch(self, number):
        key_id, key = self.one(number)
        if key is None:
            return
        before = self.up()
        found = self.client(self.alice).fetch_many({key_id: key.public})[key_id]
        if isinstance(found, bytes):
            assert found == key.private
            assert key.there is not False
        elif key.there and before == self.up() >= key.k:
            raise AssertionError(f"a key is lost: {found.message}")

    @rule(number=number, life=life)
    def remove(self, number, life):
        key_id, key = self.one(number)
        if key is None:
            return
        try:
            self.client(self.registrar, life).remove(key_id)
            key.there = False
        except MdmError:
            key.there = False if key.there is False else None

    @rule(number=number, life=life)
    def destroy(self, number, life):
        key_id, key = self.one(number)
        if key is None:
            return
        told = self.client(self.registrar, life).destroy({key_id: key.public})[key_id]
        if told.done:
            key.there = False
        elif key.there and told.confirmed:
            key.there = None

    @rule(number=number, k=st.integers(1, 3), life=life)
    def reshare(self, number, k, life):
        """Whatever becomes of it, the key is there as before, for whoever waits for all servers."""
        key_id, key = self.one(number)
        if key is None:
            return
        urls = [f"https://{name}" for name in NAMES]
        resharer = self.client(self.registrar, life).resharer(urls, k, self.site.signing_key, timeout_s=20)
        try:
            [done] = resharer.reshare({key_id: ACL})
        except MdmError:
            key.k = 3
        else:
            key.k = 3 if done.error or done.left or not done.proven else k


@pytest.mark.timeout(1800)
def test_no_key_is_lost_and_no_wrong_one_is_returned(key_site, alice, registrar):
    given = {"make_site": key_site, "alice": alice, "registrar": registrar}
    machine = type("Given", (Faults,), given)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{machine.done} operations")  # noqa: T201 - the long run wants to know

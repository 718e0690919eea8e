"""What key servers cost: one key, ten thousand keys, and servers that are dead or hang.

    python -m benchmarks.keys [--keys N] [--repeats N]

Every key server is a process of its own with TLS, rights and a durable audit log, all on this machine. A
hung one is stopped by a signal: its port still takes connections. Times are medians of calls on connections
that are kept, but for the first call after a server has died or hung: that one is shown on its own.
"""

import argparse
import json
import os
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.client.http import HttpClient
from srm_dicom.client.keys import KeyServers
from srm_dicom.client.keyserver import Server
from srm_dicom.crypto.keyrecord import issue
from srm_dicom.crypto.signing import trusting
from srm_dicom.rights.acl import Acl
from srm_dicom.testing.pki import TestPki

START_S = 60


class Bench:
    """A registering site, a user, and key servers."""

    def __init__(self, directory: Path, servers: int) -> None:
        self.directory = directory
        self.pki = TestPki(directory / "pki", fast=True)
        self.registrar, self.user = self.pki.user("registrar"), self.pki.user("user")
        self.signing_key = Ed25519PrivateKey.generate()
        self.sites = trusting(self.signing_key.public_key())
        self.processes = [self.start(number) for number in range(servers)]
        self.urls = [self.url(number) for number in range(servers)]

    def start(self, number: int) -> subprocess.Popen[bytes]:
        host = self.pki.host("localhost")
        site = self.signing_key.public_key().public_bytes_raw().hex()
        lines = [
            'role = "keys"',
            f'audit = "{self.directory}/audit{number}"',
            "[trust]",
            f'certificates = "{self.pki.trust_dir}"',
            f'host_certificate = "{host.certificate}"',
            f'host_key = "{host.key}"',
            "[server]",
            f'database = "sqlite://{self.directory}/keys{number}.db"',
            f"sites = {json.dumps([site])}",
            f"creators = {json.dumps([self.pki.dn(self.registrar)])}",
            'host = "127.0.0.1"',
            "port = 0",
        ]
        config = self.directory / f"keys{number}.toml"
        config.write_text("\n".join(lines))
        command = [sys.executable, "-m", "srm_dicom.cli.keyserver", "serve", "--config", str(config)]
        with (self.directory / f"log{number}").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def url(self, number: int) -> str:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            told = (self.directory / f"log{number}").read_text()
            if port := re.search(r'"web_server_started".*"port": (\d+)', told):
                return f"https://localhost:{port[1]}"
            time.sleep(0.05)
        raise TimeoutError(told)

    def client(self, credential, count: int) -> KeyServers:
        return KeyServers(self.urls[:count], credential, sites=self.sites, timeout_s=60)

    def issue(self, k: int, n: int):
        return issue(
            secrets.token_bytes(32),
            k=k,
            n=n,
            valid_until=datetime.now(UTC) + timedelta(days=1),
            signing_key=self.signing_key,
            random_bytes=secrets.token_bytes,
        )

    def register(self, k: int, n: int, count: int) -> tuple[dict[str, bytes], float]:
        keys = [self.issue(k, n) for _ in range(count)]
        acl = Acl.parse(f'user:"{self.pki.dn(self.user)}":gx')
        client = self.client(self.registrar, n)
        spent_s = timed(lambda: client.register_many(keys, acl))
        client.close()
        return {one[0].charter.key_id: one[0].charter.public_key for one in keys}, spent_s

    @contextmanager
    def hung(self, number: int):
        os.kill(self.processes[number].pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.processes[number].pid, signal.SIGCONT)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ms(seconds: float) -> str:
    return f"{seconds * 1000:7.1f} ms"


def median(call, repeats: int) -> float:
    return statistics.median(timed(call) for _ in range(repeats))


def round_trips(bench: Bench, key_id: str, repeats: int) -> float:
    """Show what one server alone takes; returns one answer of it over TLS."""

    def connect(url: str) -> HttpClient:
        return HttpClient(url, bench.user)

    server = Server(bench.urls[0], connect)
    server.call("getVersion")
    idle = median(lambda: server.call("getVersion"), repeats)
    share = median(lambda: server.call("getKeys", [key_id]), repeats)

    def fresh() -> None:
        one = Server(bench.urls[0], connect)
        one.call("getVersion")
        one.close()

    new = median(fresh, max(5, repeats // 4))
    print(f"TLS round trip, nothing done:      {ms(idle)}   (with a new connection {ms(new)})")
    print(f"TLS round trip, one share released:{ms(share)}   (audited on disk before the answer)")
    return share


def fetching(bench: Bench, k: int, n: int, down: dict[str, list[int]], repeats: int) -> float:
    """Show one fetch with all up, then with some down; returns the time with all up."""
    [(key_id, public)] = bench.register(k, n, 1)[0].items()
    client = bench.client(bench.user, n)
    client.fetch(key_id, public)
    up = median(lambda: client.fetch(key_id, public), repeats)
    print(f"{k} of {n}, all up:                     {ms(up)}")
    for name, numbers in down.items():
        client = bench.client(bench.user, n)
        client.fetch(key_id, public)
        with going_down(bench, name, numbers):
            first = timed(lambda client=client: client.fetch(key_id, public))
            later = median(lambda client=client: client.fetch(key_id, public), repeats)
        added = f"adds {ms(later - up)}, at the first call {ms(first - up)}"
        print(f"{k} of {n}, {name + ':':28}{ms(later)}   {added}", flush=True)
    return up


@contextmanager
def going_down(bench: Bench, name: str, numbers: list[int]):
    """Kill the first if one is to be dead, stop the others."""
    dead = numbers[:1] if "dead" in name else []
    for number in dead:
        bench.processes[number].kill()
        bench.processes[number].wait()
    hanging = [number for number in numbers if number not in dead]
    for number in hanging:
        os.kill(bench.processes[number].pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for number in hanging:
            os.kill(bench.processes[number].pid, signal.SIGCONT)
        for number in dead:
            bench.processes[number] = bench.start(number)
            bench.urls[number] = bench.url(number)


def bulk(bench: Bench, count: int) -> None:
    """Register and fetch many keys, in calls of the client's size and in one call to a server."""
    keys, spent_s = bench.register(2, 3, count)
    print(f"register {count} keys, 2 of 3:       {spent_s:7.1f} s    {count / spent_s:7.0f} keys/s")
    client = bench.client(bench.user, 3)
    client.fetch(*next(iter(keys.items())))
    spent_s = timed(lambda: client.fetch_many(keys))
    print(f"fetch {count} keys, 2 of 3:          {spent_s:7.1f} s    {count / spent_s:7.0f} keys/s")
    server = Server(bench.urls[0], lambda url: HttpClient(url, bench.user, timeout_s=60))
    spent_s = timed(lambda: server.call("getKeys", list(keys)))
    print(f"one getKeys of {count} at one server:{spent_s:7.1f} s    {count / spent_s:7.0f} keys/s")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--keys", type=int, default=10_000)
    options.add_argument("--repeats", type=int, default=40)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), 5)
        try:
            [key_id] = bench.register(2, 3, 1)[0]
            share = round_trips(bench, key_id, chosen.repeats)
            up = fetching(bench, 2, 3, {"one dead": [0], "one hung": [1]}, chosen.repeats)
            print(f"one fetch is {up / share:.1f} of a TLS round trip that releases one share")
            fetching(bench, 3, 5, {"one dead, one hung": [0, 1]}, chosen.repeats)
            bulk(bench, chosen.keys)
        finally:
            bench.stop()


if __name__ == "__main__":
    main()

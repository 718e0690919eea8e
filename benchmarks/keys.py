"""What key servers cost: one key, ten thousand keys, and servers that are dead or hang.

    python -m benchmarks.keys [--keys N] [--repeats N]

Every key server is a process of its own with TLS, rights and a durable audit log, all on this machine. A
hung one is stopped by a signal: its port still takes connections. Times are medians; what is compared is
measured in turns. The measure of a fetch is one TLS round trip to one of the same servers: the smallest call
there is (getVersion), on a connection that is kept; for a first fetch the same with its handshake. It is
measured twice: with the servers beside the client, and as far away as ``--away-ms`` tells, because key
servers of one site stand on hosts of their own. A share is released when the disk has the audit's event, for
which two servers of one fetch wait here at the same disk: what one such write takes is shown beside. Of many
keys the processor time of client and servers is shown too: it depends less on who else is on the machine.
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
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks._distance import apart
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

    @contextmanager
    def apart(self, round_trip_s: float):
        """Have the servers some way off."""
        here = self.urls
        with apart([urlsplit(url).port for url in here], round_trip_s) as ports:
            self.urls = [f"https://localhost:{port}" for port in ports]
            try:
                yield
            finally:
                self.urls = here

    def issue(self, k: int, n: int):
        return issue(
            secrets.token_bytes(32),
            k=k,
            n=n,
            valid_until=datetime.now(UTC) + timedelta(days=1),
            signing_key=self.signing_key,
            random_bytes=secrets.token_bytes,
        )

    def register(self, k: int, n: int, count: int) -> dict[str, bytes]:
        keys = [self.issue(k, n) for _ in range(count)]
        acl = Acl.parse(f'user:"{self.pki.dn(self.user)}":gx')
        client = self.client(self.registrar, n)
        client.register_many(keys, acl)
        client.close()
        return {one[0].charter.key_id: one[0].charter.public_key for one in keys}

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


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Call all in turns; returns the median of each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(timed(call))
    return {name: statistics.median(some) for name, some in times.items()}


def median(call, repeats: int) -> float:
    return medians({"": call}, repeats)[""]


def single(bench: Bench, repeats: int) -> None:
    """Show one fetch of 2 of 3 beside one TLS round trip to one of the servers."""
    [(key_id, public)] = bench.register(2, 3, 1).items()

    def connect(url: str) -> HttpClient:
        return HttpClient(url, bench.user)

    def first_call() -> None:
        one = Server(bench.urls[0], connect)
        one.call("getVersion")
        one.close()

    def first_fetch() -> None:
        one = bench.client(bench.user, 3)
        one.fetch(key_id, public)
        one.close()

    def event() -> None:
        disk.write(b"an event of the audit".ljust(500))
        os.fsync(disk.fileno())

    server, client = Server(bench.urls[0], connect), bench.client(bench.user, 3)
    client.fetch(key_id, public)
    disk = (bench.directory / "disk").open("wb", buffering=0)
    kept = medians(
        {
            "call": lambda: server.call("getVersion"),
            "share": lambda: server.call("getKeys", [key_id]),
            "fetch": lambda: client.fetch(key_id, public),
            "disk": event,
        },
        repeats,
    )
    disk.close()
    new = medians({"call": first_call, "fetch": first_fetch}, max(5, repeats // 4))
    server.close()
    client.close()
    call = kept["call"]
    print(f"TLS round trip, nothing done:       {ms(call)}")
    print(f"TLS round trip, one share released: {ms(kept['share'])}   {kept['share'] / call:.1f} of it")
    print(f"fetch, 2 of 3:                      {ms(kept['fetch'])}   {kept['fetch'] / call:.1f} of it")
    print(f"one event written to the disk:      {ms(kept['disk'])}")
    print(f"TLS round trip with its handshake:  {ms(new['call'])}")
    print(f"first fetch, 2 of 3:                {ms(new['fetch'])}   {new['fetch'] / new['call']:.1f} of it")


def fetching(bench: Bench, k: int, n: int, down: dict[str, list[int]], repeats: int, rounds: int = 5) -> None:
    """Show one fetch with all up, then with some down: the first call that meets it, and later ones."""
    [(key_id, public)] = bench.register(k, n, 1).items()
    client = bench.client(bench.user, n)
    client.fetch(key_id, public)
    up = median(lambda: client.fetch(key_id, public), repeats)
    print(f"{k} of {n}, all up:                     {ms(up)}")
    for name, numbers in down.items():
        first, later = [], []
        for _ in range(rounds):
            client = bench.client(bench.user, n)
            client.fetch(key_id, public)
            time.sleep(0.2)  # all connections of the first call are made
            with going_down(bench, name, numbers):
                first.append(timed(lambda client=client: client.fetch(key_id, public)))
                later += [
                    timed(lambda client=client: client.fetch(key_id, public))
                    for _ in range(repeats // rounds)
                ]
            client.close()
        added = [ms(some - up) for some in (statistics.median(first), max(first), statistics.median(later))]
        print(
            f"{k} of {n}, {name + ':':20} first call adds {added[0]} (worst {added[1]}),"
            f" later ones {added[2]}",
            flush=True,
        )


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


def cpu_s(bench: Bench) -> list[float]:
    """Return the processor time so far: of this process, then of each server."""
    ticks = [
        sum(map(int, Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        for one in bench.processes
    ]
    return [time.process_time(), *(count / os.sysconf("SC_CLK_TCK") for count in ticks)]


def paced(bench: Bench, what: str, count: int, call) -> None:
    """Show how many keys a second, and what each has cost the client and all servers together."""
    before = cpu_s(bench)
    spent_s = timed(call)
    client, *servers = (after - one for after, one in zip(cpu_s(bench), before, strict=True))
    each = f"{client / count * 1e6:5.0f} us a key here, {sum(servers) / count * 1e6:5.0f} us in the servers"
    print(f"{what:36}{count / spent_s:7.0f} keys/s   {each}", flush=True)


def bulk(bench: Bench, count: int, repeats: int = 3) -> None:
    """Register and fetch many keys, in calls of the client's size and in one call to a server."""
    issued = [bench.issue(2, 3) for _ in range(count)]
    acl, registrar = Acl.parse(f'user:"{bench.pki.dn(bench.user)}":gx'), bench.client(bench.registrar, 3)
    paced(bench, f"register {count} keys, 2 of 3:", count, lambda: registrar.register_many(issued, acl))
    keys = {one[0].charter.key_id: one[0].charter.public_key for one in issued}
    client = bench.client(bench.user, 3)
    client.fetch(*next(iter(keys.items())))
    found: dict[str, object] = {}
    for _ in range(repeats):
        found.clear()
        paced(bench, f"fetch {count} keys, 2 of 3:", count, lambda: found.update(client.fetch_many(keys)))
        assert all(isinstance(key, bytes) for key in found.values())
    server = Server(bench.urls[0], lambda url: HttpClient(url, bench.user, timeout_s=60))
    paced(bench, f"one getKeys of {count}, one server:", count, lambda: server.call("getKeys", list(keys)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--keys", type=int, default=10_000)
    options.add_argument("--repeats", type=int, default=40)
    options.add_argument("--away-ms", type=float, default=1.0, help="round trip to servers that are apart")
    options.add_argument("--only", choices=["single", "faults", "bulk"], action="append")
    chosen = options.parse_args()
    wanted = chosen.only or ["single", "faults", "bulk"]
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), 5)
        try:
            if "single" in wanted:
                print("the servers beside the client:")
                single(bench, chosen.repeats)
                print(f"the servers {chosen.away_ms:g} ms away, there and back:")
                with bench.apart(chosen.away_ms / 1000):
                    single(bench, chosen.repeats)
            if "bulk" in wanted:
                bulk(bench, chosen.keys)
            if "faults" in wanted:
                fetching(bench, 2, 3, {"one dead": [0], "one hung": [1]}, chosen.repeats)
                fetching(bench, 3, 5, {"one dead, one hung": [0, 1]}, chosen.repeats)
        finally:
            bench.stop()


if __name__ == "__main__":
    main()

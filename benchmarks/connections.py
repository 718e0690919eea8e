"""What a thousand idle or hostile connections do to an honest request (ADR 0001).

For our server, and for cheroot (if it is installed) with its TLS handshake deferred to its workers, two
servers run in processes of their own: one quiet, one that a third process keeps loaded. Honest requests
(new connection, full handshake with a proxy, one POST) alternate between them; the medians, their
ratio and the slowest are printed. Loopback only.

    python -m benchmarks.connections [--peers N] [--rounds N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import select
import socket
import ssl
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

from srm_dicom.clock import SystemClock
from srm_dicom.identity.credential import Credential, HostCredential
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.telemetry import configure
from srm_dicom.testing.pki import TestPki
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer

HANDSHAKE_S = 10.0
HONEST_S = 20.0
PAUSE_S = 0.2
HEADINGS = ("server", "peers", "0 peers", "loaded", "ratio", "slowest", "failed", "a peer")
KINDS = ("connected, silent", "handshake done, silent", "one byte of a header a second")

processes = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Site:
    host: HostCredential
    user: Credential


def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok" if body == b"hello" else b"no"]


# --- the servers, each in a process of its own ---------------------------------------------------------


def serve_ours(site: Site, told: Connection, _threads: int) -> None:
    configure("benchmark", level=50)
    gate = Gate(TrustSettings(site.user.trust), site.host, SystemClock())
    limits = Limits(handshake_s=HANDSHAKE_S, head_s=HANDSHAKE_S)
    server = WebServer(app, gate, host="localhost", port=0, limits=limits, name="benchmark")
    server.start()
    told.send(server.port)
    told.recv()


def serve_cheroot(site: Site, told: Connection, threads: int) -> None:
    from cheroot.server import HTTPConnection  # noqa: PLC0415 - not a dependency
    from cheroot.ssl.builtin import BuiltinSSLAdapter  # noqa: PLC0415
    from cheroot.wsgi import Server  # noqa: PLC0415

    gate = Gate(TrustSettings(site.user.trust), site.host, SystemClock())

    class Deferred(BuiltinSSLAdapter):
        def wrap(self, sock):
            context = gate.server_context()
            return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), {}

    class InWorker(HTTPConnection):
        identified = False

        def communicate(self):
            if not self.identified:
                try:
                    self.socket.settimeout(HANDSHAKE_S)
                    self.socket.do_handshake()
                    gate.identify(self.socket)
                except OSError:
                    return False
                self.identified = True
                return True  # to the selector, until there is a request
            return super().communicate()

    server = Server(("localhost", 0), app, numthreads=threads, request_queue_size=1024, timeout=HANDSHAKE_S)
    server.ssl_adapter = Deferred(str(site.host.certificate), str(site.host.key))
    server.ConnectionClass = InWorker
    server.error_log = lambda *_arguments, **_options: None
    server.prepare()
    threading.Thread(target=server.serve, daemon=True).start()
    told.send(server.bind_addr[1])
    told.recv()


@contextmanager
def child(target: Callable[..., None], *arguments: object) -> Iterator[tuple[Connection, int]]:
    """Run a process that reports when it is ready and ends when it is told to; yield its pipe and its id."""
    here, there = processes.Pipe()
    process = processes.Process(target=target, args=(arguments[0], there, *arguments[1:]), daemon=True)
    process.start()
    try:
        yield here, process.pid or 0
    finally:
        here.send("end")
        process.join(5)
        process.kill()
        process.join()


# --- the load ------------------------------------------------------------------------------------------


def load(site: Site, told: Connection, port: int, kind: str, peers: int) -> None:
    """Keep `peers` connections of one kind open, replacing those that the server closes."""
    raise_descriptor_limit()
    context = site.user.client_context()
    open_ones = [opened(port, kind, context) for _ in range(peers)]
    told.send("ready")
    while not told.poll(1.0):
        poll = select.poll()
        for sock in open_ones:
            poll.register(sock, select.POLLIN)
        ended = {descriptor for descriptor, _ in poll.poll(0)}
        for index, sock in enumerate(open_ones):
            if sock.fileno() in ended:
                sock.close()
                open_ones[index] = opened(port, kind, context)
            elif kind == KINDS[2]:
                with suppress(OSError):
                    sock.send(b"x")


def opened(port: int, kind: str, context: ssl.SSLContext) -> socket.socket:
    sock = socket.create_connection(("localhost", port))
    if kind == KINDS[0]:
        return sock
    sock.settimeout(HONEST_S)
    with suppress(OSError):
        sock = context.wrap_socket(sock, server_hostname="localhost")
        if kind == KINDS[2]:
            sock.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nX: ")
    return sock


# --- the honest client -----------------------------------------------------------------------------------


def honest_s(port: int, context: ssl.SSLContext) -> float:
    """Return the seconds of one request on a new connection, `HONEST_S` where none was answered in time."""
    started_s = time.perf_counter()
    request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
    try:
        with socket.create_connection(("localhost", port), timeout=HONEST_S) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(sock, server_hostname="localhost") as tls:
                tls.sendall(request)
                answered = b"200 OK" in tls.recv(65536)
    except OSError:
        answered = False
    return time.perf_counter() - started_s if answered else HONEST_S


def compare(site: Site, serve: Callable[..., None], threads: int, kind: str, peers: int, rounds: int) -> str:
    context = site.user.client_context()
    with child(serve, site, threads) as (quiet, _), child(serve, site, threads) as (busy, busy_id):
        ports = {"quiet": quiet.recv(), "busy": busy.recv()}
        before_kb = resident_kb(busy_id)
        with child(load, site, ports["busy"], kind, peers) as (loading, _):
            if not loading.poll(120):
                return "the load could not be built up: the server took no more handshakes"
            loading.recv()
            each_kb = (resident_kb(busy_id) - before_kb) / peers
            times = measured(ports, context, rounds)
    quiet_s, busy_s = (statistics.median(times[name]) for name in ("quiet", "busy"))
    failed = sum(taken >= HONEST_S for taken in times["busy"])
    return (
        f"{quiet_s * 1e3:8.1f} ms {busy_s * 1e3:8.1f} ms {busy_s / quiet_s:9.2f} {max(times['busy']):8.2f} s"
        f" {failed:4d} of {len(times['busy'])} {each_kb:7.0f} KB"
    )


def measured(ports: dict[str, int], context: ssl.SSLContext, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ports}
    for number in range(rounds):
        for name in sorted(ports, reverse=bool(number % 2)):  # neither is always the one after the pause
            times[name].append(honest_s(ports[name], context))
        time.sleep(PAUSE_S)
        if sum(taken >= HONEST_S for taken in times["busy"]) >= 3:
            break  # it is clear by now
    return times


def resident_kb(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def thread_start_us() -> float:
    """Return what starting the thread of a connection costs."""
    times = []
    for _ in range(500):
        thread = threading.Thread(target=int)
        started_s = time.perf_counter()
        thread.start()
        times.append(time.perf_counter() - started_s)
        thread.join()
    return statistics.median(times) * 1e6


def raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--peers", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=60)
    chosen = options.parse_args()
    raise_descriptor_limit()
    servers: list[tuple[str, Callable[..., None], int]] = [("ours", serve_ours, 0)]
    if find_spec("cheroot"):
        servers += [(f"cheroot, {n} threads", serve_cheroot, n) for n in (30, chosen.peers + 50)]
    else:
        print("cheroot is not installed: our server alone")
    print(f"starting a thread: {thread_start_us():.0f} us; {chosen.peers} peers, {chosen.rounds} rounds")
    print("{:20s} {:30s} {:>11s} {:>11s} {:>9s} {:>10s} {:>10s} {:>10s}".format(*HEADINGS))
    with tempfile.TemporaryDirectory() as directory:
        pki = TestPki(Path(directory))
        site = Site(pki.host(), pki.proxy(pki.user("alice")))
        for name, serve, threads in servers:
            for kind in KINDS:
                row = compare(site, serve, threads, kind, chosen.peers, chosen.rounds)
                print(f"{name:20s} {kind:30s} {row}", flush=True)


if __name__ == "__main__":
    main()

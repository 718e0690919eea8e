"""The HTTPS door beside nginx, OpenSSL's s_server and our own GridFTP door with private data channels.

    python -m benchmarks.webdav [--megabytes 256] [--files 200] [--repeats 5] [--only TEXT]

Same files (in /dev/shm, so that no disk is measured), interleaved runs, medians: wall seconds of the client,
the ratio of ours to the peer in the same run (below 1: ours is faster), CPU seconds of the server. All
servers verify the client's certificate; the https ones are asked by the same curl. A peer that is not
installed is left out; at least one https server other than ours has to be there.
"""

import argparse
import logging
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks._clients import seconds_of
from benchmarks.transfer import AnyPath, cpu_s, make_files
from benchmarks.transfer import start_ours as start_gridftp
from srm_dicom import telemetry
from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.ports import free_port
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.web.server import WebServer

PATH = f"/usr/bin:/bin:/usr/sbin:/sbin:{os.environ.get('PATH', '')}"
START_S = 10
OURS = "srm-dicom https"
NGINX = """
daemon off; worker_processes 1; pid {base}/nginx.pid; error_log {base}/nginx.log crit;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; keepalive_requests 100000;
  client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3;
  uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
  server {{
    listen 127.0.0.1:{port} ssl; root /;
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    ssl_verify_client on; ssl_client_certificate {base}/authorities.pem; ssl_verify_depth 5;
  }}
}}
"""


@dataclass(frozen=True)
class Peer:
    """A running server: its process, what a URL of it begins with, and the client that asks it."""

    pid: int
    url: str
    curl: bool = True
    keeps: bool = True


def serve(base, ready):
    telemetry.configure("transfer", level=logging.WARNING)
    pki = TestPki(base / "pki")
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    door = WebDavDoor(AnyPath(base / "files", checksums=False))
    server = WebServer(door, gate, host="127.0.0.1", port=0, name="webdav")
    server.start()
    ready.put(server.port)
    time.sleep(86400)


def start_ours(base, stack):
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=serve, args=(base, ready), daemon=True)
    process.start()
    stack.callback(process.terminate)
    return Peer(process.pid, f"https://localhost:{ready.get(timeout=30)}{base}/files")


def start(command, port, stack, **options):
    """Start a foreign server and wait until it listens."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)
    stack.callback(process.wait, START_S)
    stack.callback(process.terminate)
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return process.pid
        time.sleep(0.05)
    sys.exit(f"{command[0]} does not listen")


def start_nginx(base, pki, stack):
    program, port, host = shutil.which("nginx", path=PATH), free_port(), pki.host()
    authorities = b"".join(path.read_bytes() for path in sorted(pki.trust_dir.glob("*.0")))
    (base / "authorities.pem").write_bytes(authorities)
    configuration = NGINX.format(base=base, port=port, certificate=host.certificate, key=host.key)
    (base / "nginx.conf").write_text(f"user root;{configuration}" if os.getuid() == 0 else configuration)
    pid = start([program, "-p", str(base), "-c", str(base / "nginx.conf")], port, stack)
    return Peer(pid, f"https://localhost:{port}{base}/files")


def start_openssl(base, pki, stack):
    port, host = free_port(), pki.host()
    credential = ("-cert", host.certificate, "-key", host.key, "-CApath", pki.trust_dir)
    command = ["openssl", "s_server", "-WWW", "-quiet", "-accept", f"127.0.0.1:{port}", "-Verify", "5"]
    pid = start([*command, *map(str, credential)], port, stack, cwd=base / "files", stderr=subprocess.DEVNULL)
    return Peer(pid, f"https://localhost:{port}", keeps=False)


def peers(base, pki, stack):
    """Start every server that can be measured here."""
    found = {OURS: start_ours(base, stack)}
    if shutil.which("nginx", path=PATH):
        found["nginx"] = start_nginx(base, pki, stack)
    if shutil.which("openssl", path=PATH):
        found["openssl s_server"] = start_openssl(base, pki, stack)
    if len(found) < 2:
        sys.exit("neither nginx nor openssl is installed")
    if shutil.which("globus-url-copy", path=PATH):
        pid, port, stop = start_gridftp(base)
        stack.callback(stop)
        found["srm-dicom gsiftp"] = Peer(pid, f"gsiftp://localhost:{port}{base}/files", curl=False)
    return found


def cpu_of(pid):
    """CPU seconds of a process and its children so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_s(pid) + sum(cpu_s(int(child)) for child in children)


def command_for(workload, peer, base, pki, files):
    """The client's command line; None where the peer cannot do the workload."""
    out = base / "out"
    if not peer.curl:
        options = ("-dcpriv", f"{peer.url}/large", f"file://{out}/large")
        return [shutil.which("globus-url-copy", path=PATH), *options] if workload == "large" else None
    user = pki.user("Alice")
    curl = ["curl", "-sSf", "--capath", pki.trust_dir, "-E", user.certificate, "--key", user.key]
    if workload == "large":
        return [*curl, "-o", out / "large", f"{peer.url}/large"]
    wanted = f"{peer.url}/small/f[0-{files - 1}]"
    return [*curl, "-o", f"{out}/f#1", wanted] if peer.keeps else None


def measure(command, environment, peer, out):
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    cpu = cpu_of(peer.pid)
    wall = seconds_of(command, environment, 120)
    return wall, cpu_of(peer.pid) - cpu


def report(workload, found, base, pki, options):
    commands = {name: command_for(workload, peer, base, pki, options.files) for name, peer in found.items()}
    commands = {name: command for name, command in commands.items() if command}
    environment = {"PATH": PATH, "HOME": str(base), **pki.environment(pki.proxy(pki.user("Alice")))}
    runs = {name: [] for name in commands}
    for _ in range(options.repeats):
        for name, command in commands.items():
            runs[name].append(measure(command, environment, found[name], base / "out"))
    walls = {name: statistics.median(wall for wall, _ in pairs) for name, pairs in runs.items()}
    for name, pairs in runs.items():
        cpu = statistics.median(cpu for _, cpu in pairs)
        print(f"{workload:<8} {name:<18} {walls[name]:8.3f} {walls[OURS] / walls[name]:6.2f} {cpu:8.2f}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory, ExitStack() as stack:
        base = Path(directory)
        pki = TestPki(base / "pki")
        make_files(base, options.megabytes, options.files)
        found = peers(base, pki, stack)
        print(f"{'workload':<8} {'server':<18} {'wall s':>8} {'ratio':>6} {'cpu s':>8}")
        for workload in ("large", "small"):
            if options.only in workload:
                report(workload, found, base, pki, options)


if __name__ == "__main__":
    main()

"""The GridFTP door beside a globus-gridftp-server: same files, same client, interleaved runs, medians.

    python -m benchmarks.transfer [--megabytes 1024] [--files 1000] [--repeats 7] [--only TEXT]

Files lie in /dev/shm, so that no disk is measured. Prints medians of the client's wall seconds, the median of
the ratios to the run of Globus just before (below 1 is faster), and CPU seconds of the server for each GiB;
at the end the median and the worst of the ratios. A login is what one small file takes beyond its bytes.
The client works for one transfer at a time: the processor time that it spends itself with ours, as a part of
what it takes with Globus, is the ratio that a server would have which took no time at all ("bound").
"""

import argparse
import logging
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks._clients import seconds_of
from srm_dicom import telemetry
from srm_dicom.clock import SystemClock
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.ports import free_port
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
WORKLOADS = {
    "large -nodcau": "-nodcau {url}/large file://{out}/large",
    "large": "{url}/large file://{out}/large",
    "large -p 4": "-p 4 {url}/large file://{out}/large",
    "large -dcpriv": "-dcpriv {url}/large file://{out}/large",
    "large -p 4 -dcpriv": "-p 4 -dcpriv {url}/large file://{out}/large",
    "login": "-nodcau {url}/small/f0 file://{out}/f0",
    "many -nodcau": "-nodcau -cd -r {url}/small/ file://{out}/",
    "many": "-cd -r {url}/small/ file://{out}/",
    "many -dcpriv": "-dcpriv -cd -r {url}/small/ file://{out}/",
    "many -pp": "-pp -cd -r {url}/small/ file://{out}/",
}


class AnyPath(DirectoryFiles):
    """The directory under its own absolute name, so that both servers have the same paths."""

    def _local(self, path):
        return path


def serve(base, ready):
    telemetry.configure("transfer", level=logging.WARNING)
    pki = TestPki(base / "pki")
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    settings = GridFtpSettings(port=0, data_ports=(0, 0))
    door = GridFtpDoor(AnyPath(base / "files", checksums=False), gate, settings, SystemClock())
    door.start()
    ready.put(door.port)
    time.sleep(86400)


def start_ours(base):
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=serve, args=(base, ready), daemon=True)
    process.start()
    return process.pid, ready.get(timeout=30), process.terminate


def start_globus(base, pki, user):
    host = pki.host()
    (base / "gridmap").write_text(f'"{pki.dn(user)}" {os.environ.get("USER", "root")}\n')
    port = free_port()
    environment = {
        "PATH": PATH,
        "X509_CERT_DIR": str(pki.trust_dir),
        "X509_USER_CERT": str(host.certificate),
        "X509_USER_KEY": str(host.key),
        "GRIDMAP": str(base / "gridmap"),
    }
    program = shutil.which("globus-gridftp-server", path=PATH)
    process = subprocess.Popen(
        [
            *(program, "-allow-root", "-p", str(port), "-control-interface", "127.0.0.1"),
            *("-data-interface", "127.0.0.1", "-log-level", "ERROR", "-logfile", str(base / "log")),
        ],
        env=environment,
    )
    time.sleep(1)
    return process.pid, port, process.terminate


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def clients_s():
    """Return the processor time of all clients that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Run(NamedTuple):
    """Seconds of one transfer: all of it, and of the processor for server and client."""

    wall: float
    server: float
    client: float


def measure(command, environment, pid, out):
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    cpu, clients = cpu_s(pid), clients_s()
    wall = seconds_of([shutil.which("globus-url-copy", path=PATH), *command.split()], environment, 300)
    client = clients_s() - clients
    time.sleep(0.3)  # until a forked server has been waited for
    return Run(wall, cpu_s(pid) - cpu, client)


def make_files(base, megabytes, count):
    (base / "files" / "small").mkdir(parents=True)
    block = os.urandom(1 << 20)
    with (base / "files" / "large").open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
    for number in range(count):
        (base / "files" / "small" / f"f{number}").write_bytes(block[: 512 * 1024])


def run(base, options):
    pki = TestPki(base / "pki")
    pki.host()
    user = pki.user("Alice")
    environment = {"PATH": PATH, "HOME": str(base), **pki.environment(pki.proxy(user))}
    make_files(base, options.megabytes, options.files)
    servers = {"globus": start_globus(base, pki, user), "srm-dicom": start_ours(base)}
    try:
        head = f"{'workload':<20} {'globus s':>9} {'ours s':>9} {'ratio':>6} {'bound':>6}"
        print(f"{head} {'CPU s a GiB':>12} {'ours':>7}")
        chosen = {name: template for name, template in WORKLOADS.items() if options.only in name}
        ratios = {
            name: report(name, template, servers, environment, base, options)
            for name, template in chosen.items()
        }
        transfers = [ratio for name, ratio in ratios.items() if name != "login"]
        if transfers:
            print(f"transfers: median {statistics.median(transfers):.2f}, worst {max(transfers):.2f}")
    finally:
        for _, _, stop in servers.values():
            stop()


def gibibytes(name, options):
    """What a workload moves."""
    if name == "login":
        return 512 / 2**20
    return options.megabytes / 1024 if name.startswith("large") else options.files * 512 / 2**20


def report(name, template, servers, environment, base, options):
    runs = {server: [] for server in servers}
    for _ in range(options.repeats):
        for server, (pid, port, _) in servers.items():
            url = f"gsiftp://localhost:{port}{base}/files"
            command = template.format(url=url, out=base / "out")
            runs[server].append(measure(command, environment, pid, base / "out"))
    walls = {server: statistics.median(one.wall for one in some) for server, some in runs.items()}
    cpus = {
        server: statistics.median(one.server for one in some) / gibibytes(name, options)
        for server, some in runs.items()
    }
    pairs = list(zip(runs["srm-dicom"], runs["globus"], strict=True))
    ratio = statistics.median(ours.wall / theirs.wall for ours, theirs in pairs)
    bound = statistics.median(ours.client / theirs.wall for ours, theirs in pairs)
    print(
        f"{name:<20} {walls['globus']:9.3f} {walls['srm-dicom']:9.3f} {ratio:6.2f} {bound:6.2f} "
        f"{cpus['globus']:12.2f} {cpus['srm-dicom']:7.2f}",
        flush=True,
    )
    return ratio


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        run(Path(directory), parser.parse_args())


if __name__ == "__main__":
    main()

"""Getting many small files, staged before: `mdm get` beside gfal-copy, which takes one after the other.

    python -m benchmarks.get [--files 200] [--kilobytes 512] [--peer-files 40] [--repeats 3]

A whole site over a directory of files, every service a process of its own, all on this machine. gfal-copy
(gfal2-util, Debian's) copies ciphertext to the same disk in one process from a list; `mdm get` verifies
each file against its manifest and opens it too. Prints files per second, medians.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._clients import seconds_of
from srm_dicom.client.library import Client
from srm_dicom.demo.site import DemoSite

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
EVERYTHING = "FILE is not null"
PEER_S = 180


def make_site(base, options):
    data = base / "data"
    data.mkdir()
    generator = random.Random(1)
    for number in range(options.files):
        (data / f"f{number}.bin").write_bytes(generator.randbytes(options.kilobytes * 1024))
    disk = {"plugin": "disk", "projects": ["demo"], "settings": {"root": str(data)}}
    site = DemoSite(base / "site", plugins={"disk": disk})
    site.write()
    site.start()
    command = [sys.executable, "-m", "srm_dicom.cli.admin", "register", "--plugin", "disk", "**/*.bin"]
    environment = {**os.environ, "SRM_DICOM_CONFIG": str(site.config)}
    subprocess.run(command, env=environment, check=True, timeout=120, stdout=subprocess.DEVNULL)
    site.describe({})
    return site


def by_library(site, base, **options):
    out = base / "out"
    shutil.rmtree(out, ignore_errors=True)
    begun = time.perf_counter()
    with Client(site.description, site.users["researcher"]) as client:
        results = list(client.get([EVERYTHING], out, **options))
    seconds = time.perf_counter() - begun
    failed = [got.error for got in results if got.error]
    if failed:
        raise failed[0]
    return len(results) / seconds


def by_command(site, base):
    out = base / "out"
    shutil.rmtree(out, ignore_errors=True)
    environment = {
        **os.environ,
        "MDM_SITE": str(site.directory / "site.json"),
        "X509_USER_PROXY": str(site.users["researcher"].certificate),
        "X509_CERT_DIR": str(site.pki.trust_dir),
    }
    command = [sys.executable, "-m", "srm_dicom.cli.user", "get", EVERYTHING, "-o", str(out)]
    seconds = seconds_of(command, environment, PEER_S)
    return len(list(out.iterdir())) / seconds


def by_gfal(site, base, count):
    """Copy with one gfal-copy."""
    out = base / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    with Client(site.description, site.users["researcher"]) as client:
        surls = [record.surls[0] for record in client.resolve([EVERYTHING])[:count]]
    (base / "list").write_text("\n".join(surls) + "\n")
    environment = {
        "PATH": PATH,
        "HOME": str(base),
        **site.pki.environment(site.users["researcher"]),
    }
    command = [shutil.which("gfal-copy", path=PATH), "-f", "--from-file", str(base / "list"), f"file://{out}"]
    seconds = seconds_of(command, environment, PEER_S)
    if len(list(out.iterdir())) != count:
        raise RuntimeError("gfal-copy did not copy everything")
    return count / seconds


def run(base, options):
    site = make_site(base, options)
    try:
        by_library(site, base, sealed=True)  # stages everything
        ways = {
            "library, sealed, -j 4": lambda: by_library(site, base, sealed=True),
            "library, opened, -j 1": lambda: by_library(site, base, transfers=1),
            "library, opened, -j 4": lambda: by_library(site, base),
            "mdm get, opened, -j 4": lambda: by_command(site, base),
        }
        if shutil.which("gfal-copy", path=PATH):
            ways["gfal-copy, sealed"] = lambda: by_gfal(site, base, min(options.peer_files, options.files))
        else:
            print("gfal-copy is not installed")
        rates = {name: [] for name in ways}
        for _ in range(options.repeats):
            for name, way in ways.items():
                rates[name].append(way())
        print(f"{options.files} files of {options.kilobytes} KiB, staged; {os.cpu_count()} cores")
        for name, values in rates.items():
            rate = statistics.median(values)
            print(f"{name:<24} {rate:8.1f} files/s {rate * options.kilobytes / 1024:8.1f} MiB/s", flush=True)
    finally:
        site.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--kilobytes", type=int, default=512)
    parser.add_argument("--peer-files", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    with tempfile.TemporaryDirectory() as directory:
        run(Path(directory), parser.parse_args())


if __name__ == "__main__":
    main()

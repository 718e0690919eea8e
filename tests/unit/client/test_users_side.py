"""What users do, on a whole site over a directory of files: many at once, interrupted, refused, in parts."""

import io
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from srm_dicom.client.library import Client
from srm_dicom.client.staging import Watcher
from srm_dicom.demo.site import DemoSite
from srm_dicom.errors import InvalidRequest, NotAuthorised, NotFound, RequestExpired

pytestmark = pytest.mark.timeout(240)
SMALL = 60
LARGE = 3
LARGE_BYTES = 48 * 1024 * 1024
SERIES = 12
SERIES_BYTES = 10 * 1024 * 1024
INTERRUPTED = 130


class Site:
    """A demo site over a directory, and its users' commands."""

    def __init__(self, directory):
        self.data = directory / "data"
        self.demo = DemoSite(directory / "site", plugins={"disk": self._plugin()})
        self._fill()
        self.demo.write()

    def start(self):
        """Start it and register what it has."""
        self.demo.start()
        environment = {**os.environ, "SRM_DICOM_CONFIG": str(self.demo.config)}
        command = [sys.executable, "-m", "srm_dicom.cli.admin", "register", "--plugin", "disk", "**/*.bin"]
        done = subprocess.run(
            command, env=environment, check=False, timeout=240, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.demo.describe({})
        with self.client() as client:
            self.root = next(iter(self.named(client, "small"))).lfn.rpartition("/small/")[0]

    def _plugin(self):
        return {"plugin": "disk", "projects": ["demo"], "settings": {"root": str(self.data)}}

    def _fill(self):
        generator = random.Random(1)
        for number in range(SMALL):
            path = self.data / "small" / f"{number % 3}" / f"s{number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(generator.randbytes(generator.randrange(1, 300_000)))
        for twin in ("a", "b"):
            (self.data / "twins" / twin).mkdir(parents=True)
            (self.data / "twins" / twin / "t.bin").write_text(twin)
        (self.data / "large").mkdir()
        for number in range(LARGE):
            (self.data / "large" / f"l{number}.bin").write_bytes(generator.randbytes(LARGE_BYTES))
        for directory, size in (("series", SERIES_BYTES), ("lossy", 1000)):
            (self.data / directory).mkdir()
            for number in range(SERIES):
                (self.data / directory / f"s{number:02d}.bin").write_bytes(generator.randbytes(size))

    def client(self, user="researcher"):
        return Client(self.demo.description, self.demo.users[user])

    def named(self, client, part):
        return [record for record in client.resolve(["FILE is not null"]) if f"/{part}/" in record.lfn]

    def mdm(self, *command, user="researcher", **more):
        environment = {
            **os.environ,
            "MDM_SITE": str(self.demo.directory / "site.json"),
            "X509_USER_PROXY": str(self.demo.users[user].certificate),
            "X509_CERT_DIR": str(self.demo.pki.trust_dir),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "srm_dicom.cli.user", *map(str, command)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
        )  # fmt: skip

    def done(self, *command, user="researcher", expect=0):
        process = self.mdm(*command, user=user)
        out, err = process.communicate(timeout=120)
        assert process.returncode == expect, err.decode()
        return out, err.decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("users"))
    try:
        site.start()
        yield site
    finally:
        site.demo.stop()


def same(copy, original):
    return copy.read_bytes() == original.read_bytes()


def test_a_directory_comes_with_its_names_many_at_once(site, tmp_path):
    threads, asked = set(), set()
    watcher = Watcher(
        waiting=lambda request: asked.update(file.surl for file in request.files),
        fetching=lambda *_: threads.add(threading.current_thread().name),
    )
    with site.client() as client:
        results = list(client.get([f"{site.root}/small"], tmp_path, watcher=watcher))
        again = list(client.get([f"{site.root}/small"], tmp_path, watcher=watcher))
    assert len(results) == SMALL
    assert [got.error for got in results if got.error] == []
    for original in (site.data / "small").rglob("*.bin"):
        assert same(tmp_path / original.relative_to(site.data / "small"), original)
    assert len(threads) > 1
    assert {surl.rpartition("/")[2] for surl in asked} == {"0.tar", "1.tar", "2.tar"}
    assert all(got.path and got.size_bytes == 0 for got in again), "what is there is not fetched again"
    assert not list(tmp_path.rglob("*.part")) + list(tmp_path.rglob("*.c4gh"))


def test_every_kind_of_reference_is_understood(site, tmp_path):
    with site.client() as client:
        one, two, three, four = site.named(client, "small")[:4]
        surl_directory = four.surls[0].rpartition("/")[0]
        wanted = [f"lfn:{one.lfn}", two.guid, three.surls[0], surl_directory]
        got = list(client.get(wanted, tmp_path))
    assert {one.guid, two.guid, three.guid, four.guid} <= {result.record.guid for result in got}
    assert all(result.error is None for result in got)


def test_one_reference_that_is_nothing_does_not_stop_the_others(site, tmp_path):
    with site.client() as client:
        record = site.named(client, "small")[0]
    out, err = site.done("get", "/nowhere", record.lfn, "-o", tmp_path, "--json", expect=12)
    (told,) = json.loads(out)
    assert (told["lfn"], told["exit_code"]) == (record.lfn, 0)
    assert told["path"]
    assert "error:" in err


def test_without_the_key_right_each_file_says_so_and_the_others_come_sealed(site, tmp_path):
    directory = f"{site.root}/small/1"
    with site.client("replica-manager") as client:
        refused = list(client.get([directory], tmp_path / "open"))
        assert len(refused) == SMALL // 3
        assert all(isinstance(got.error, NotAuthorised | NotFound) for got in refused)
        assert "--encrypted" in refused[0].error.advice
        assert not list((tmp_path / "open").rglob("*.bin*"))
        sealed = list(client.get([directory], tmp_path / "sealed", sealed=True))
    assert all(got.path and got.path.name.endswith(".c4gh") for got in sealed)
    key, target = tmp_path / "k", sealed[0].path
    key.touch(0o644)
    site.done("key", sealed[0].record.lfn, "-o", key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    site.done("decrypt", target, "--sk", key)
    original = site.data / "small" / "1" / target.name.removesuffix(".c4gh")
    assert same(target.with_suffix(""), original)


def test_lists_are_whole_or_say_that_they_are_not(site, tmp_path):
    """Whatever the width of a terminal, and however many images there are."""
    everything = "FILE is not null"
    told, error = site.done("find", everything, "-n", 2, "-a", "Nothing")
    assert told.count(b"\n") == told.count(b"Nothing=-\n") == 2
    assert error == "there are more than these 2: --limit shows them\n"
    told, error = site.done("find", everything)
    assert error == ""
    lfn = told.split()[0].decode().removeprefix("lfn:")
    told, _ = site.done("acl", lfn)
    assert told.decode().split("\n") == [
        "file  key  search  nominative",
        f"yes   yes  yes     -           {lfn}",
        "",
    ]
    told, error = site.done("get", "/grid/none", "-o", tmp_path, expect=12)
    assert (told, error) == (b"", "error: no such name\n       Check the name.\n")


@pytest.mark.parametrize("command", [("whoami",), ("find", "FILE is not null"), ("ls", "/grid")])
def test_a_proxy_that_is_over_is_the_users_to_renew(site, command):
    proxy = site.demo.users["expired"] = site.demo.pki.proxy(site.demo.users["researcher"], lifetime_s=-60)
    _, error = site.done(*command, user="expired", expect=10)
    first, advice = error.splitlines()
    assert re.fullmatch(r"error: localhost:\d+ refused the credential: certificate expired", first)
    assert "Make a new proxy" in advice
    assert proxy.certificate.exists()


def test_two_files_of_one_name_do_not_hide_each_other(site, tmp_path):
    with site.client() as client:
        lfns = [record.lfn for record in site.named(client, "twins")]
        assert len(lfns) == 2
        by_name = list(client.get(lfns, tmp_path / "by name"))
        below = list(client.get([f"{site.root}/twins"], tmp_path / "below"))
    assert sorted(got.error is None for got in by_name) == [False, True]
    assert [got.error for got in below] == [None, None]
    assert (tmp_path / "below" / "a" / "t.bin").read_bytes() == b"a"
    assert (tmp_path / "below" / "b" / "t.bin").read_bytes() == b"b"


def test_a_file_that_cannot_be_had_does_not_stop_the_others_of_its_directory(site, tmp_path):
    (site.data / "lossy" / "s03.bin").unlink()
    with site.client() as client:
        results = list(client.get([f"{site.root}/lossy"], tmp_path))
    assert len(results) == SERIES
    (lost,) = [got for got in results if got.error]
    assert "s03.bin" in lost.record.lfn
    assert len(list(tmp_path.iterdir())) == SERIES - 1


@pytest.mark.parametrize(("directory", "size_bytes"), [("large", LARGE_BYTES), ("series", SERIES_BYTES)])
def test_sigint_leaves_parts_and_the_next_get_goes_on(site, tmp_path, directory, size_bytes):
    command = ("get", f"{site.root}/{directory}", "-o", tmp_path)
    with site.client() as client:
        list(client.get([f"{site.root}/{directory}"], tmp_path / "staged", sealed=True))
    process = site.mdm(*command)
    until = time.monotonic() + 60
    while not any(path.stat().st_size for path in tmp_path.glob("*.c4gh.part")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED, err.decode()
    assert "same command again" in err.decode()
    parts = {path.name: path.stat().st_size for path in tmp_path.glob("*.c4gh.part")}
    assert parts
    assert any(0 < size < size_bytes for size in parts.values())
    whole = [path.name for path in tmp_path.glob("*.bin")]
    assert all(same(tmp_path / name, site.data / directory / name) for name in whole)

    site.done(*command)
    for original in (site.data / directory).iterdir():
        assert same(tmp_path / original.name, original)
    assert not list(tmp_path.glob("*.part"))


def test_leaving_early_withdraws_the_request(site, tmp_path):
    with site.client() as client:
        tokens = []
        watcher = Watcher(waiting=lambda request: tokens.append(request.token))
        with closing(client.get([f"{site.root}/small/2"], tmp_path, watcher=watcher)) as parts:
            next(parts)
        after = client.srm.status(tokens[0])
        assert not [file for file in after.files if file.status.code == "SRM_FILE_PINNED"]


def test_an_open_file_is_read_in_parts_and_pinned_until_closed(site):
    original = (site.data / "large" / "l0.bin").read_bytes()
    with site.client() as client:
        counted, tokens = [], []
        read_range, ask = client._doors.read_range, client.srm.prepare_to_get

        def counting(turl, start, length):
            counted.append(length)
            return read_range(turl, start, length)

        def asking(*arguments, **more):
            request = ask(*arguments, **more)
            tokens.append(request.token)
            return request

        client._doors.read_range, client.srm.prepare_to_get = counting, asking
        lfn = next(r.lfn for r in site.named(client, "large") if "l0.bin" in r.lfn)
        with client.open(lfn) as file:
            assert file.seek(-100, io.SEEK_END) == len(original) - 100
            assert file.read() == original[-100:]
            file.seek(20_000_000)
            assert file.read(10) == original[20_000_000:20_000_010]
            assert client.srm.status(tokens[0]).files[0].status.code == "SRM_FILE_PINNED"
            assert sum(counted) < 5 * 65_564
        assert client.srm.status(tokens[0]).files[0].status.code == "SRM_RELEASED"


def test_a_pin_that_ran_out_is_renewed(site):
    original = (site.data / "large" / "l1.bin").read_bytes()
    with site.client() as client:
        record = next(r for r in site.named(client, "large") if "l1.bin" in r.lfn)
        asked = []
        ask = client.srm.prepare_to_get
        client.srm.prepare_to_get = lambda *args, **more: asked.append(ask(*args, **more)) or asked[-1]
        with client.open(record.lfn) as file:
            read_range = client._doors.read_range

            def run_out(turl, start, length):
                client._doors.read_range = read_range
                raise RequestExpired("the file is not staged here")

            client._doors.read_range = run_out
            file.seek(30_000_000)
            assert file.read(10) == original[30_000_000:30_000_010]
        assert len(asked) == 2
        codes = [client.srm.status(request.token).files[0].status.code for request in asked]
        assert codes == ["SRM_RELEASED"] * 2


def test_open_wants_one_file_and_the_key(site):
    with site.client() as client, pytest.raises(InvalidRequest):
        client.open(f"{site.root}/small")
    with site.client("replica-manager") as client, pytest.raises((NotAuthorised, NotFound)):
        client.open(f"{site.root}/large/l0.bin")


def test_cat_writes_a_range(site):
    original = (site.data / "large" / "l2.bin").read_bytes()
    with site.client() as client:
        lfn = next(r.lfn for r in site.named(client, "large") if "l2.bin" in r.lfn)
    assert site.done("cat", lfn, "--range", "65530-65540")[0] == original[65530:65541]
    assert site.done("cat", lfn, "--range", f"{LARGE_BYTES - 3}-")[0] == original[-3:]
    assert site.done("cat", lfn)[0] == original
    site.done("cat", lfn, "--range", "5-1", expect=15)


def test_ls_shows_size_and_place(site):
    with site.client() as client:
        list(client.get([f"{site.root}/large"], site.demo.directory / "ls", sealed=True))
    out, _ = site.done("ls", "-l", f"{site.root}/large")
    lines = out.decode().splitlines()
    assert len(lines) == LARGE
    assert all(line.startswith("- online") for line in lines)
    (first, *_) = json.loads(site.done("ls", "-l", "--json", f"{site.root}/large")[0])
    assert first["online"] is True
    assert first["checksum"].startswith("adler32:")

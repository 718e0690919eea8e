"""What lies on the disks of a site that has staged files, and what a thief of them can do with it.

A whole site in processes of its own: the stager pushes into the node over https, a researcher fetches
and opens every file, the site is stopped. Then everything on the server's disk (scratch, databases,
journals, logs, audit, every secret of the inner zone) is at hand, and no key server. The source itself,
the users' own files and the key servers' disks are not the server's.
"""

import base64
import hashlib
import hmac
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from srm_dicom.client.library import Client
from srm_dicom.crypto.crypt4gh import SEALED_SEGMENT_BYTES, Header, Layout, SegmentReader
from srm_dicom.crypto.derive import derive
from srm_dicom.crypto.siv import Sealer, verified_reader
from srm_dicom.daemon.common import Common
from srm_dicom.demo.site import DemoSite
from srm_dicom.errors import IntegrityError, InvalidRequest
from srm_dicom.scratch.area import ScratchArea, StagedName

NONCE_BYTES = 12
SIZES = {"large": 400_000, "other": 400_000, "small": 60}


@dataclass
class File:
    """One file as all parties together know it."""

    entry: object
    clear: bytes
    sealed: bytes
    private_key: bytes

    @property
    def session_key(self):
        return Header.parse(self.sealed).open(self.private_key)

    @property
    def segments(self):
        body = self.sealed[Header.parse(self.sealed).size_bytes :]
        return [body[at : at + SEALED_SEGMENT_BYTES] for at in range(0, len(body), SEALED_SEGMENT_BYTES)]


@dataclass
class Stolen:
    """The site after it was stopped."""

    demo: DemoSite
    files: dict[str, File]
    disk: dict[Path, bytes]

    def secrets(self):
        """Every 32 bytes of every secret of the inner zone, and of the host."""
        found = {}
        for path, content in self.disk.items():
            if "secrets" in path.parts or path.name.endswith("key.pem"):
                for at in range(len(content) - 31):
                    found.setdefault(content[at : at + 32], f"{path.name}+{at}")
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    data = directory / "source"
    data.mkdir()
    generator = random.Random(5)
    for name, size in SIZES.items():
        (data / f"{name}.bin").write_bytes(generator.randbytes(size))
    disk = {"plugin": "disk", "projects": ["demo"], "settings": {"root": str(data)}}
    demo = DemoSite(directory / "site", plugins={"disk": disk})
    demo.write()
    demo.start()
    try:
        files = stage(demo, data, directory / "out")
    finally:
        demo.stop()
    return Stolen(demo, files, read_disk(demo.directory))


def stage(demo, data, out):
    """Register everything, let a researcher fetch and open it, and say what became of each file."""
    command = [sys.executable, "-m", "srm_dicom.cli.admin", "register", "--plugin", "disk", "*.bin"]
    environment = {**os.environ, "SRM_DICOM_CONFIG": str(demo.config)}
    subprocess.run(command, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
    common = Common(demo.config, "test")
    area = ScratchArea(common.config.scratch.directory)
    files = {}
    with Client(demo.description, demo.users["researcher"]) as client:
        for got in client.get(["FILE is not null"], out):
            assert got.error is None
            entry = common.stores.namespace.find_guid(got.record.guid)
            name = got.path.name.partition(".")[0]
            sealed = area.path(StagedName(entry.guid, entry.generation)).read_bytes()
            files[name] = File(entry, got.path.read_bytes(), sealed, client.key(got.record))
    assert {name: file.clear for name, file in files.items()} == {
        name: (data / f"{name}.bin").read_bytes() for name in SIZES
    }
    return files


def read_disk(directory):
    """Everything on the server's disk: no key server's, and no user's own credential."""
    return {
        path: path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.relative_to(directory).parts[0].startswith("keys-")
        and not path.name.startswith("user-")
    }  # fmt: skip


def forms(secret):
    """A secret as it might be written down."""
    return {secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret)}


def opens(file, key):
    """Try a key in every role that there is; returns the role in which it opens the file."""
    for role, session in (
        ("session key", lambda: key),
        ("seal", lambda: derive(key, "session key")),
        ("private key", lambda: Header.parse(file.sealed).open(key)),
    ):
        try:
            segment = file.segments[-1]
            ChaCha20Poly1305(session()).decrypt(segment[:NONCE_BYTES], segment[NONCE_BYTES:], None)
        except (InvalidTag, InvalidRequest):
            continue
        return role
    return None


def hmac_of(key, *parts):
    return hmac.digest(key, b"".join(parts), "sha256")


def blake3_of(key, *parts):
    return blake3(b"".join(parts), key=key).digest()


def seal_of(seal_key, file):
    return blake3_of(derive(seal_key, "seal"), file.entry.guid.encode(), file.clear)


def test_the_right_keys_would_open(site):
    """The thief's tools work: with what the server never stores, they open every file."""
    seal_key = (site.demo.directory / "inner" / "secrets" / "seal.key").read_bytes()
    for file in site.files.values():
        assert opens(file, file.private_key) == "private key"
        assert opens(file, file.session_key) == "session key"
        assert opens(file, seal_of(seal_key, file)) == "seal"


def test_the_whole_server_is_looked_at(site):
    names = {path.relative_to(site.demo.directory).as_posix() for path in site.disk}
    wanted = ["inner/secrets/seal.key", "inner/journal.db", "outer/srm-dicom.db", "etc/srm-dicom.toml"]
    assert names.issuperset(wanted)
    assert sum(name.startswith("outer/scratch/ready/") for name in names) == len(SIZES)
    assert any(name.startswith("audit/") for name in names)
    assert any(name.startswith("log/") for name in names)
    assert not any(name.startswith("keys-") for name in names)


def test_no_clear_byte_and_no_hash_of_clear_bytes_is_there(site):
    seal_key = (site.demo.directory / "inner" / "secrets" / "seal.key").read_bytes()
    for name, file in site.files.items():
        hashes = {getattr(hashlib, kind)(file.clear).digest() for kind in ("md5", "sha1", "sha256", "sha512")}
        hashes |= {blake3(file.clear).digest(), seal_of(seal_key, file)}
        told = set().union(*map(forms, hashes))
        told |= {file.clear[at : at + 24] for at in range(0, len(file.clear) - 24, 4096)}
        for path, content in site.disk.items():
            assert not any(one in content for one in told), (name, path)


def test_no_key_of_a_file_is_written_down(site):
    for name, file in site.files.items():
        session = file.session_key
        keys = {file.private_key, session, derive(session, "segment nonce")}
        told = set().union(*map(forms, keys))
        for path, content in site.disk.items():
            assert not any(one in content for one in told), (name, path)


def test_no_secret_of_the_server_opens_a_file(site):
    secrets = site.secrets()
    assert len(secrets) > 100
    small = site.files["small"]
    for key, where in secrets.items():
        assert opens(small, key) is None, where


def test_the_secrets_and_all_that_is_known_of_a_file_open_nothing(site):
    """Whatever could be recomputed without the object, is."""
    directory = site.demo.directory / "inner" / "secrets"
    whole = [path.read_bytes()[:32] for path in directory.rglob("*") if path.is_file()]
    for file in site.files.values():
        entry, header = file.entry, Header.parse(file.sealed)
        guid = entry.guid.encode()
        known = [
            b"", guid, entry.public_key, entry.plugin_ref, entry.path.encode(), entry.key_id.encode(),
            file.sealed, file.sealed[: header.size_bytes], header.packets[0],
            file.sealed[header.size_bytes :],
            blake3(file.sealed).digest(), entry.facts.manifest.encode(),
            bytes(len(file.clear)), len(file.clear).to_bytes(8, "big"),
        ]  # fmt: skip
        for key in whole:
            for one in known:
                for made in (
                    hmac_of(key, guid, one), hmac_of(key, one), hmac_of(key, one, guid),
                    blake3_of(derive(key, "seal"), guid, one), blake3_of(key, guid, one), blake3_of(key, one),
                    derive(key, "session key", one), derive(key, "header", one), derive(key, guid, one),
                    hashlib.sha256(key + guid + one).digest(),
                ):  # fmt: skip
                    assert opens(file, made) is None


def test_a_guess_at_the_object_must_be_right_to_the_last_bit(site):
    seal_key = (site.demo.directory / "inner" / "secrets" / "seal.key").read_bytes()
    file = site.files["small"]
    for at in range(len(file.clear)):
        guess = bytearray(file.clear)
        guess[at] ^= 1
        sealer = Sealer(seal_key, file.entry.guid, file.entry.public_key)
        sealer.absorb(guess)
        assert not file.sealed.startswith(sealer.seal().header)


# --- segments that were moved --------------------------------------------------------------------


def read(make, file, segments):
    layout = Layout(len(file.sealed), Header.parse(file.sealed).size_bytes)
    reader = make(file.session_key, layout)
    clear = b"".join(bytes(reader.update(segment)) for segment in segments)
    reader.finish()
    return clear


def swapped(segments, first, second):
    moved = list(segments)
    moved[first], moved[second] = moved[second], moved[first]
    return moved


def test_segments_of_two_files_cannot_be_exchanged(site):
    one, other = site.files["large"], site.files["other"]
    assert len(one.sealed) == len(other.sealed)
    assert read(verified_reader, one, one.segments) == one.clear
    for index in range(len(one.segments)):
        mixed = [*one.segments[:index], other.segments[index], *one.segments[index + 1 :]]
        with pytest.raises(IntegrityError):
            read(verified_reader, one, mixed)


def test_segments_of_one_file_cannot_be_moved(site):
    file = site.files["large"]
    moved = swapped(file.segments, 1, 3)
    assert read(SegmentReader, file, moved) != file.clear, "the container itself does not notice"
    with pytest.raises(IntegrityError):
        read(verified_reader, file, moved)


# --- the outer zone and the inner ----------------------------------------------------------------

WATCHED = """
    import json, sys, time
    from pathlib import Path

    opened, called = set(), set()

    def watch(event, arguments):
        if event in ("open", "os.listdir", "os.scandir", "sqlite3.connect", "os.mkdir", "glob.glob"):
            if arguments and isinstance(arguments[0], (str, bytes)) or hasattr(arguments[0], "__fspath__"):
                opened.add(str(arguments[0]))
        elif event == "socket.connect":
            called.add(repr(arguments[1]))

    sys.addaudithook(watch)
    from srm_dicom.daemon.processes import builder

    services = builder(sys.argv[1])(Path(sys.argv[2]))
    for service in services:
        service.start()
    time.sleep(0.5)
    for service in reversed(services):
        service.stop()
    print(json.dumps({"opened": sorted(opened), "called": sorted(called)}))
"""


def watched(site, role):
    """Run a role for a moment; returns what it opened and whom it called."""
    command = [sys.executable, "-c", textwrap.dedent(WATCHED), role, str(site.demo.config)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    return seen["opened"], seen["called"]


def of_inner_zone(site, paths):
    inner = (str(site.demo.directory / "inner"), str(site.demo.config.parent / "plugins.d"))
    return [path for path in paths if path.startswith(inner)]


@pytest.mark.parametrize("role", ["front", "transfer"])
def test_an_outer_role_opens_nothing_of_the_inner_zone_and_calls_nobody(site, role):
    opened, called = watched(site, role)
    assert str(site.demo.config) in opened, "the watching works"
    assert of_inner_zone(site, opened) == []
    assert called == []


def test_an_inner_role_is_seen_to_open_it(site):
    opened, _ = watched(site, "stager")
    assert len(of_inner_zone(site, opened)) >= len(["seal.key", "signing.key", "journal.key"])
    scratch = str(site.demo.directory / "outer" / "scratch")
    assert [path for path in opened if path.startswith(scratch)] == [], "it pushes into the node"


ABORTED = """
    import os, resource, sys
    from pathlib import Path

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    if sys.argv[1]:
        from srm_dicom.daemon.processes import builder
        builder(sys.argv[1])(Path(sys.argv[2]))
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    os.abort()
"""


def dumps_core(role, config, directory):
    """Let a process abort once it is the role, or as it is; tells whether the kernel made a core."""
    directory.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(ABORTED), role, str(config)]
    with (directory / "errors").open("wb") as errors:
        process = subprocess.Popen(command, cwd=directory, stdout=errors, stderr=errors)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = status
    assert os.WTERMSIG(status) == signal.SIGABRT, (directory / "errors").read_text()[-2000:]
    return os.WCOREDUMP(status) or any(path.name != "errors" for path in directory.iterdir())


@pytest.mark.parametrize("role", ["stager", "registrar"])
def test_an_inner_role_that_crashes_leaves_no_core(site, role, tmp_path):
    assert not dumps_core(role, site.demo.config, tmp_path / "role")
    if not dumps_core("", site.demo.config, tmp_path / "plain"):
        pytest.skip("this machine writes no core of any process, so that nothing is shown")


@pytest.mark.parametrize("role", ["front", "transfer"])
def test_an_outer_role_needs_nothing_of_the_inner_zone(site, role, tmp_path):
    places = [site.demo.directory / "inner", site.demo.config.parent / "plugins.d"]
    for place in places:
        place.rename(tmp_path / place.name)
    try:
        watched(site, role)
        with pytest.raises(AssertionError, match="ConfigError"):
            watched(site, "stager")
    finally:
        for place in places:
            (tmp_path / place.name).rename(place)

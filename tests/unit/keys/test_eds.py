"""``glite-eds-*`` over real key servers: the originals' options and output."""

import os
import re
import secrets
import shlex
import stat
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from srm_dicom.cli import edspermissions, edssite
from srm_dicom.client.files import FileCatalogueClient
from srm_dicom.crypto.crypt4gh import HEADER_BYTES, SEALED_SEGMENT_BYTES
from srm_dicom.crypto.keyfile import write_public_key, write_secret_key
from srm_dicom.crypto.sealing import public_key_of
from srm_dicom.errors import CatalogueUnavailable, InvalidRequest
from srm_dicom.wire.hydra.contract import ACLEntry, Perm, Permission

ROOT = Path(__file__).parents[3]
KEYS, PERMISSIONS = ("key-register", "key-unregister"), ("getacl", "setacl", "chmod")
NAMES = (*KEYS, "put", "get", "rm", "encrypt", "decrypt", *PERMISSIONS)


@pytest.fixture
def site(live_site):
    return live_site


@pytest.fixture
def run(site, eds_command):
    def call(name, *arguments, who=None, code=0, **options):
        done, told = eds_command(name, *arguments, who=who or site.registrar, **options)
        assert done == code, told
        return told

    return call


@pytest.fixture
def key_id():
    return f"key-{secrets.token_hex(4)}"


def test_the_page_does_what_it_says(run):
    page = (ROOT / "docs/user/glite-eds.md").read_text()
    [block] = re.findall(r"(?ms)^```console\n(.*?)^```", page)
    Path("table.csv").write_text("a,b\n")
    for line in block.splitlines():
        program, *words = shlex.split(line.removeprefix("$ "))
        run(program.removeprefix("glite-eds-"), *words)
    assert Path("again.csv").read_text() == "a,b\n"


def test_all_ten_are_there():
    ours = {one.name for one in entry_points(group="console_scripts") if one.name.startswith("glite-eds-")}
    assert ours == {f"glite-eds-{name}" for name in NAMES}


@pytest.mark.parametrize("name", ["my.file", "two words", "x" * 129, ""])
def test_an_id_that_is_none_is_told_as_that(run, name):
    for command in (("key-register",), ("getacl",), ("key-unregister",), ("chmod", "g+g")):
        told = run(*command, name, code=15)
        assert "a key id has 1 to 128 characters of [A-Za-z0-9_:-]" in told, command
    Path("clear").write_bytes(b"clear")
    told = run("encrypt", name, "clear", "sealed", code=15)
    assert told.startswith("Error during glite_eds_encrypt_init: a key id has 1 to 128")


def test_register_encrypt_decrypt_unregister(run, key_id):
    clear = secrets.token_bytes(200_000)
    Path("clear").write_bytes(clear)
    assert run("key-register", key_id) == f"A key has been generated and registered for ID '{key_id}'\n"
    told = run("encrypt", key_id, "clear", "sealed")
    assert told == (
        f"File 'clear' has been successfully encrypted\n\twith key '{key_id}'\n\tand written to 'sealed'.\n"
    )
    assert clear not in Path("sealed").read_bytes()
    told = run("decrypt", "-q", key_id, "sealed", "opened")
    assert told == ""  # and not a word of what is not verified
    assert Path("opened").read_bytes() == clear
    run("key-register", key_id, code=15)
    told = run("key-unregister", key_id)
    assert told == f"The key has been unregistered for ID '{key_id}'\n"
    run("key-unregister", key_id, code=12)
    assert "no such key" in run("decrypt", key_id, "sealed", "again", code=12)


def test_the_stock_program_opens_what_was_encrypted(site, run, key_id):
    Path("clear").write_bytes(b"clear" * 20_000)
    run("key-register", "-v", key_id)
    run("encrypt", key_id, "clear", "sealed")
    Path("key").write_text(write_secret_key(site.client(site.registrar).fetch(key_id)))
    stock = Path(sys.executable).with_name("crypt4gh")
    environment = {"PATH": os.environ["PATH"], "HOME": str(Path.cwd())}
    done = subprocess.run(
        [stock, "decrypt", "--sk", "key"],
        input=Path("sealed").read_bytes(),
        capture_output=True,
        env=environment,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"clear" * 20_000


@pytest.mark.parametrize("size", [0, 1, 65_536, 200_000])
def test_a_file_of_the_stock_program_is_opened_with_a_warning(site, run, key_id, size):
    clear = secrets.token_bytes(size)
    sealed = sealed_by_the_stock_program(site, run, key_id, clear)
    Path("sealed").write_bytes(sealed)
    told = run("decrypt", "-q", key_id, "sealed", "opened")
    assert "nothing in this file shows that it is whole" in told
    assert Path("opened").read_bytes() == clear


def test_a_file_of_the_stock_program_that_was_forged_is_refused(site, run, key_id):
    sealed = bytearray(sealed_by_the_stock_program(site, run, key_id, bytes(200_000)))
    sealed[-1] ^= 1
    Path("sealed").write_bytes(sealed)
    assert "damaged or forged" in run("decrypt", key_id, "sealed", "opened", code=33)
    assert not Path("opened").exists()


def sealed_by_the_stock_program(site, run, key_id, clear):
    """Seal something to the public half of a new key."""
    run("key-register", "-q", key_id)
    private = site.client(site.registrar).fetch(key_id)
    Path("key").write_text(write_secret_key(private))
    Path("key.pub").write_text(write_public_key(public_key_of(private)))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("crypt4gh"),
            *("encrypt", "--sk", "key", "--recipient_pk", "key.pub"),
        ],
        input=clear,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.cwd())},
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 1), (1, 2), (2,), (0, 0, 1, 2)])
def test_our_own_file_cut_or_reordered_is_no_other_programs(run, key_id, order):
    """Whatever is left of it says that it was ours, and so what is missing."""
    Path("clear").write_bytes(secrets.token_bytes(150_000))
    run("key-register", "-q", key_id)
    run("encrypt", key_id, "clear", "sealed")
    sealed = Path("sealed").read_bytes()
    segments = [
        sealed[at : at + SEALED_SEGMENT_BYTES]
        for at in range(HEADER_BYTES, len(sealed), SEALED_SEGMENT_BYTES)
    ]
    Path("sealed").write_bytes(sealed[:HEADER_BYTES] + b"".join(segments[one] for one in order))
    run("decrypt", key_id, "sealed", "opened", code=33)
    assert not Path("opened").exists()


def test_acls_are_printed_and_changed_as_they_were(site, run, key_id):
    alice, registrar = site.pki.dn(site.alice), site.pki.dn(site.registrar)
    run("key-register", key_id)
    head = [
        f"# ENTRY: {key_id}",
        f"# User: {registrar}",
        "# Group: ",
        "# Base perms: user pdrwl-gs, group --------, other --------",
    ]
    assert run("getacl", key_id).splitlines() == head
    Path("clear").write_bytes(b"clear")
    run("encrypt", key_id, "clear", "sealed")
    run("decrypt", key_id, "sealed", "opened", who=site.alice, code=11)
    run("setacl", "-m", f"{alice}:------g-", key_id)
    run("setacl", "-m", "/biomed/Role=physician:------gs", key_id)
    entries = [f"{alice}:------g-", "/biomed/Role=physician:------gs"]
    assert run("getacl", key_id).splitlines() == [*head, *entries]
    run("decrypt", key_id, "sealed", "opened", who=site.alice)
    run("setacl", "-d", alice, key_id)
    assert run("getacl", key_id).splitlines() == [*head, entries[1]]
    run("setacl", "-x", f"{alice}:gs", "-x", "/vo:g", key_id)
    assert run("getacl", key_id).splitlines() == [*head, f"{alice}:------gs", "/vo:------g-"]
    run("setacl", "-X", "-", key_id, stdin=f"# a comment\n{alice}:g\n\n/vo:g\n")
    assert run("getacl", key_id).splitlines() == [*head, f"{alice}:------g-"]
    run("chmod", "go+g,u-w", key_id)
    base = "# Base perms: user pdr-l-gs, group ------g-, other ------g-"
    assert run("getacl", key_id).splitlines()[3] == base
    assert run("setacl", "-v", "-d", "/nobody", key_id).count("Changed") == 0  # nothing was to change
    told = run("getacl", "-v", key_id)
    for url in site.urls:
        assert f"# Using endpoint {url}\n# - service version: 4" in told
        assert f"# ENTRY: {key_id}\n# ENDPOINT: {url}\n# User: {registrar}\n" in told
    run("getacl", key_id, who=site.alice, code=11)


def test_options_that_all_have(run, key_id):
    for name in NAMES:
        assert "Usage:" in run(name, "-h")
        told = run(name, "-V")
        assert re.fullmatch(
            r"[\d.]+\n" if name in PERMISSIONS else rf"<glite-eds-{name}> Version [\d.]+ by srm-dicom\n", told
        )
    assert "the one cipher" in run("key-register", "-c", "bf-cbc", "-k", "128", key_id, code=15)
    assert run("key-register", "-v", "-q", "-c", "crypt4gh-x25519", "-k", "256", key_id) == ""
    assert "unregistered" in run("key-unregister", "-q", "-v", key_id)  # the last one counts
    assert "MDM_SIGNING_KEY" in run("key-register", f"{key_id}-2", code=30, signing=False)


def test_another_service(site, run, key_id):
    run("key-register", "-s", site.urls[0], key_id)
    assert "# User:" in run("getacl", "-s", site.urls[0], key_id)


@pytest.mark.parametrize("unencrypted", [False, True])
def test_put_keeps_nothing_when_it_fails(site, run, tmp_path, monkeypatch, key_id, unencrypted):
    """There is no catalogue here: the file is stored, and gone again, and so is its key."""
    storage = gfal_of_directories(tmp_path, monkeypatch)
    Path("clear").write_bytes(b"clear")
    run("put", *(["-u"] if unencrypted else []), "-i", key_id, "clear", "lfn:/grid/x", code=34)
    assert list(storage.iterdir()) == []
    assert "no such key" in run("getacl", key_id, code=12)
    assert {line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()} == {
        "gfal-copy",
        "gfal-rm",
    }


def test_put_leaves_no_name_whose_registration_was_not_answered(site, run, tmp_path, monkeypatch, key_id):
    """The catalogue has done it before its answer was lost: the name would be of a file that is gone."""
    storage, names = gfal_of_directories(tmp_path, monkeypatch), {}

    def register(_self, records):
        names.update((f"guid:{record.guid}", record) for record in records)
        raise CatalogueUnavailable("it does not answer")

    def unregister(_self, references):
        for reference in references:
            names.pop(reference, None)

    monkeypatch.setattr(FileCatalogueClient, "register", register)
    monkeypatch.setattr(FileCatalogueClient, "unregister", unregister)
    Path("clear").write_bytes(b"clear")
    assert "not undone" not in run("put", "-i", key_id, "clear", "lfn:/grid/x", code=34)
    assert list(storage.iterdir()) == []
    assert not names


def gfal_of_directories(tmp_path, monkeypatch):
    """Programs of gfal's names that know one storage: a directory."""
    programs, storage = tmp_path / "bin", tmp_path / "storage"
    programs.mkdir()
    storage.mkdir()
    copy = f'#!/bin/sh\necho gfal-copy "$@" >> {tmp_path}/calls\ncp "${{2#file://}}" "${{3#file://}}"\n'
    (programs / "gfal-copy").write_text(copy)
    (programs / "gfal-rm").write_text(
        f'#!/bin/sh\necho gfal-rm "$@" >> {tmp_path}/calls\nrm "${{1#file://}}"\n'
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("GLITE_EDS_SE", f"file://{storage}")
    return storage


def test_how_many_shares_by_glites_rule():
    assert [edssite.threshold_of(n) for n in range(1, 17)] == [1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5]


@pytest.mark.parametrize(
    ("mode", "user", "group", "other"),
    [
        ("u+x", "pgx", "", ""),
        ("+g", "pg", "g", "g"),
        ("a=r", "r", "r", "r"),
        ("ugo-p,g+gs", "g", "gs", ""),
        ("go=-,u=g-", "g", "", ""),
        ("u=", "", "", ""),
    ],
)
def test_changes_of_mode(mode, user, group, other):
    before = Permission("/CN=o", "/vo", Perm.of("pg"))
    after = edspermissions.changed_mode(before, mode)
    letters = [after.user_perm.letters, after.group_perm.letters, after.other_perm.letters]
    assert letters == [frozenset(one) for one in (user, group, other)]
    assert (after.user_name, after.group_name) == ("/CN=o", "/vo")


@pytest.mark.parametrize("mode", ["", "g", "q+g", "u+z", "u+g,", "u+g o+g"])
def test_what_is_no_mode(mode):
    with pytest.raises(InvalidRequest):
        edspermissions.changed_mode(Permission(), mode)


def test_pipes_and_devices_are_written_as_they_are(run, key_id, tmp_path):
    """Whoever encrypts into a pipe or a device of his finds it there afterwards."""
    Path("clear").write_bytes(b"clear")
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    run("key-register", "-q", key_id)
    run("encrypt", key_id, "clear", "pipe")
    Path("sealed").write_bytes(os.read(reader, 100_000))
    run("decrypt", key_id, "sealed", "pipe")
    assert os.read(reader, 100) == b"clear"
    os.close(reader)
    assert Path("pipe").is_fifo()
    with suppress(PermissionError):  # only root makes device nodes, and not everywhere
        os.mknod("null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        run("encrypt", key_id, "clear", "null")
        run("decrypt", key_id, "sealed", "null")
        assert Path("null").is_char_device()


def test_links_stay_links(run, key_id):
    Path("there").mkdir()
    Path("clear").write_bytes(b"clear")
    Path("sealed").symlink_to("there/sealed")
    Path("again").symlink_to("there/again")
    run("key-register", "-q", key_id)
    run("encrypt", key_id, "clear", "sealed")
    run("decrypt", key_id, "sealed", "again")
    assert Path("sealed").is_symlink()
    assert Path("again").is_symlink()
    assert sorted(path.name for path in Path("there").iterdir()) == ["again", "sealed"]
    assert Path("there/again").read_bytes() == b"clear"


@pytest.mark.parametrize("text", ["/CN=alice", "/CN=alice:q", "/CN=alice g", ":g", "a\nb:g"])
def test_what_is_no_entry(text):
    for option in ("added", "exact"):
        with pytest.raises(InvalidRequest):
            edspermissions.Changes.read(**{option: [text]})


def test_entries_with_commas_and_colons_in_names():
    names = ["/DC=x/CN=Doe, Jane", "/vo/Role=a", "/CN=a:b", "/CN=a #1"]
    letters = ("g", "g", "gs", "")
    entries = [f"{name}:{letter}" for name, letter in zip(names, letters, strict=True)]
    told = edspermissions.Changes.read(exact=entries)
    assert told.exact == tuple(ACLEntry(Perm.of(p), n) for n, p in zip(names, letters, strict=True))
    after = told.applied(Permission())
    removed = edspermissions.Changes.read(removed=["/CN=a:b", "/vo/Role=a:g", "/CN=nobody"]).applied(after)
    assert [entry.principal for entry in removed.acl] == ["/DC=x/CN=Doe, Jane", "/CN=a #1"]


def test_a_target_that_cannot_be_written_is_named(run, key_id):
    Path("clear").write_bytes(b"clear")
    run("key-register", "-q", key_id)
    told = run("encrypt", key_id, "clear", "nowhere/sealed", code=15)
    assert told.startswith("Error during glite_eds_encrypt_block: nowhere/sealed.part: No such file")

"""What ``mdm`` does with a user's own files, without any site, and what it says of one that it cannot use."""

import errno
import secrets
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.cli.exits import reported
from srm_dicom.cli.user import main
from srm_dicom.crypto import keyfile, sealing

GENERIC, DISK_FULL, BROKEN_PIPE = 15, 31, 1


def failing(error):
    @click.command()
    @reported
    def command():
        raise error

    return CliRunner().invoke(command)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), GENERIC, "/x/y: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/x/y"), GENERIC, "/x/y: Not a directory"),
        (OSError(errno.EIO, "Input/output error"), GENERIC, "Input/output error"),
        (OSError(errno.ENOSPC, "No space left on device"), DISK_FULL, "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "f"), DISK_FULL, "f: Disk quota exceeded"),
    ],
)
def test_what_the_disk_refuses_is_said_in_one_line(error, code, told):
    done = failing(error)
    assert (done.exit_code, done.output) == (code, f"error: {told}\n")


def test_whoever_reads_no_more_is_told_nothing():
    done = failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert (done.exit_code, done.output) == (BROKEN_PIPE, "")


# --- sealed files --------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key = X25519PrivateKey.generate()
    Path("series.key").write_text(keyfile.write_secret_key(key.private_bytes_raw()))
    Path("friend.pub").write_text(keyfile.write_public_key(key.public_key().public_bytes_raw()))
    for name in ("a", "b", "c"):
        Path(f"{name}.c4gh").write_bytes(sealed(name.encode(), key.public_key().public_bytes_raw()))
    return key


def sealed(clear, public_key):
    return b"".join(sealing.seal([public_key], [clear], secrets.token_bytes))


def mdm(*words):
    done = CliRunner().invoke(main, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done.exit_code, done.output


def test_a_file_that_does_not_open_is_named_and_stops_no_other(key):
    Path("b.c4gh").write_bytes(sealed(b"b", X25519PrivateKey.generate().public_key().public_bytes_raw()))
    code, told = mdm("decrypt", "a.c4gh", "b.c4gh", "c.c4gh", "--sk", "series.key")
    assert (code, told) == (15, "error: b.c4gh: the secret key does not open this file\n")
    assert (Path("a").read_bytes(), Path("c").read_bytes()) == (b"a", b"c")
    assert not Path("b").exists()


@pytest.mark.parametrize(
    "words",
    [("decrypt",), ("reencrypt", "--recipient", "friend.pub", "-o", ".")],
)
def test_a_file_that_is_there_already_is_not_written_over(key, words):
    before = Path("a.c4gh").read_bytes()
    Path("a").write_text("mine")
    code, told = mdm(*words, "a.c4gh", "--sk", "series.key")
    assert (code, told) == (13, f"error: a.c4gh: {'a' if len(words) == 1 else 'a.c4gh'} is there already\n")
    assert (Path("a").read_text(), Path("a.c4gh").read_bytes()) == ("mine", before)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("decrypt", "--sk", "a.c4gh"), "a.c4gh: not a Crypt4GH private key file"),
        (("decrypt", "--sk", "friend.pub"), "friend.pub: not a Crypt4GH private key file"),
        (
            ("reencrypt", "-o", "out", "--sk", "series.key", "--recipient", "series.key"),
            "series.key: not a Crypt4GH public key file",
        ),
    ],
)
def test_a_key_file_that_is_none_is_named(key, words, named):
    assert mdm(*words, "b.c4gh") == (15, f"error: {named}\n")

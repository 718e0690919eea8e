"""The stock ``crypt4gh`` program reads what we write, and we read what it writes."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.cli import user
from srm_dicom.crypto import crypt4gh, keyfile, siv
from srm_dicom.ids import Guid

GUID = Guid("6f9619ff-8b86-4d01-b42d-00c04fc964ff")
SIZES = [0, 1, 65_535, 65_536, 65_537, 531_000]


@pytest.fixture
def key(tmp_path):
    private = X25519PrivateKey.generate()
    (tmp_path / "key.sec").write_text(keyfile.write_secret_key(private.private_bytes_raw()))
    (tmp_path / "key.pub").write_text(keyfile.write_public_key(private.public_key().public_bytes_raw()))
    return private


def stock(tmp_path, *arguments, stdin: bytes) -> bytes:
    program = Path(sys.executable).with_name("crypt4gh")
    done = subprocess.run(
        [program, *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def sealed(clear: bytes, public_key: bytes) -> bytes:
    sealer = siv.Sealer(secrets.token_bytes(32), GUID, public_key)
    sealer.absorb(clear)
    return b"".join(sealer.seal().file([clear]))


@pytest.mark.parametrize("size", SIZES)
def test_the_stock_program_opens_our_files_with_our_key_file(tmp_path, key, size):
    clear = secrets.token_bytes(size)
    file = sealed(clear, key.public_key().public_bytes_raw())
    assert stock(tmp_path, "decrypt", "--sk", "key.sec", stdin=file) == clear


@pytest.mark.parametrize("size", SIZES)
def test_we_open_files_of_the_stock_program(tmp_path, key, size):
    clear = secrets.token_bytes(size)
    file = stock(tmp_path, "encrypt", "--sk", "key.sec", "--recipient_pk", "key.pub", stdin=clear)
    header = crypt4gh.Header.parse(file)
    layout = crypt4gh.Layout(len(file), header.size_bytes)
    reader = crypt4gh.SegmentReader(header.open(key.private_bytes_raw()), layout)
    assert reader.update(file[header.size_bytes :]) == clear
    reader.finish()


def test_the_stock_program_opens_a_file_that_was_handed_on(tmp_path, key):
    friend = X25519PrivateKey.generate()
    (tmp_path / "friend.sec").write_text(keyfile.write_secret_key(friend.private_bytes_raw()))
    clear = secrets.token_bytes(100_000)
    file = sealed(clear, key.public_key().public_bytes_raw())
    header = crypt4gh.Header.parse(file).reencrypt(
        key.private_bytes_raw(),
        friend.public_key().public_bytes_raw(),
        secrets.token_bytes(32),
        secrets.token_bytes(12),
    )
    file = header + file[crypt4gh.HEADER_BYTES :]
    assert stock(tmp_path, "decrypt", "--sk", "friend.sec", stdin=file) == clear


def test_we_open_files_that_the_stock_program_handed_on(tmp_path, key):
    friend = X25519PrivateKey.generate()
    (tmp_path / "friend.pub").write_text(keyfile.write_public_key(friend.public_key().public_bytes_raw()))
    clear = secrets.token_bytes(100_000)
    file = sealed(clear, key.public_key().public_bytes_raw())
    file = stock(tmp_path, "reencrypt", "--sk", "key.sec", "--recipient_pk", "friend.pub", stdin=file)
    header = crypt4gh.Header.parse(file)
    session_key = header.open(friend.private_bytes_raw())
    reader = siv.verified_reader(session_key, crypt4gh.Layout(len(file), header.size_bytes))
    assert reader.update(file[header.size_bytes :]) == clear


def test_key_files_of_the_stock_program_are_read(tmp_path):
    generator = Path(sys.executable).with_name("crypt4gh-keygen")
    subprocess.run(
        [generator, "--nocrypt", "--sk", "stock.sec", "--pk", "stock.pub"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
    )
    private = keyfile.read_secret_key((tmp_path / "stock.sec").read_text())
    public = keyfile.read_public_key((tmp_path / "stock.pub").read_text())
    assert X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == public


def test_a_friend_opens_what_mdm_reencrypt_handed_on(tmp_path, key):
    friend = X25519PrivateKey.generate()
    (tmp_path / "friend.sec").write_text(keyfile.write_secret_key(friend.private_bytes_raw()))
    (tmp_path / "friend.pub").write_text(keyfile.write_public_key(friend.public_key().public_bytes_raw()))
    clear = secrets.token_bytes(200_000)
    source = tmp_path / "image.dcm.c4gh"
    source.write_bytes(sealed(clear, key.public_key().public_bytes_raw()))
    command = ["reencrypt", source, "--sk", tmp_path / "key.sec", "--recipient", tmp_path / "friend.pub"]
    command = [str(word) for word in (*command, "-o", tmp_path / "out")]
    assert CliRunner().invoke(user.main, command).exit_code == 0
    handed = (tmp_path / "out" / source.name).read_bytes()
    assert stock(tmp_path, "decrypt", "--sk", "friend.sec", stdin=handed) == clear
    assert handed[crypt4gh.HEADER_BYTES :] == source.read_bytes()[crypt4gh.HEADER_BYTES :]
    again = CliRunner().invoke(user.main, command)
    assert (again.exit_code, "is there already" in again.output) == (13, True)
    wrong = [word.replace("key.sec", "friend.sec").replace("/out", "/other") for word in command]
    assert CliRunner().invoke(user.main, wrong).exit_code == 15
    assert list((tmp_path / "other").iterdir()) == []

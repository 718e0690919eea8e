"""What an intermediary can do to a Crypt4GH file, which the stock program takes for whole, and we do not.

Cut at a segment, reordered, spliced from two files of one series, swapped with another one, or made anew by
whoever has the public key: each opens with the stock program and the right key. Ours tells by the manifest
that the site signed, and for a part of a file by the header and the place of every segment.
"""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.client.download import open_sealed, read_manifest
from srm_dicom.client.remote import SealedFile, buffered
from srm_dicom.crypto import keyfile, siv
from srm_dicom.crypto.crypt4gh import HEADER_BYTES, SEALED_SEGMENT_BYTES, SEGMENT_BYTES
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.crypto.signing import trusting
from srm_dicom.errors import IntegrityError, InvalidRequest
from srm_dicom.ids import Guid
from srm_dicom.rights.project import Release

SITE = Ed25519PrivateKey.generate()
SEGMENTS = 4


def guid_of(number):
    return Guid(f"00000000-0000-4000-8000-{number:012}")


class Series:
    """Two files of one series: one key pair, and a signed manifest for each."""

    def __init__(self, directory):
        self.directory = directory
        self.private = X25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()
        (directory / "key").write_text(keyfile.write_secret_key(self.private.private_bytes_raw()))
        self.clear = [secrets.token_bytes(SEGMENTS * SEGMENT_BYTES - 100) for _ in range(2)]
        self.files = [self.seal(clear, number) for number, clear in enumerate(self.clear)]
        self.manifest = Manifest.verify(self.sign(self.files[0]), trusting(SITE.public_key()))

    def seal(self, clear, number):
        sealer = siv.Sealer(b"s" * 32, guid_of(number), self.public)
        sealer.absorb(clear)
        return b"".join(sealer.seal().file([clear]))

    def sign(self, file, number=0):
        digest = Digest()
        digest.update(file)
        header = Digest()
        header.update(file[:HEADER_BYTES])
        guid, release = guid_of(number), Release("p", "basic", "v1")
        manifest = Manifest(
            guid, 1, digest.size_bytes, digest.adler32, digest.blake3, release, self.public, header.blake3
        )
        return manifest.sign(SITE)

    def stock(self, file, *, fails=False):
        """Open a file with the stock program; returns what it has written when it ends."""
        done = subprocess.run(
            [Path(sys.executable).with_name("crypt4gh"), "decrypt", "--sk", "key"],
            input=file,
            capture_output=True,
            timeout=60,
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory)},
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr.decode()
        return done.stdout

    def whole(self, file):
        """Open a file as `mdm get` does: its manifest first."""
        digest = Digest()
        digest.update(file)
        self.manifest.check(digest)

    def alone(self, file):
        """Open a file as `mdm decrypt` does, which has no manifest."""
        source, target = self.directory / "some.c4gh", self.directory / "some"
        source.write_bytes(file)
        open_sealed(source, target, self.private.private_bytes_raw())

    def range(self, file, start, length):
        """Read a part as `mdm cat --range` does."""

        def read_range(offset, size):
            return file[offset : offset + size]

        with buffered(SealedFile(read_range, self.manifest, self.private.private_bytes_raw())) as opened:
            opened.seek(start)
            return opened.read(length)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return Series(tmp_path_factory.mktemp("series"))


def segment(file, number):
    at = HEADER_BYTES + number * SEALED_SEGMENT_BYTES
    return file[at : at + SEALED_SEGMENT_BYTES]


def order(file, *numbers):
    return file[:HEADER_BYTES] + b"".join(segment(file, number) for number in numbers)


def forged(series):
    """What anybody can make who has the public key of the series."""
    sealer = siv.Sealer(b"t" * 32, guid_of(0), series.public)
    clear = secrets.token_bytes(len(series.clear[0]))
    sealer.absorb(clear)
    return b"".join(sealer.seal().file([clear]))


TAMPERED = {
    "cut at a segment": lambda series: order(series.files[0], 0, 1, 2),
    "cut to its first segment": lambda series: order(series.files[0], 0),
    "reordered": lambda series: order(series.files[0], 1, 0, 2, 3),
    "a segment twice": lambda series: order(series.files[0], 0, 1, 1, 3),
    "a segment left out": lambda series: order(series.files[0], 0, 2, 3),
    "swapped with another of its series": lambda series: series.files[1],
    "forged with the public key": forged,
}


@pytest.mark.parametrize("how", TAMPERED)
def test_the_stock_program_takes_it_for_whole_and_we_do_not(series, how):
    file = TAMPERED[how](series)
    assert series.stock(file) != series.clear[0]
    with pytest.raises(IntegrityError):
        series.whole(file)
    with pytest.raises((IntegrityError, InvalidRequest)):
        series.range(file, 0, len(series.clear[0]))


@pytest.mark.parametrize("how", [how for how in TAMPERED if "swapped" not in how and "forged" not in how])
def test_what_is_moved_or_missing_is_found_without_a_manifest_too(series, how):
    with pytest.raises(IntegrityError):
        series.alone(TAMPERED[how](series))


def test_a_file_that_is_swapped_together_with_its_manifest_is_noticed(series):
    """Both are genuine, and the key of the series opens it: only the name in the manifest is not it."""
    own, other = series.sign(series.files[0]), series.sign(series.files[1], 1)
    signers = trusting(SITE.public_key())
    assert read_manifest(Door(own), "turl", guid_of(0), signers) == series.manifest
    with pytest.raises(IntegrityError, match="another file's"):
        read_manifest(Door(other), "turl", guid_of(0), signers)
    with pytest.raises(IntegrityError):
        read_manifest(Door(own), "turl", guid_of(0), trusting(Ed25519PrivateKey.generate().public_key()))


class Door:
    """Serves one manifest beside a file."""

    def __init__(self, manifest):
        self.manifest = manifest

    def read(self, turl, *, limit_bytes):
        assert turl == "turl.manifest"
        return self.manifest.encode()[:limit_bytes]


def test_a_splice_of_two_files_opens_with_neither(series):
    """Each file has a session key of its own: even the stock program stops at the first foreign segment."""
    spliced = order(series.files[0], 0, 1) + segment(series.files[1], 2) + segment(series.files[1], 3)
    assert len(series.stock(spliced, fails=True)) <= 2 * SEGMENT_BYTES
    for reading in (series.whole, series.alone, lambda file: series.range(file, 2 * SEGMENT_BYTES, 10)):
        with pytest.raises(IntegrityError):
            reading(spliced)


def test_every_range_of_an_untouched_file_is_right(series):
    file, clear = series.files[0], series.clear[0]
    series.whole(file)
    for start, length in (
        (0, 1),
        (128, 4),
        (SEGMENT_BYTES - 1, 2),
        (3 * SEGMENT_BYTES, 10**6),
        (len(clear), 5),
    ):
        assert series.range(file, start, length) == clear[start : start + length]
    assert series.stock(file) == clear


def test_a_manifest_of_somebody_else_is_none(series):
    text = series.sign(series.files[0])
    with pytest.raises(IntegrityError):
        Manifest.verify(text, trusting(Ed25519PrivateKey.generate().public_key()))
    with pytest.raises(IntegrityError):
        Manifest.verify(text.replace('"generation":1', '"generation":2'), trusting(SITE.public_key()))

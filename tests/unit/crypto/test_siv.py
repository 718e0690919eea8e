"""Deterministic sealing: same file, same bytes, and nothing that opens it left behind."""

import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.crypto import sealing, siv
from srm_dicom.crypto.crypt4gh import (
    HEADER_BYTES,
    NONCE_BYTES,
    SEALED_SEGMENT_BYTES,
    SEGMENT_BYTES,
    Header,
)
from srm_dicom.crypto.derive import derive
from srm_dicom.crypto.digest import Digest
from srm_dicom.errors import IntegrityError
from srm_dicom.ids import Guid

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
GUID = Guid("6f9619ff-8b86-4d01-b42d-00c04fc964ff")
OTHER = Guid("6f9619ff-8b86-4d01-b42d-00c04fc96400")


def sealed(clear, *, key=b"k" * 32, guid=GUID, public=PUBLIC):
    sealer = siv.Sealer(key, guid, public)
    sealer.absorb(clear)
    second = sealer.seal()
    file = b"".join(second.file([clear]))
    assert file.startswith(second.header)
    assert len(file) == second.size_bytes
    return file


def test_same_input_same_bytes():
    assert sealed(b"pixels" * 50_000) == sealed(b"pixels" * 50_000)


def test_bytes_are_those_that_were_decided():
    """A change of these bytes is a new generation of every file: never by accident."""
    digest = Digest()
    digest.update(sealed(b"pixels" * 50_000))
    assert (digest.size_bytes, digest.adler32) == (300_264, "c6551b6f")
    assert digest.blake3 == "47ac4ea09a5e93f7c26b7140543aad7981b3a3eb4b5256023a62514b14c4d644"


@pytest.mark.parametrize(
    "other",
    [
        {"clear": b"pixels" * 499 + b"pixelz"},
        {"key": b"K" * 32},
        {"guid": OTHER},
    ],
)
def test_every_input_changes_every_secret(other):
    base = {"clear": b"pixels" * 500}
    one, two = sealed(**base), sealed(**{**base, **other})
    assert Header.parse(one).open(KEY.private_bytes_raw()) != Header.parse(two).open(KEY.private_bytes_raw())
    assert one[HEADER_BYTES : HEADER_BYTES + NONCE_BYTES] != two[HEADER_BYTES : HEADER_BYTES + NONCE_BYTES]
    assert one[24:56] != two[24:56]


def test_another_recipient_gets_another_ephemeral_key():
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()
    assert sealed(b"pixels")[24:56] != sealed(b"pixels", public=other)[24:56]


def test_a_second_pass_over_other_bytes_is_refused_by_length():
    sealer = siv.Sealer(b"k" * 32, GUID, PUBLIC)
    sealer.absorb(b"pixels")
    with pytest.raises(IntegrityError):
        list(sealer.seal().file([b"pixels!"]))
    with pytest.raises(IntegrityError):
        list(sealer.seal().file([b"pixel"]))


def test_nonces_tell_place_and_end():
    nonce = siv.segment_nonces(b"s" * 32)
    values = {nonce(index, last) for index in range(100) for last in (False, True)}
    assert len(values) == 200


@given(st.binary(min_size=32, max_size=80), st.lists(st.binary(max_size=40), max_size=4), st.integers(1, 200))
def test_keys_are_derived_by_hkdf(master, labels, length):
    info = b"srm-dicom" + b"".join(len(label).to_bytes(4, "big") + label for label in labels)
    assert derive(master, *labels, length=length) == HKDFExpand(SHA256(), length, info).derive(master)


def test_labels_of_derived_keys_do_not_run_together():
    assert derive(b"m" * 32, "a", "bc") != derive(b"m" * 32, "ab", "c")
    assert derive(b"m" * 32, "a") != derive(b"n" * 32, "a")
    with pytest.raises(ValueError, match="32 bytes"):
        derive(b"short", "a")


def test_digest_is_that_of_zlib_and_hashlib():
    digest = Digest()
    digest.update(b"Wiki")
    digest.update(memoryview(b"pedia"))
    assert (digest.size_bytes, digest.adler32) == (9, "11e60398")


def test_a_message_that_is_cut_anywhere_is_none():
    secret = bytes(range(32))
    content = bytes(2 * SEGMENT_BYTES + 5)
    message = b"".join(sealing.seal([PUBLIC], [content], secrets.token_bytes))
    assert sealing.unseal(secret, message) == content
    segments = range(HEADER_BYTES, len(message), SEALED_SEGMENT_BYTES)
    for cut in (*segments, len(message) - 1, HEADER_BYTES + 1, HEADER_BYTES - 1):
        with pytest.raises(IntegrityError):
            sealing.unseal(secret, message[:cut])

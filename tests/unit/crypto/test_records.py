"""Boxes, manifests and key charters: what is signed or sealed cannot be changed unnoticed."""

import json
import secrets
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.crypto import box, keyrecord, signing
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.keyrecord import Charter
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.crypto.shamir import Share, combine
from srm_dicom.errors import IntegrityError, KeyShareInvalid
from srm_dicom.ids import Guid
from srm_dicom.rights.project import Release

SITE = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"t" * 32)
TRUSTED = signing.trusting(SITE.public_key())
UNTIL = datetime(2030, 1, 1, tzinfo=UTC)
MANIFEST = Manifest(
    guid=Guid("6f9619ff-8b86-4d01-b42d-00c04fc964ff"),
    generation=2,
    size_bytes=6,
    adler32="08e8028f",
    blake3="8b3a3a4d" * 8,
    release=Release("lung", "basic", "v1"),
    public_key=b"p" * 32,
    header_blake3="8b3a3a4e" * 8,
)


def records(private_key=b"x" * 32, **changed):
    settings = {"k": 2, "n": 3, "valid_until": UNTIL, "signing_key": SITE} | changed
    return keyrecord.issue(private_key, random_bytes=secrets.token_bytes, **settings)


def test_a_manifest_comes_back_for_its_signer_only():
    text = MANIFEST.sign(SITE)
    assert Manifest.verify(text, SITE.public_key()) == MANIFEST
    assert Manifest.verify(text, TRUSTED) == MANIFEST
    assert signing.signer_of(text) == signing.fingerprint(SITE.public_key())
    with pytest.raises(IntegrityError, match="not known"):
        Manifest.verify(text, STRANGER.public_key())


@given(st.data())
def test_no_character_of_a_manifest_can_be_changed(data):
    text = MANIFEST.sign(SITE)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    with pytest.raises(IntegrityError):
        Manifest.verify(text[:at] + other + text[at + 1 :], TRUSTED)


@given(st.text(max_size=100))
def test_any_text_is_not_a_manifest(text):
    with pytest.raises(IntegrityError):
        Manifest.verify(text, TRUSTED)


def test_one_content_has_one_text():
    text = MANIFEST.sign(SITE)
    for other in (json.dumps(json.loads(text)), text + "\n", text.replace("{", '{"body":{},', 1)):
        with pytest.raises(IntegrityError):
            Manifest.verify(other, TRUSTED)


def test_a_signature_for_one_purpose_is_no_other():
    with pytest.raises(IntegrityError):
        Charter.verify(MANIFEST.sign(SITE), TRUSTED)


def test_a_manifest_knows_its_file():
    digest = Digest()
    digest.update(b"sealed")
    right = replace(MANIFEST, blake3=digest.blake3)
    right.check(digest)
    for wrong in (MANIFEST, replace(right, size_bytes=7)):
        with pytest.raises(IntegrityError):
            wrong.check(digest)


def test_any_two_records_give_the_key():
    one, two, three = records()
    for pair in ((one, two), (one, three), (three, two)):
        assert combine([record.share for record in pair]) == b"x" * 32
    assert one.charter.key_id == keyrecord.key_id_of(one.charter.public_key)
    assert Charter.verify(one.charter.text, TRUSTED) == one.charter


def test_a_charter_that_is_only_read_says_the_same():
    text = records()[0].charter.text
    assert Charter.read(text, TRUSTED) == Charter.verify(text, TRUSTED)
    with pytest.raises(IntegrityError, match="not known"):
        Charter.read(text, signing.trusting(STRANGER.public_key()))


@given(st.data())
def test_what_is_read_of_a_changed_charter_is_one_or_none(data):
    text = records()[0].charter.text
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters()) + text[at + 1 :]
    with suppress(IntegrityError):
        assert Charter.read(changed, TRUSTED).text == changed


@given(st.text(max_size=100))
def test_any_text_is_not_a_charter(text):
    with pytest.raises(IntegrityError):
        Charter.read(text, TRUSTED)


def test_a_charter_names_its_project_and_need_not():
    for project in ("heart", ""):
        charter = records(project=project)[0].charter
        assert charter.project == keyrecord.project_of(charter.text) == project
    assert "project" not in charter.text, "the text of charters that name none is what it always was"


def test_a_share_is_good_in_its_place_only():
    one, two, _ = records()
    one.charter.check(one.share)
    stale = records(generation=2)[0]
    other = records(b"y" * 32)[0]
    wrong = [
        Share(1, bytes(32)),
        Share(2, one.share.data),
        Share(4, one.share.data),
        Share(0, one.share.data),
        stale.share,
        other.share,
        Share(1, two.share.data),
    ]
    for share in wrong:
        with pytest.raises(KeyShareInvalid):
            one.charter.check(share)


def test_a_stranger_cannot_charter_a_key():
    with pytest.raises(IntegrityError):
        Charter.verify(records(signing_key=STRANGER)[0].charter.text, TRUSTED)


def test_a_record_does_not_show_its_share():
    assert records()[0].share.data.hex() not in repr(records()[0])
    assert "data" not in repr(records()[0].share)


@pytest.mark.parametrize(
    "change",
    [
        {"k": 4},
        {"n": 2},
        {"hashes": []},
        {"generation": 0},
        {"valid_until": "soon"},
        {"key_id": "a b"},
        {"project": "a b"},
    ],
)
def test_a_charter_that_makes_no_sense_is_refused_though_signed(change):
    body = json.loads(records()[0].charter.text)["body"] | change
    with pytest.raises(IntegrityError):
        Charter.verify(signing.sign("key charter", body, SITE), TRUSTED)


def test_a_box_opens_in_its_context_only():
    sealed = box.seal_box(b"k" * 32, "ref", b"1.2.3")
    assert sealed == box.seal_box(b"k" * 32, "ref", b"1.2.3")
    assert len(sealed) == 5 + box.OVERHEAD_BYTES
    assert box.open_box(b"k" * 32, "ref", sealed) == b"1.2.3"
    for key, context, content in [
        (b"K" * 32, "ref", sealed),
        (b"k" * 32, "other", sealed),
        (b"k" * 32, "ref", sealed[:-1]),
        (b"k" * 32, "ref", b""),
        (b"k" * 32, "ref", bytes([sealed[0] ^ 1]) + sealed[1:]),
    ]:
        with pytest.raises(IntegrityError):
            box.open_box(key, context, content)


def test_a_text_that_is_nothing_but_depth_is_no_signed_text():
    deep = '{"body":{"a":' + "[" * 30_000 + "]" * 30_000 + '},"signature":"' + "0" * 128 + '","signer":"x"}'
    with pytest.raises(IntegrityError):
        signing.verify("anything", deep, {})

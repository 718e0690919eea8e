"""What a record has to be before this server keeps it, and Hydra's attribute names for it.

A record is kept only when a configured registering site signed its charter and the share is the one
that the charter names for its index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mdm_keys.store import HeldShare
from srm_dicom.crypto.keyrecord import CIPHER, KEY_BYTES, Charter, project_of
from srm_dicom.crypto.shamir import Share
from srm_dicom.errors import InvalidRequest
from srm_dicom.wire.hydra.contract import Attribute, SharedKey

ATTRIBUTES = (
    Attribute("edscipher", type="VARCHAR(50)"),
    Attribute("edskey", type="VARCHAR(200)"),
    Attribute("edsiv", type="VARCHAR(200)"),
    Attribute("edskeyinfo", type="VARCHAR(10)"),
    Attribute("edskeyindex", type="INT"),
    Attribute("edskeysneeded", type="INT"),
    Attribute("edskeygeneration", type="INT"),
    Attribute("edskeycommitments", type="TEXT"),
    Attribute("edskeyproject", type="VARCHAR(128)"),
)
"""The schema ``eds``: Hydra's own columns, the two that make a share verifiable, and the signed project."""

_TYPES = {attribute.name: attribute.type for attribute in ATTRIBUTES}


def check(record: SharedKey, sites: Mapping[str, Ed25519PublicKey]) -> HeldShare:
    """Return a record as a row if it may be kept.

    Raises:
        IntegrityError: its charter is not signed by one of `sites`.
        KeyShareInvalid: its share is not the one that was signed.
        InvalidRequest: it speaks of another key, or is not made of hex digits.
    """
    charter = Charter.verify(record.charter, sites)
    if charter.key_id != record.item:
        raise InvalidRequest("the charter is another key's")
    share = Share(record.index, _from_hex(record.share))
    charter.check(share)
    return HeldShare(
        key_id=charter.key_id,
        generation=charter.generation,
        k=charter.k,
        index=share.index,
        share=share.data,
        public_key=charter.public_key,
        valid_until=charter.valid_until,
        charter=charter.text,
    )


def shared_key(held: HeldShare) -> SharedKey:
    """Return a row as a bulk call's record."""
    return SharedKey(held.key_id, held.index, held.share.hex(), held.charter)


def described(shares: Iterable[HeldShare]) -> tuple[SharedKey, ...]:
    """Return rows as records without their shares."""
    return tuple(SharedKey(held.key_id, held.index, "", held.charter) for held in shares)


def attributes(held: HeldShare) -> dict[str, Attribute]:
    """Return a row as Hydra's attributes, by name; hex digits are upper-case as Hydra's are."""
    values = {
        "edscipher": CIPHER,
        "edskey": held.share.hex().upper(),
        "edsiv": "",
        "edskeyinfo": str(KEY_BYTES * 8),
        "edskeyindex": str(held.index),
        "edskeysneeded": str(held.k),
        "edskeygeneration": str(held.generation),
        "edskeycommitments": held.charter,
        "edskeyproject": project_of(held.charter),
    }
    return {name: Attribute(name, value, _TYPES[name]) for name, value in values.items()}


def record(key_id: str, given: Mapping[str, str], sites: Mapping[str, Ed25519PublicKey]) -> HeldShare:
    """Return attributes as a row if they may be kept; what the charter knows may be left out.

    Raises:
        IntegrityError, KeyShareInvalid: as `check`.
        InvalidRequest: as `check`, or attributes are missing or contradict the charter.
    """
    missing = {"edskey", "edskeyindex", "edskeycommitments"} - set(given)
    if missing:
        raise InvalidRequest(f"a record needs {', '.join(sorted(missing))}")
    index = given["edskeyindex"]
    if not (index.isascii() and index.isdigit()):
        raise InvalidRequest("edskeyindex is a number")
    held = check(SharedKey(key_id, int(index), given["edskey"], given["edskeycommitments"]), sites)
    signed = attributes(held)
    for name, value in given.items():
        if name not in signed:
            raise InvalidRequest("a record has no such attribute")
        if name != "edskey" and value != signed[name].value:
            raise InvalidRequest(f"{name} is not what the charter says")
    return held


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InvalidRequest("a share is written in hex digits") from error

"""What a key server keeps of one key: its share, and what the registering site signed about all shares.

`Charter` is the signed part, the same on every server: key id, generation, k, n, public key, end of
validity, project and the SHA-256 of every share. So a server knows that the share it was sent is the one
that was meant for its index, and a client names the server whose share is wrong, stale or another key's.
A hash covers the whole place of a share (key id, generation, index): shares cannot be swapped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.crypto import shamir, signing
from srm_dicom.crypto.shamir import Share
from srm_dicom.errors import IntegrityError, InvalidRequest, KeyShareInvalid

CIPHER = "crypt4gh-x25519"
KEY_BYTES = 32
KEY_ID = "[A-Za-z0-9_:-]{1,128}"
"""No dot among them: an id stands in audit logs, where nothing may look like a UID of DICOM."""

_PURPOSE = "key charter"
_TIME = "%Y-%m-%dT%H:%M:%SZ"

_Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]


class _Body(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    key_id: Annotated[str, msgspec.Meta(pattern=f"^{KEY_ID}\\Z")]
    generation: Annotated[int, msgspec.Meta(ge=1)]
    k: Annotated[int, msgspec.Meta(ge=1, le=shamir.MAX_SHARES)]
    n: Annotated[int, msgspec.Meta(ge=1, le=shamir.MAX_SHARES)]
    hashes: list[_Hex32]
    public_key: _Hex32
    valid_until: Annotated[str, msgspec.Meta(pattern="^[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}:){2}[0-9]{2}Z\\Z")]
    project: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{0,128}\\Z")] = ""
    unproven: bool = False


class _Claimed(msgspec.Struct, forbid_unknown_fields=True):
    body: _Body
    signature: str
    signer: str


class _Told(msgspec.Struct):
    """As much of a charter's body as `project_of` and `is_unproven` want."""

    project: str = ""
    unproven: bool = False


class _Text(msgspec.Struct):
    body: _Told


_A_KEY_ID = re.compile(rf"{KEY_ID}\Z")

_CLAIMED = msgspec.json.Decoder(_Claimed)
_TEXT = msgspec.json.Decoder(_Text)


@dataclass(frozen=True, slots=True)
class Charter:
    """What the registering site signed about a generation of a key.

    Attributes:
        key_id: the name of the key; unique per server.
        generation: from 1; a reshare makes the next one.
        k: shares needed.
        n: shares made.
        hashes: of every share in the order of index, 64 hex digits each.
        public_key: X25519, 32 bytes; the rebuilt key has to belong to it.
        valid_until: no server releases a share after it; whole seconds, UTC.
        project: what the key is released for, which is who pays; empty in charters that name none.
        unproven: of a generation that nobody could compare with the one before, which therefore stays.
        text: the signed text, which is what servers keep and hand out.
    """

    key_id: str
    generation: int
    k: int
    n: int
    hashes: tuple[str, ...]
    public_key: bytes
    valid_until: datetime
    project: str
    unproven: bool
    text: str

    @classmethod
    def verify(cls, text: str, keys: Mapping[str, Ed25519PublicKey]) -> Charter:
        """Read a signed charter.

        Args:
            text: the signed text.
            keys: the registering sites' keys, by `signing.fingerprint`.

        Raises:
            IntegrityError: not a charter, or not signed by any of these.
        """
        try:
            body = msgspec.convert(signing.verify(_PURPOSE, text, keys), _Body)
        except msgspec.ValidationError as error:
            raise IntegrityError("a key charter has a field that makes no sense") from error
        return cls._of(body, text)

    @classmethod
    def read(cls, text: str, keys: Mapping[str, Ed25519PublicKey]) -> Charter:
        """Read what claims to be a signed charter, without looking at its signature, which costs most.

        For who can tell otherwise whether what it says is true, and verifies it when it is not.

        Args:
            text: the text.
            keys: the registering sites' keys, by `signing.fingerprint`.

        Raises:
            IntegrityError: not a charter, or it does not claim to be signed by any of these.
        """
        if len(text) > signing.MAX_TEXT_CHARS:
            raise IntegrityError("a signed text is too long")
        try:
            claimed = _CLAIMED.decode(text)
        except ValueError as error:  # msgspec's and Unicode's
            raise IntegrityError("not a key charter") from error
        if claimed.signer not in keys:
            raise IntegrityError(f"the signer of a {_PURPOSE} is not known here")
        return cls._of(claimed.body, text)

    @classmethod
    def _of(cls, body: _Body, text: str) -> Charter:
        try:
            valid_until = datetime.fromisoformat(body.valid_until)
        except ValueError as error:
            raise IntegrityError("a key charter has a time that makes no sense") from error
        if not body.k <= body.n == len(body.hashes):
            raise IntegrityError("a key charter contradicts itself")
        return cls(
            key_id=body.key_id,
            generation=body.generation,
            k=body.k,
            n=body.n,
            hashes=tuple(body.hashes),
            public_key=bytes.fromhex(body.public_key),
            valid_until=valid_until,
            project=body.project,
            unproven=body.unproven,
            text=text,
        )

    def check(self, share: Share) -> None:
        """Compare a share with its signed hash.

        Raises:
            KeyShareInvalid: it is not the share that this index has in this generation.
        """
        if not 1 <= share.index <= self.n:
            raise KeyShareInvalid(f"the key has no share {share.index}")
        if share_hash(self.key_id, self.generation, share) != self.hashes[share.index - 1]:
            raise KeyShareInvalid(f"share {share.index} is wrong, stale or another key's")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One server's record of one key."""

    charter: Charter
    share: Share


def project_of(text: str) -> str:
    """Return the project of a charter that has been verified already: for many of them, quickly."""
    return _TEXT.decode(text).body.project


def is_unproven(text: str) -> bool:
    """Tell whether a charter that has been verified already is of a generation that replaces none."""
    return _TEXT.decode(text).body.unproven


def check_key_id(text: str) -> None:
    """Refuse what can be no key's id.

    Raises:
        InvalidRequest: it is none.
    """
    if not _A_KEY_ID.match(text):
        raise InvalidRequest("a key id has 1 to 128 characters of [A-Za-z0-9_:-]")


def key_id_of(public_key: bytes) -> str:
    """Return the id under which this site registers a key pair."""
    return hashlib.sha256(b"srm-dicom key id" + public_key).hexdigest()[:40]


def share_hash(key_id: str, generation: int, share: Share) -> str:
    """Return the hash of a share in its place, 64 hex digits."""
    place = f"srm-dicom share\n{key_id}\n{generation}\n{share.index}\n".encode()
    return hashlib.sha256(place + share.data).hexdigest()


def issue(  # noqa: PLR0913 - what is signed has this many parts
    private_key: bytes,
    *,
    k: int,
    n: int,
    valid_until: datetime,
    signing_key: Ed25519PrivateKey,
    random_bytes: Callable[[int], bytes],
    key_id: str | None = None,
    generation: int = 1,
    project: str = "",
) -> list[KeyRecord]:
    """Split a private key into the records of n servers.

    Args:
        private_key: X25519, 32 bytes; not kept.
        k: shares needed.
        n: shares made.
        valid_until: aware; whole seconds count.
        signing_key: the registering site's.
        random_bytes: secret, uniformly random bytes.
        key_id: another id than `key_id_of` the public key.
        generation: of the shares.
        project: what the key is released for.
    """
    public_key = X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
    key_id = key_id or key_id_of(public_key)
    shares = shamir.split(private_key, k, n, random_bytes)
    charter = sign_charter(
        key_id,
        generation=generation,
        k=k,
        hashes=[share_hash(key_id, generation, share) for share in shares],
        public_key=public_key,
        valid_until=valid_until,
        signing_key=signing_key,
        project=project,
    )
    return [KeyRecord(charter, share) for share in shares]


def sign_charter(  # noqa: PLR0913 - what is signed has this many parts
    key_id: str,
    *,
    generation: int,
    k: int,
    hashes: Sequence[str],
    public_key: bytes,
    valid_until: datetime,
    signing_key: Ed25519PrivateKey,
    project: str = "",
    unproven: bool = False,
) -> Charter:
    """Sign what every server of a generation keeps; `hashes` are the shares' in the order of index."""
    body = _Body(
        key_id=key_id,
        generation=generation,
        k=k,
        n=len(hashes),
        hashes=list(hashes),
        public_key=public_key.hex(),
        valid_until=valid_until.astimezone(UTC).strftime(_TIME),
        project=project,
        unproven=unproven,
    )
    text = signing.sign(_PURPOSE, msgspec.to_builtins(body), signing_key)
    return Charter.verify(text, signing.trusting(signing_key.public_key()))

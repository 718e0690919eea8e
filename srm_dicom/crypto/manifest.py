"""Who made this file: what the site signed about the sealed bytes of one generation.

The manifest stands in the namespace row and beside the file at every door. Whoever has the site's
public key can tell a whole, untouched file of this GUID from anything else without being able to open
it; whoever opens it checks the manifest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from srm_dicom.crypto import signing
from srm_dicom.crypto.digest import Proof, blake3_of
from srm_dicom.errors import IntegrityError
from srm_dicom.ids import Guid
from srm_dicom.rights.project import Release

_PURPOSE = "manifest"

Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*\\Z")]


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    guid: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\\Z")]
    generation: Annotated[int, msgspec.Meta(ge=1)]
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]
    adler32: Annotated[Hex, msgspec.Meta(min_length=8, max_length=8)]
    blake3: Annotated[Hex, msgspec.Meta(min_length=64, max_length=64)]
    project: str
    profile: str
    profile_version: str
    public_key: Annotated[Hex, msgspec.Meta(max_length=64)]
    header_blake3: Annotated[Hex, msgspec.Meta(max_length=64)] = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Facts of a file's sealed bytes.

    Attributes:
        generation: from 1; grows when the file is sealed to other bytes.
        adler32: 8 lower-case hex digits.
        blake3: 64 lower-case hex digits, of the sealed bytes.
        public_key: X25519, 32 bytes; empty for a file that is not sealed.
        header_blake3: of the Crypt4GH header, so that whoever reads a part knows that the session key,
            and with it every segment that opens, is the site's; empty for a file that is not sealed.
    """

    guid: Guid
    generation: int
    size_bytes: int
    adler32: str
    blake3: str
    release: Release
    public_key: bytes
    header_blake3: str = ""

    def sign(self, key: Ed25519PrivateKey) -> str:
        """Return the manifest as JSON text under the site's signature."""
        body = _Body(
            guid=self.guid,
            generation=self.generation,
            size_bytes=self.size_bytes,
            adler32=self.adler32,
            blake3=self.blake3,
            project=self.release.project,
            profile=self.release.profile,
            profile_version=self.release.version,
            public_key=self.public_key.hex(),
            header_blake3=self.header_blake3,
        )
        return signing.sign(_PURPOSE, msgspec.to_builtins(body), key)

    @classmethod
    def verify(cls, text: str, keys: Ed25519PublicKey | Mapping[str, Ed25519PublicKey]) -> Manifest:
        """Read a signed manifest.

        Args:
            text: what `sign` returned.
            keys: the site's public key, or those of all known sites by `signing.fingerprint`.

        Raises:
            IntegrityError: the text is not a manifest, or none of these keys signed it.
        """
        if isinstance(keys, Ed25519PublicKey):
            keys = signing.trusting(keys)
        try:
            body = msgspec.convert(signing.verify(_PURPOSE, text, keys), _Body)
        except msgspec.ValidationError as error:
            raise IntegrityError("a manifest has a field that makes no sense") from error
        return cls(
            guid=Guid(body.guid),
            generation=body.generation,
            size_bytes=body.size_bytes,
            adler32=body.adler32,
            blake3=body.blake3,
            release=Release(body.project, body.profile, body.profile_version),
            public_key=bytes.fromhex(body.public_key),
            header_blake3=body.header_blake3,
        )

    def check(self, proof: Proof) -> None:
        """Compare the manifest with sealed bytes that were read; their adler32 follows from their BLAKE3.

        Raises:
            IntegrityError: they are not the bytes that the site signed.
        """
        if (proof.size_bytes, proof.blake3) != (self.size_bytes, self.blake3):
            raise IntegrityError("the file is not the one that its site signed")

    def check_header(self, header: bytes) -> None:
        """Compare the manifest with the header of a sealed file of which only parts are read.

        Raises:
            IntegrityError: it is not the header that the site signed.
        """
        if blake3_of(header) != self.header_blake3:
            raise IntegrityError("the file's header is not the one that its site signed")

"""What a user's tools need to know of a site: its endpoints, and whose signature is on its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from srm_dicom.crypto import signing
from srm_dicom.errors import ConfigError

ENVIRONMENT = "MDM_SITE"
"""The variable that names the description; a site's administrator hands the file out."""


class SiteDescription(msgspec.Struct, frozen=True):
    """``site.json``; other keys in it are for people and other programs.

    Attributes:
        srm: endpoint of the storage server, ``httpg://host:port/srm/managerv2``.
        files: URL of the file catalogue.
        metadata: ``host:port`` of every metadata server.
        keys: URL of every key server.
        signing_keys: Ed25519 public keys of the site, hexadecimal; its manifests bear one of them.
        gridftp: ``gsiftp://host:port`` where files will most likely be, to log in while they are staged;
            TURLs decide.
    """

    name: str
    srm: str
    files: str
    metadata: tuple[str, ...]
    keys: tuple[str, ...]
    signing_keys: tuple[str, ...]
    gridftp: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> SiteDescription:
        """Read the file that ``MDM_SITE`` names, or ``~/.config/mdm/site.json``.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        default = Path(environ.get("HOME", "/")) / ".config" / "mdm" / "site.json"
        path = Path(environ.get(ENVIRONMENT) or default)
        try:
            site = msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(
                f"{path}: {error.strerror}", advice=f"Set {ENVIRONMENT} to the site.json of your site."
            ) from error
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}: {error}") from error
        try:
            site.trusted_signers()
        except ValueError as error:
            raise ConfigError(f"{path}: signing_keys: {error}") from error
        return site

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as they stand in the file."""
        table: dict[str, Any] = msgspec.to_builtins(self)
        return table

    def trusted_signers(self) -> dict[str, Ed25519PublicKey]:
        """Return the site's signing keys as `crypto.manifest` wants them."""
        keys = (Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) for key in self.signing_keys)
        return signing.trusting(*keys)

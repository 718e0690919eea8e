"""An issuer of WLCG tokens, with a key of its own, for tests of the doors that take them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from srm_dicom.clock import SystemClock
from srm_dicom.identity.tokens import Issuer, TokenSettings, TokenVerifier

URL = "https://issuer.example.org/"
AUDIENCE = "site"


class TestIssuer:
    """Signs what it is asked to."""

    __test__ = False  # for pytest: this is no test

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())

    def verifier(self, names: Mapping[str, str]) -> TokenVerifier:
        """Make what a door believes this issuer with.

        Args:
            names: certificate names by the subject of a token.
        """
        keys, mapped = self._directory / "keys.jwks", self._directory / "token-map"
        key = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(self._key.public_key()))
        keys.write_text(json.dumps({"keys": [key]}))
        mapped.write_text("".join(f'"token:{URL}#{subject}" "{dn}"\n' for subject, dn in names.items()))
        issuer = Issuer(url=URL, audiences=(AUDIENCE,), keys=str(keys))
        return TokenVerifier(TokenSettings((issuer,), mapped), SystemClock())

    def token(self, subject: str, scope: str, *, lifetime_s: int = 600) -> str:
        """Sign a token."""
        now = int(time.time())
        claims = {"iss": URL, "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + lifetime_s}
        return jwt.encode({**claims, "scope": scope}, self._key, algorithm="ES256")

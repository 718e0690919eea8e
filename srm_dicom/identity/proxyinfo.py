"""The proxyCertInfo extension of RFC 3820, section 3.8, and the policy languages that we know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asn1crypto import core
from cryptography import x509

PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
DRAFT_PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.4.1.3536.1.222")
INHERIT_ALL = "1.3.6.1.5.5.7.21.1"
INDEPENDENT = "1.3.6.1.5.5.7.21.2"
LIMITED = "1.3.6.1.4.1.3536.1.1.1.9"


class _Policy(core.Sequence):
    _fields = [("language", core.ObjectIdentifier), ("text", core.OctetString, {"optional": True})]  # noqa: RUF012


class _Info(core.Sequence):
    _fields = [("path_length", core.Integer, {"optional": True}), ("policy", _Policy)]  # noqa: RUF012


_CODEC: Any = _Info  # asn1crypto has no annotations


@dataclass(frozen=True, slots=True)
class ProxyInfo:
    """What a proxy certificate says about itself: how deep it may be extended, and under what policy."""

    language: str
    path_length: int | None = None
    text: bytes | None = None

    def der(self) -> bytes:
        """Encode the value of the extension."""
        info = _CODEC({"policy": {"language": self.language, "text": self.text}})
        if self.path_length is not None:
            info["path_length"] = self.path_length
        return bytes(info.dump())

    @classmethod
    def parse(cls, der: bytes) -> ProxyInfo:
        """Decode the value of the extension.

        Raises:
            ValueError: not the DER of a ProxyCertInfo.
        """
        try:
            info = _CODEC.load(der, strict=True)
            policy = info["policy"]
            return cls(policy["language"].dotted, info["path_length"].native, policy["text"].native)
        except (TypeError, KeyError) as error:
            raise ValueError("malformed proxyCertInfo") from error

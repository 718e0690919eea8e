"""The client's side: which certificate and key to show, and whom to trust."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from srm_dicom.errors import NotAuthenticated

SYSTEM_TRUST = Path("/etc/grid-security/certificates")
TRUST_ADVICE = "X509_CERT_DIR names the directory of the authorities that you trust: is it the right one?"


class Shown(Protocol):
    """What a client shows to servers: a certificate and key, or nothing, and whom it believes."""

    def client_context(self, *, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """Build a context that shows it and verifies the server, its host name included.

        Raises:
            NotAuthenticated: it is not usable.
        """


@dataclass(frozen=True, slots=True)
class HostCredential:
    """Certificate (chain) and key of a server, two PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Credential:
    """A user's certificate and key and the directory of the authorities that the user trusts.

    A proxy is one PEM file (certificate, key, chain): `certificate` and `key` are then the same path.
    """

    certificate: Path
    key: Path
    trust: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Credential:
        """Find the credential where every grid client looks for it, in the same order.

        Raises:
            NotAuthenticated: there is none.
        """
        home = Path(environ.get("HOME", "/")) / ".globus"
        trust = Path(environ.get("X509_CERT_DIR") or _first((home / "certificates", SYSTEM_TRUST)))
        if named := environ.get("X509_USER_PROXY"):
            proxy = Path(named)
            return cls(_must_exist(proxy), proxy, trust)
        proxy = Path(f"/tmp/x509up_u{os.getuid()}")  # noqa: S108 the place that grid-proxy-init writes to
        if "X509_USER_CERT" not in environ and proxy.exists():
            return cls(proxy, proxy, trust)
        certificate = Path(environ.get("X509_USER_CERT") or home / "usercert.pem")
        key = Path(environ.get("X509_USER_KEY") or home / "userkey.pem")
        return cls(_must_exist(certificate), _must_exist(key), trust)

    def client_context(self, *, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """Build a context that shows this credential and verifies the server, its host name included.

        Raises:
            NotAuthenticated: the files cannot be read or do not belong together.
        """
        context = trusting(self.trust, maximum)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except ssl.SSLError as error:
            files = " and ".join(dict.fromkeys(map(str, (self.certificate, self.key))))
            raise NotAuthenticated(f"no certificate with its key in {files}") from error
        except OSError as error:
            raise NotAuthenticated(f"{self.certificate}: {error.strerror or error}") from error
        return context


@dataclass(frozen=True, slots=True)
class Nobody:
    """A client without a certificate: a header says who it is, if anything does."""

    trust: Path

    def client_context(self, *, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """Build a context that verifies the server; see `Shown.client_context`."""
        return trusting(self.trust, maximum)


def trusting(directory: Path, maximum: ssl.TLSVersion) -> ssl.SSLContext:
    """Build a client's context that believes the authorities of a directory and shows nothing.

    Raises:
        NotAuthenticated: the directory cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = maximum
    if not directory.is_dir():  # OpenSSL would only find no authority in it
        raise NotAuthenticated(f"{directory} is no directory", advice=TRUST_ADVICE)
    try:
        context.load_verify_locations(capath=str(directory))
    except (OSError, ssl.SSLError) as error:
        raise NotAuthenticated(f"{directory}: {error.strerror or error}") from error
    return context


def refusal(server: str, error: ssl.SSLError) -> NotAuthenticated | None:
    """Return what an alert says of the credential that was shown to a server; None for another error."""
    _, alert, reason = (error.reason or "").partition("ALERT_")
    if not alert:
        return None
    return NotAuthenticated(f"{server} refused the credential: {reason.lower().replace('_', ' ')}")


def _first(candidates: tuple[Path, ...]) -> Path:
    return next((path for path in candidates if path.is_dir()), candidates[-1])


def _must_exist(path: Path) -> Path:
    if not path.is_file():
        raise NotAuthenticated(f"no credential at {path}")
    return path

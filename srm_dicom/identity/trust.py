"""The trust directory: authorities, their signing policies and revocation lists, as of now.

`TrustDirectory.current` hands out an immutable `Trust` and reads the directory again when any file of
it has changed; it looks at most once every `look_every_s`. OpenSSL reads the same directory by itself
at every handshake; what is parsed here serves the checks that OpenSSL does not make.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509

from srm_dicom.clock import Clock
from srm_dicom.errors import ConfigError, InvalidRequest, NotAuthenticated
from srm_dicom.identity import dn, policy
from srm_dicom.telemetry import logger

log = logger("identity")

_STEM = re.compile(r"(?P<stem>[0-9a-f]{8})\.(?P<kind>[0-9]|r[0-9]|signing_policy)\Z")
MAX_FILE_BYTES = 64 * 1024 * 1024

Stamp = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Trust:
    """One state of the directory.

    Attributes:
        policies: who may sign whom.
        authorities: certificates by the DER of their subject.
        crl_files: where the revocation lists of an authority are, by the DER of its subject.
    """

    policies: policy.SigningPolicies
    authorities: dict[bytes, list[x509.Certificate]]
    crl_files: dict[bytes, list[Path]]
    _crls: dict[Path, x509.CertificateRevocationList] = field(default_factory=dict)

    def is_anchor(self, certificate: x509.Certificate) -> bool:
        """Say whether exactly this certificate is in the directory."""
        return certificate in self.authorities.get(certificate.subject.public_bytes(), ())

    def check_revocation(
        self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime, *, required: bool
    ) -> None:
        """Refuse a certificate that its issuer has revoked.

        A list counts when its issuer signed it, it is current, and it has no critical extension (such
        a list would be partial). A list that does not count is no reason to pass: only the complete
        absence of lists is, where `required` is false.

        Raises:
            NotAuthenticated: revoked, or no list that counts.
        """
        name = dn.printable(certificate.subject)
        files = self.crl_files.get(issuer.subject.public_bytes(), [])
        if not files and not required:
            return
        good = [crl for crl in map(self._crl, files) if crl is not None and _counts(crl, issuer, now)]
        if not good:
            raise NotAuthenticated(f"{name}: no current revocation list of its authority")
        if any(crl.get_revoked_certificate_by_serial_number(certificate.serial_number) for crl in good):
            raise NotAuthenticated(f"{name}: certificate revoked")

    def _crl(self, path: Path) -> x509.CertificateRevocationList | None:
        if path not in self._crls:
            try:
                self._crls[path] = _load_crl(_read(path))
            except (OSError, ValueError):
                return None
        return self._crls[path]


def _counts(crl: x509.CertificateRevocationList, issuer: x509.Certificate, now: datetime) -> bool:
    until = crl.next_update_utc
    try:
        return (
            crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
            and crl.last_update_utc <= now
            and (until is not None and now < until)
            and not any(extension.critical for extension in crl.extensions)
        )
    except (TypeError, ValueError):
        return False


class TrustDirectory:
    """Watches one directory of authorities."""

    def __init__(self, path: Path, clock: Clock, *, look_every_s: float = 1.0) -> None:
        self._path = path
        self._clock = clock
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self._stamps: Sequence[Stamp] | None = None
        self._looked_s = float("-inf")
        self._trust = Trust(policy.SigningPolicies(), {}, {})

    def current(self) -> Trust:
        """Return the present state of the directory.

        Raises:
            ConfigError: the directory cannot be read.
        """
        with self._lock:
            now_s = self._clock.monotonic_s()
            if now_s - self._looked_s >= self._look_every_s:
                try:
                    stamps = _stamps(self._path)
                    if stamps != self._stamps:
                        self._trust = load(self._path)
                except OSError as error:
                    raise ConfigError(f"the trust directory {self._path} cannot be read: {error}") from error
                self._stamps, self._looked_s = stamps, now_s
            return self._trust


def _stamps(directory: Path) -> list[Stamp]:
    stamps = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if _STEM.match(entry.name):
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                stamps.append((entry.name, status.st_ino, status.st_mtime_ns, status.st_size))
    return sorted(stamps)


def load(directory: Path) -> Trust:
    """Read a trust directory; a file that cannot be understood grants nothing and is logged.

    Raises:
        OSError: the directory itself cannot be listed.
    """
    rules: dict[str, tuple[re.Pattern[str], ...]] = {}
    authorities: dict[bytes, list[x509.Certificate]] = {}
    crl_files: dict[bytes, list[Path]] = {}
    stems: dict[str, set[bytes]] = {}
    matches = [match for path in sorted(directory.iterdir()) if (match := _STEM.match(path.name))]
    for match in matches:
        path = directory / match.string
        try:
            if match["kind"] == "signing_policy":
                for authority, patterns in policy.parse(_read(path).decode("utf-8")).items():
                    rules[authority] = (*rules.get(authority, ()), *patterns)
            elif match["kind"].isdigit():
                certificate = x509.load_pem_x509_certificate(_read(path))
                subject = certificate.subject.public_bytes()
                authorities.setdefault(subject, []).append(certificate)
                stems.setdefault(match["stem"], set()).add(subject)
        except (OSError, ValueError, InvalidRequest) as error:
            log.warning("trust_file_ignored", path=str(path), reason=str(error))
    for match in matches:
        if match["kind"].startswith("r"):
            for subject in stems.get(match["stem"], ()):
                crl_files.setdefault(subject, []).append(directory / match.string)
    return Trust(policy.SigningPolicies(rules), authorities, crl_files)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES)


def _load_crl(data: bytes) -> x509.CertificateRevocationList:
    if data.lstrip().startswith(b"-----BEGIN"):
        return x509.load_pem_x509_crl(data)
    return x509.load_der_x509_crl(data)

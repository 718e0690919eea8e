"""The trust directory: authorities, their policies, namespaces and revocation lists, as of now.

`TrustDirectory.current` hands out an immutable `Trust` and reads the directory again when any file of
it has changed; it looks at most once every `look_every_s`. OpenSSL reads the same directory by itself
at every handshake; what is parsed here serves the checks that OpenSSL does not make.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from srm_dicom.clock import Clock
from srm_dicom.errors import ConfigError, MdmError
from srm_dicom.identity import dn, namespaces, policy
from srm_dicom.identity.revocation import PASSING, Revocations
from srm_dicom.telemetry import logger

T = TypeVar("T")

log = logger("identity")

_STEM = re.compile(r"(?P<stem>[0-9a-f]{8})\.(?P<kind>[0-9]|r[0-9]|signing_policy|namespaces)\Z")
_MAX_FILE_BYTES = 1024 * 1024

Stamp = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Trust:
    """One state of the directory.

    Attributes:
        policies: who may sign whom.
        authorities: certificates by their subject, however its strings are encoded.
        revocations: their revocation lists.
    """

    policies: policy.SigningPolicies
    authorities: dict[x509.Name, list[x509.Certificate]]
    revocations: Revocations

    def is_anchor(self, certificate: x509.Certificate) -> bool:
        """Say whether exactly this certificate is in the directory."""
        return certificate in self.authorities.get(certificate.subject, ())


class TrustDirectory:
    """Watches one directory of authorities."""

    def __init__(self, path: Path, clock: Clock, *, look_every_s: float = 1.0) -> None:
        self._path = path
        self._clock = clock
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self._stamps: Sequence[Stamp] | None = None
        self._looked_s = float("-inf")
        self._trust = Trust(policy.SigningPolicies(), {}, Revocations({}))

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
                except OSError:  # gone meanwhile, or a link to nowhere
                    continue
                stamps.append((entry.name, status.st_ino, status.st_mtime_ns, status.st_size))
    return sorted(stamps)


def load(directory: Path) -> Trust:
    """Read a trust directory; a file that cannot be understood grants nothing and is logged.

    Raises:
        OSError: the directory itself cannot be listed, or nothing can be read now.
    """
    loader = _Loader(directory)
    matches = [match for path in sorted(directory.iterdir()) if (match := _STEM.match(path.name))]
    for match in sorted(matches, key=lambda match: not match["kind"].isdigit()):
        loader.take(directory / match.string, match["stem"], match["kind"])
    policies = policy.SigningPolicies(loader.rules, loader.narrowed)
    return Trust(policies, loader.authorities, Revocations(loader.crl_files))


class _Loader:
    """Sorts the files of one directory; the authorities have to come first."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stems: dict[str, set[x509.Name]] = {}
        self.rules: dict[str, tuple[re.Pattern[str], ...]] = {}
        self.narrowed: dict[str, tuple[namespaces.Rule, ...]] = {}
        self.authorities: dict[x509.Name, list[x509.Certificate]] = {}
        self.crl_files: dict[x509.Name, list[Path]] = {}

    def take(self, path: Path, stem: str, kind: str) -> None:
        try:
            if kind.isdigit():
                self._authority(path, stem)
            elif kind == "signing_policy":
                _extend(self.rules, policy.parse(_text(path)))
            elif kind == "namespaces":
                self._namespaces(path, stem)
            else:
                for subject in self._stems.get(stem, ()):
                    self.crl_files.setdefault(subject, []).append(path)
        except (OSError, ValueError, MdmError) as error:
            if isinstance(error, OSError) and error.errno in PASSING:
                raise
            log.warning("trust_file_ignored", path=str(path), reason=str(error))

    def _authority(self, path: Path, stem: str) -> None:
        certificate = x509.load_pem_x509_certificate(_read(path))
        self.authorities.setdefault(certificate.subject, []).append(certificate)
        self._stems.setdefault(stem, set()).add(certificate.subject)

    def _namespaces(self, path: Path, stem: str) -> None:
        for subject in self._stems.get(stem, ()):
            own_name = dn.canonical(subject)
            self.narrowed.setdefault(own_name, ())  # if the rest cannot be read: nothing is permitted
            _extend(self.narrowed, namespaces.parse(_text(path), own_name))


def _extend(known: dict[str, tuple[T, ...]], more: Mapping[str, tuple[T, ...]]) -> None:
    for name, values in more.items():
        known[name] = (*known.get(name, ()), *values)


def _text(path: Path) -> str:
    """Return the text of a file; bytes that are not UTF-8 stand in comments, and match no name elsewhere."""
    return _read(path).decode("utf-8-sig", "surrogateescape")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_FILE_BYTES)

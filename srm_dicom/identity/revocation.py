"""Revocation lists as files of a trust directory, read once and asked often.

OpenSSL checks the lists of a chain at every handshake, one list an authority. What is asked here beside it:
lists that OpenSSL would take although they are not the whole truth (a delta without its base), a second list
of the same authority that it passes over, and everything that happens outside a handshake: long sessions,
VOMS servers, sites that take authorities without any list.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity import dn

MAX_FILE_BYTES = 64 * 1024 * 1024
PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE})
"""What says nothing of a file, but of this moment: a busy process has no descriptor left for it."""
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension)


@dataclass(frozen=True)
class RevocationList:
    """One list, with what is asked of it again and again."""

    crl: x509.CertificateRevocationList

    @classmethod
    def read(cls, path: Path) -> RevocationList:
        """Read a file in PEM or DER.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no revocation list.
        """
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES)
        pem = data.lstrip().startswith(b"-----BEGIN")
        return cls(x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data))

    @cached_property
    def serials(self) -> frozenset[int]:
        """Serial numbers that are listed, for whatever reason."""
        return frozenset(entry.serial_number for entry in self.crl)

    @cached_property
    def is_complete(self) -> bool:
        """False for a list that speaks of a part of the certificates or reasons only."""
        return all(not extension.critical or _is_place(extension.value) for extension in self.crl.extensions)

    def is_current(self, now: datetime) -> bool:
        """Say whether the list holds now; one without an end never does."""
        until = self.crl.next_update_utc
        return until is not None and self.crl.last_update_utc <= now < until

    def is_signed_by(self, issuer: x509.Certificate) -> bool:
        """Verify the signature."""
        return self.crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]


def _is_place(value: x509.ExtensionType) -> bool:
    """Recognise an issuing distribution point that only says where the list is published."""
    if not isinstance(value, x509.IssuingDistributionPoint):
        return False
    parts = (
        value.only_contains_user_certs,
        value.only_contains_ca_certs,
        value.only_contains_attribute_certs,
        value.only_some_reasons,
        value.indirect_crl,
    )
    return not any(parts)


class Revocations:
    """The lists of one state of a trust directory.

    Args:
        files: where the lists of an authority are, by its subject.
    """

    def __init__(self, files: Mapping[x509.Name, Sequence[Path]]) -> None:
        self._files = files
        self._lists: dict[Path, RevocationList | None] = {}
        self._good: dict[tuple[Path, x509.Certificate], bool] = {}

    def check(
        self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime, *, required: bool
    ) -> None:
        """Refuse a certificate that its issuer has revoked.

        A list counts when its issuer signed it, it is current, and it is complete. A list that does not
        count is no reason to pass: only the absence of any list is, where `required` is false.

        Raises:
            NotAuthenticated: revoked, or no list that counts.
        """
        files = self._files.get(issuer.subject, ())
        if not files and not required:
            return
        counting = [one for path in files if (one := self._of(path, issuer)) and one.is_current(now)]
        if not counting:
            raise NotAuthenticated(
                f"{dn.printable(certificate.subject)}: no current revocation list of its authority"
            )
        if any(certificate.serial_number in one.serials for one in counting):
            raise NotAuthenticated(f"{dn.printable(certificate.subject)}: certificate revoked")

    def _of(self, path: Path, issuer: x509.Certificate) -> RevocationList | None:
        """Return the list of a file, if its authority signed it and it is complete.

        Raises:
            NotAuthenticated: it cannot be read now, and may be the one that matters.
        """
        if path not in self._lists:
            try:
                self._lists[path] = RevocationList.read(path)
            except (OSError, *_UNREADABLE) as error:
                if isinstance(error, OSError) and error.errno in PASSING:
                    raise NotAuthenticated("revocation lists cannot be read now") from error
                self._lists[path] = None
        found = self._lists[path]
        if found is None:
            return None
        if (path, issuer) not in self._good:
            try:
                self._good[path, issuer] = found.is_signed_by(issuer) and found.is_complete
            except _UNREADABLE:
                self._good[path, issuer] = False
        return found if self._good[path, issuer] else None

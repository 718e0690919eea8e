"""What ``plugins.d/dicom.toml`` may say of the archives that images come from."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from srm_dicom.plugin.api import Limits
from srm_plugin_dicom.hours import HoursSettings, Load, Rate, Visits, load_at, schedule
from srm_plugin_dicom.tls import TlsCredential

AeTitle = Annotated[str, Meta(pattern=r"^[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?$")]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class TlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """DICOM over TLS to an AE of our own, mutual.

    Attributes:
        certificate: PEM file of our certificate, with its chain.
        key: PEM file of its private key.
        authorities: PEM file of those who sign the certificates of the other side.
    """

    certificate: str
    key: str
    authorities: str

    def credential(self) -> TlsCredential:
        """Return it as the connections need it."""
        return TlsCredential(Path(self.certificate), Path(self.key), Path(self.authorities))


class SourceTlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """TLS to a source.

    Attributes:
        authorities: PEM file of those who sign the certificate of the source.
        certificate: PEM file of our certificate, with its chain; only DICOMweb can go without.
        key: PEM file of its private key.
        name: name in the certificate of the source, when it is not its host.
    """

    authorities: str
    certificate: str = ""
    key: str = ""
    name: str = ""

    def credential(self) -> TlsCredential:
        """Return it as the connections need it."""
        certificate = Path(self.certificate) if self.certificate else None
        key = Path(self.key) if self.key else None
        return TlsCredential(certificate, key, Path(self.authorities), self.name)


class _AnySource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """What every kind of source has.

    Attributes:
        name: the site's word for it; appears in logs and to users, so no identity in it.
        max_visits: batches that one stager may fetch from it at once.
        max_files_per_s: how many files it may be asked for, on average; 0 for as many as it sends.
        first_object_s: how long a visit waits for its first file; then it is broken off and others have its
            place, and it is tried again later, each time with twice the patience.
        first_pause_s: before it is asked again for what it did not deliver; every further pause is twice as
            long, up to `longest_pause_s`.
        kept_visits: of `max_visits`, how many are kept for users who have none there.
        user_files: files of one user that one stager has in hand for it, waiting for a visit; left out, 500.
        hours: times of the week with other limits.
        mirrors: names of sources that hold the same images, asked in this order when it does not deliver.
        tls: certificates, when it is spoken to over TLS.
    """

    name: str
    max_visits: Annotated[int, Meta(ge=1, le=64)] = 3
    max_files_per_s: Rate = 0.0
    first_object_s: Seconds = 10.0
    first_pause_s: Seconds | None = None
    longest_pause_s: Seconds | None = None
    kept_visits: Visits = 1
    user_files: Count | None = None
    hours: tuple[HoursSettings, ...] = ()
    mirrors: tuple[str, ...] = ()
    tls: SourceTlsSettings | None = None

    @property
    def usual(self) -> Load:
        """What it bears at all times that have no limits of their own."""
        return Load(self.max_visits, self.max_files_per_s, first_object_s=self.first_object_s)

    def load(self, at: datetime) -> Load:
        """Return what it bears at a time."""
        return load_at(self.usual, self.hours, at)

    def limits(self, at: datetime) -> tuple[Limits, ...]:
        """Return what it bears when, for people; nothing where that is always the same."""
        if not self.hours:
            return ()
        return tuple(
            Limits(load.note, load.max_visits, load.files_per_s, holds)
            for load, holds in schedule(self.usual, self.hours, at)
        )


class SourceSettings(_AnySource, frozen=True, forbid_unknown_fields=True, tag="dicom", kw_only=True):
    """A PACS that is asked over DICOM.

    Attributes:
        retrieve: how images come: `move` to our AE, or `get` on our own association.
        store_ae_titles: titles it stores under, when they differ from `ae_title`.
    """

    ae_title: AeTitle
    host: str
    port: Port
    retrieve: Literal["move", "get"] = "move"
    store_ae_titles: tuple[AeTitle, ...] = ()

    @property
    def senders(self) -> frozenset[str]:
        """AE titles under which its objects arrive."""
        return frozenset(self.store_ae_titles or (self.ae_title,))


class WebSourceSettings(_AnySource, frozen=True, forbid_unknown_fields=True, tag="dicomweb", kw_only=True):
    """A PACS that is asked over DICOMweb (PS3.18).

    Attributes:
        url: where its services begin, such as `https://pacs.hospital.example/dicom-web`.
        headers: file with header lines to send, such as `Authorization: Bearer ...`; mode 0600.
    """

    url: Annotated[str, Meta(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")]
    headers: str = ""


AnySourceSettings = SourceSettings | WebSourceSettings

"""What ``plugins.d/dicom.toml`` may say, checked before anything is opened."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from srm_dicom.errors import ConfigError, NotSupported
from srm_plugin_dicom.deidentify import PROFILES, PixelPolicy, SiteProfile, Trust
from srm_plugin_dicom.deidentify.blank import Rectangle
from srm_plugin_dicom.deidentify.detector import RapidText
from srm_plugin_dicom.deidentify.options import Option
from srm_plugin_dicom.deidentify.pixels import Blanking
from srm_plugin_dicom.deidentify.profile import profile
from srm_plugin_dicom.deidentify.series import transform
from srm_plugin_dicom.receiver import Peer
from srm_plugin_dicom.source_settings import (
    AeTitle,
    AnySourceSettings,
    Count,
    Port,
    Seconds,
    SourceSettings,
    TlsSettings,
    WebSourceSettings,
)

ProfileName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,15}$")]
Pixel = Annotated[int, Meta(ge=0)]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")


class NodeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An AE of our own; the PACS knows it by one line: title, this host, port.

    Attributes:
        tls: certificates; with them, it is spoken to over TLS only.
    """

    ae_title: AeTitle
    port: Port
    bind: str = "127.0.0.1"
    tls: TlsSettings | None = None


class PeerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node that may send arrivals; `source` is the PACS where they can be fetched again."""

    ae_title: AeTitle
    addresses: tuple[str, ...]
    source: str


class TrustSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Machines of a maker; an empty model means all of them."""

    manufacturer: str
    model: str = ""


class BlankSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where machines of a maker burn text into images of one size, and nowhere else.

    Attributes:
        rectangles: each left, top, width and height, in pixels; blanked in every frame.
    """

    manufacturer: str
    rows: Count
    columns: Count
    rectangles: Annotated[tuple[tuple[Pixel, Pixel, Count, Count], ...], Meta(min_length=1)]
    model: str = ""

    def blanking(self) -> Blanking:
        """Return it as de-identification needs it."""
        rectangles = tuple(Rectangle(*each) for each in self.rectangles)
        return Blanking(Trust(self.manufacturer, self.model), self.rows, self.columns, rectangles)


class PixelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the site states about pixels; see `deidentify.pixels.PixelPolicy`.

    Attributes:
        trusted: machines whose images show no text when they say so (BurnedInAnnotation NO).
        clean: machines whose images never show text.
        recognizable_projects: projects that may have images which show a face.
        blank: where machines burn in text; these images pass with it blanked.
        detect_text: look for text in all pixels (the `ocr` extra), and refuse what shows some.
    """

    trusted: tuple[TrustSettings, ...] = ()
    clean: tuple[TrustSettings, ...] = ()
    recognizable_projects: tuple[str, ...] = ()
    blank: tuple[BlankSettings, ...] = ()
    detect_text: bool = False

    def policy(self, project: str) -> PixelPolicy:
        """Return what holds for a project."""
        return PixelPolicy(
            tuple(Trust(each.manufacturer, each.model) for each in self.trusted),
            tuple(Trust(each.manufacturer, each.model) for each in self.clean),
            project in self.recognizable_projects,
            tuple(each.blanking() for each in self.blank),
            RapidText() if self.detect_text else None,
        )


class ProfileSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A de-identification profile of the site's own: the Basic Profile of PS3.15 with options.

    Attributes:
        name: what a project's `profile` says.
        options: columns of table E.1-1, such as `modified_dates`; see the compliance page.
        revision: to be raised whenever the options change, since files are registered for a version.
        transform: an installed transform of whole series; what may show a face leaves through it.
    """

    name: ProfileName
    options: tuple[Option, ...]
    revision: Count = 1
    transform: str = ""

    def profile(self) -> SiteProfile:
        """Return it as de-identification needs it.

        Raises:
            ConfigError: the transform is not installed.
        """
        through = transform(self.transform) if self.transform else None
        return SiteProfile(self.name, self.revision, self.options, through)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole table.

    Attributes:
        moves: where C-MOVEs are sent to (a stager is an AE).
        arrivals: where new images are forwarded to.
        peers: who may send arrivals; without any, the sources themselves.
        pixels: what the site states about pixels.
        profiles: de-identification profiles of the site's own.
        uploads_to: name of the source that gets what users upload, by C-STORE; empty when nobody uploads.
        upload_s: how long it may take to put one object there.
        batch_files: most objects of one visit.
        connect_s: how long a PACS may take to accept an association.
        answer_s: how long it may take to answer a C-ECHO or C-FIND.
        rest_s: a source that did not answer is asked after its mirrors for so long.
        settle_s: how long to wait after a C-MOVE that says it is complete for objects still under way.
        max_object_bytes: largest object taken.
        max_held_bytes: bound on the bytes of all objects that the stager receives at once, or that wait
            for the rest of their series.
        max_series_bytes: largest series that goes through a transform.
    """

    sources: tuple[AnySourceSettings, ...]
    moves: NodeSettings = NodeSettings("MDM1", 11112)
    arrivals: NodeSettings = NodeSettings("MDMIN", 11110)
    peers: tuple[PeerSettings, ...] = ()
    pixels: PixelSettings = PixelSettings()
    profiles: tuple[ProfileSettings, ...] = ()
    uploads_to: str = ""
    upload_s: Seconds = 600.0
    batch_files: Annotated[int, Meta(ge=1, le=900)] = 500
    connect_s: Seconds = 10.0
    answer_s: Seconds = 60.0
    idle_s: Seconds = 60.0
    rest_s: Seconds = 60.0
    settle_s: Seconds = 2.0
    max_associations: Count = 64
    max_object_bytes: Count = 1 << 30
    max_held_bytes: Count = 2 << 30
    max_series_bytes: Count = 1 << 30

    def source(self, name: str) -> AnySourceSettings | None:
        """Return the source of that name."""
        return next((source for source in self.sources if source.name == name), None)

    @property
    def site_profiles(self) -> tuple[SiteProfile, ...]:
        """Return the site's own profiles."""
        return tuple(each.profile() for each in self.profiles)

    @property
    def dicom_sources(self) -> tuple[SourceSettings, ...]:
        """Return the sources that speak DICOM."""
        return tuple(source for source in self.sources if isinstance(source, SourceSettings))

    @property
    def upload_source(self) -> SourceSettings | None:
        """Return the source that gets uploads."""
        return next((source for source in self.dicom_sources if source.name == self.uploads_to), None)

    def source_of_peer(self, ae_title: str) -> str:
        """Return the name of the source where objects of a peer can be fetched again."""
        for peer in self.peers:
            if peer.ae_title == ae_title:
                return peer.source
        return next(source.name for source in self.dicom_sources if ae_title in source.senders)


def parse_settings(table: Mapping[str, Any]) -> Settings:
    """Check the plugin's table.

    Raises:
        ConfigError: an unknown key, a wrong value, a name used twice or not at all.
    """
    try:
        settings = msgspec.convert(_with_kinds(table), Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"dicom plugin: {error}") from None
    names = [source.name for source in settings.sources]
    if not names:
        raise ConfigError("dicom plugin: no source; give at least one PACS under [[sources]]")
    if len(set(names)) != len(names):
        raise ConfigError("dicom plugin: a source name is used twice")
    if not all(map(_NAME.match, names)):
        raise ConfigError("dicom plugin: a source name is 1 to 32 of A-Z a-z 0-9 _ -")
    _check_profiles(settings.site_profiles)
    for peer in settings.peers:
        if peer.source not in names:
            raise ConfigError(f"dicom plugin: peer {peer.ae_title} names the unknown source {peer.source}")
    for source in settings.sources:
        _check_source(source, names)
    for speaker in settings.dicom_sources:
        if speaker.tls and not (speaker.tls.certificate and speaker.tls.key):
            raise ConfigError(f"dicom plugin: tls of {speaker.name} needs a certificate and a key")
    _check_uploads(settings)
    return settings


def _check_uploads(settings: Settings) -> None:
    if not settings.uploads_to:
        return
    source = settings.source(settings.uploads_to)
    if source is None:
        raise ConfigError(f"dicom plugin: uploads_to names the unknown source {settings.uploads_to}")
    if not isinstance(source, SourceSettings):
        raise ConfigError(
            f"dicom plugin: uploads go by C-STORE, and {source.name} is asked over DICOMweb",
            advice="Give the archive a second source of kind dicom, and name that in uploads_to.",
        )


def _with_kinds(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table with the kind of each source written out; one that says none speaks DICOM."""
    sources = table.get("sources", ())
    if not isinstance(sources, list | tuple):
        return dict(table)
    kinds = [{"kind": "dicom"} | source if isinstance(source, dict) else source for source in sources]
    return dict(table) | {"sources": kinds}


def _check_profiles(profiles: tuple[SiteProfile, ...]) -> None:
    dates = {Option.FULL_DATES, Option.MODIFIED_DATES}
    names = [*PROFILES, *(each.name for each in profiles)]
    for each in profiles:
        if names.count(each.name) > 1:
            raise ConfigError(
                f"dicom plugin: the profile {each.name} is the software's own; take another name"
            )
        if dates <= set(each.options):
            raise ConfigError(f"dicom plugin: profile {each.name} cannot have full and modified dates")
        try:
            profile(each.name, each.version, profiles)
        except NotSupported as error:
            raise ConfigError(f"dicom plugin: profile {each.name}: {error.message}") from None


def _check_source(source: AnySourceSettings, names: Sequence[str]) -> None:
    for mirror in source.mirrors:
        if mirror not in names or mirror == source.name:
            raise ConfigError(f"dicom plugin: {source.name} cannot have the mirror {mirror}")
    if isinstance(source, WebSourceSettings) and source.tls and not source.url.startswith("https:"):
        raise ConfigError(f"dicom plugin: {source.name} has tls and no https url")


def moving_peers(settings: Settings) -> tuple[Peer, ...]:
    """Return who may send what our own moves announced: the sources.

    Raises:
        ConfigError: the name of a source does not resolve.
    """
    return _storing(source for source in settings.dicom_sources if source.retrieve == "move")


def arriving_peers(settings: Settings) -> tuple[Peer, ...]:
    """Return who may send arrivals: the configured peers, or else the sources.

    Raises:
        ConfigError: a name does not resolve.
    """
    if not settings.peers:
        return _storing(settings.dicom_sources)
    return tuple(
        Peer(peer.ae_title, frozenset().union(*map(_addresses, peer.addresses))) for peer in settings.peers
    )


def _storing(sources: Iterable[SourceSettings]) -> tuple[Peer, ...]:
    return tuple(
        Peer(title, _addresses(source.host)) for source in sources for title in sorted(source.senders)
    )


def _addresses(host: str) -> frozenset[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise ConfigError(f"dicom plugin: the host name {host} does not resolve") from None
    return frozenset(str(entry[4][0]) for entry in found)

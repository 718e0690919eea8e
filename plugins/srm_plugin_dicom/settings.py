"""What ``plugins.d/dicom.toml`` may say, checked before anything is opened."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from srm_dicom.errors import ConfigError
from srm_plugin_dicom.deidentify import PixelPolicy, Trust
from srm_plugin_dicom.receiver import Peer

AeTitle = Annotated[str, Meta(pattern=r"^[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?$")]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")


class SourceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A PACS that is asked.

    Attributes:
        name: the site's word for it; appears in logs and to users, so no identity in it.
        max_visits: how many C-MOVEs may run at it at once.
        store_ae_titles: titles it stores under, when they differ from `ae_title`.
    """

    name: str
    ae_title: AeTitle
    host: str
    port: Port
    max_visits: Annotated[int, Meta(ge=1, le=64)] = 2
    store_ae_titles: tuple[AeTitle, ...] = ()

    @property
    def senders(self) -> frozenset[str]:
        """AE titles under which its objects arrive."""
        return frozenset(self.store_ae_titles or (self.ae_title,))


class NodeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An AE of our own; the PACS knows it by one line: title, this host, port."""

    ae_title: AeTitle
    port: Port
    bind: str = "127.0.0.1"


class PeerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node that may send arrivals; `source` is the PACS where they can be fetched again."""

    ae_title: AeTitle
    addresses: tuple[str, ...]
    source: str


class TrustSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Machines of a maker; an empty model means all of them."""

    manufacturer: str
    model: str = ""


class PixelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the site states about pixels; see `deidentify.pixels.PixelPolicy`.

    Attributes:
        trusted: machines whose images show no text when they say so (BurnedInAnnotation NO).
        clean: machines whose images never show text.
        recognizable_projects: projects that may have images which show a face.
    """

    trusted: tuple[TrustSettings, ...] = ()
    clean: tuple[TrustSettings, ...] = ()
    recognizable_projects: tuple[str, ...] = ()

    def policy(self, project: str) -> PixelPolicy:
        """Return what holds for a project."""
        return PixelPolicy(
            tuple(Trust(each.manufacturer, each.model) for each in self.trusted),
            tuple(Trust(each.manufacturer, each.model) for each in self.clean),
            project in self.recognizable_projects,
        )


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole table.

    Attributes:
        moves: where C-MOVEs are sent to (a stager is an AE).
        arrivals: where new images are forwarded to.
        peers: who may send arrivals; without any, the sources themselves.
        pixels: what the site states about pixels.
        batch_files: most objects of one C-MOVE.
        connect_s: how long a PACS may take to accept an association.
        answer_s: how long it may take to answer a C-ECHO or C-FIND.
        settle_s: how long to wait after a C-MOVE that says it is complete for objects still under way.
        max_object_bytes: largest object taken.
        max_held_bytes: bound on the bytes of all objects being received at once.
    """

    sources: tuple[SourceSettings, ...]
    moves: NodeSettings = NodeSettings("MDM1", 11112)
    arrivals: NodeSettings = NodeSettings("MDMIN", 11110)
    peers: tuple[PeerSettings, ...] = ()
    pixels: PixelSettings = PixelSettings()
    batch_files: Annotated[int, Meta(ge=1, le=900)] = 500
    connect_s: Seconds = 10.0
    answer_s: Seconds = 60.0
    idle_s: Seconds = 60.0
    settle_s: Seconds = 2.0
    max_associations: Count = 64
    max_object_bytes: Count = 1 << 30
    max_held_bytes: Count = 2 << 30

    def source(self, name: str) -> SourceSettings | None:
        """Return the source of that name."""
        return next((source for source in self.sources if source.name == name), None)

    def source_of_peer(self, ae_title: str) -> str:
        """Return the name of the source where objects of a peer can be fetched again."""
        for peer in self.peers:
            if peer.ae_title == ae_title:
                return peer.source
        return next(source.name for source in self.sources if ae_title in source.senders)


def parse_settings(table: Mapping[str, Any]) -> Settings:
    """Check the plugin's table.

    Raises:
        ConfigError: an unknown key, a wrong value, a name used twice or not at all.
    """
    try:
        settings = msgspec.convert(dict(table), Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"dicom plugin: {error}") from None
    names = [source.name for source in settings.sources]
    if not names:
        raise ConfigError("dicom plugin: no source; give at least one PACS under [[sources]]")
    if len(set(names)) != len(names):
        raise ConfigError("dicom plugin: a source name is used twice")
    if not all(map(_NAME.match, names)):
        raise ConfigError("dicom plugin: a source name is 1 to 32 of A-Z a-z 0-9 _ -")
    for peer in settings.peers:
        if peer.source not in names:
            raise ConfigError(f"dicom plugin: peer {peer.ae_title} names the unknown source {peer.source}")
    return settings


def moving_peers(settings: Settings) -> tuple[Peer, ...]:
    """Return who may send what our own moves announced: the sources.

    Raises:
        ConfigError: the name of a source does not resolve.
    """
    return tuple(
        Peer(title, _addresses(source.host))
        for source in settings.sources
        for title in sorted(source.senders)
    )


def arriving_peers(settings: Settings) -> tuple[Peer, ...]:
    """Return who may send arrivals: the configured peers, or else the sources.

    Raises:
        ConfigError: a name does not resolve.
    """
    if not settings.peers:
        return moving_peers(settings)
    return tuple(
        Peer(peer.ae_title, frozenset().union(*map(_addresses, peer.addresses))) for peer in settings.peers
    )


def _addresses(host: str) -> frozenset[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise ConfigError(f"dicom plugin: the host name {host} does not resolve") from None
    return frozenset(str(entry[4][0]) for entry in found)

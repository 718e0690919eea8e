"""A wish becomes a request: bounds on files and times, and the transfer protocol that is spoken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from srm_dicom.broker.listings import is_staged
from srm_dicom.broker.spaces import UNLIMITED_S, SpaceBounds, refuse_custody
from srm_dicom.broker.states import Event, after
from srm_dicom.broker.views import FileState, PutWish, RequestKind, Wish
from srm_dicom.errors import InvalidRequest, NotSupported, TooLarge
from srm_dicom.ids import Guid, SitePath, new_token
from srm_dicom.store.namespace import Entry
from srm_dicom.store.requests import Request, RequestFile
from srm_dicom.store.staged import Staged

GRACE_S = 15
"""A put lasts longer than asked, by itself or by so much: who polls to the last moment still finds it."""

ENCRYPTED = "https"
"""The one transfer protocol that never carries bytes in clear."""

_BOUNDS = SpaceBounds()


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Bounds and addresses.

    Attributes:
        nodes: node name to (protocol to base URL, such as ``gsiftp://node:2811``), in the site's
            order of preference.
        max_tokens: most requests that one answer lists or sums up.
        host: what SURLs of this site have for a host, with the port of its SRM.
        aliases: what else they may have; see `surls.OwnSurls`.
        default_put_s: how long a put may take unless its request says; writing makes it longer.
        spaces: what may be reserved.
        put_done_s: how long srmPutDone waits for the inner zone to store a file.
        hold_s: how long the answer to a request for few files is held while they may come at once; whoever
            hears that they do not comes again after half a second or later.
        quota_bytes: of a node's scratch; uploads that announce more than is left are refused. 0 sets none.
    """

    host: str
    nodes: Mapping[str, Mapping[str, str]]
    max_files: int = 10_000
    max_tokens: int = 1000
    max_total_s: int = 24 * 3600
    default_total_s: int = 3600
    default_put_s: int = 4 * 3600
    put_done_s: float = 120.0
    hold_s: float = 0.0
    max_pin_s: int = 7 * 24 * 3600
    default_pin_s: int = 12 * 3600
    poll_s: int = 10
    quota_bytes: int = 0
    spaces: SpaceBounds = _BOUNDS
    aliases: tuple[str, ...] = ()

    @property
    def protocols(self) -> tuple[str, ...]:
        """The transfer protocols of the site, the preferred one first."""
        return tuple(dict.fromkeys(protocol for node in self.nodes.values() for protocol in node))

    def node_of(self, protocol: str) -> str:
        """Return a node that speaks a protocol of `protocols`; uploads go there."""
        return next(name for name, urls in self.nodes.items() if protocol in urls)


def accept(settings: BrokerSettings, wish: Wish, owner: str, now: datetime) -> Request:
    """Return the request that a wish makes.

    Raises:
        InvalidRequest: no file, or a negative time.
        TooLarge: more files than one request may have.
        NotSupported: none of the caller's transfer protocols is spoken here, or files are to be written into
            custody.
    """
    if not wish.surls:
        raise InvalidRequest("no file was asked for")
    bound_files(settings, len(wish.surls))
    default_s = settings.default_put_s if isinstance(wish, PutWish) else settings.default_total_s
    total_s = bounded(wish.total_s, default_s, settings.max_total_s)
    if isinstance(wish, PutWish):
        refuse_custody(wish.policy)
        total_s += min(total_s, GRACE_S)
    return Request(
        token=new_token(),
        kind=wish.kind,
        owner=owner,
        protocol=_protocol(settings, wish),
        created_at=now,
        deadline_at=now + timedelta(seconds=total_s),
        pin_s=bounded(wish.pin_s, settings.default_pin_s, settings.max_pin_s),
        description=wish.description,
    )


def file_to_get(
    request: Request,
    surl: str,
    path: SitePath | None,
    entry: Entry,
    staged: Mapping[Guid, Staged],
    now: datetime,
) -> RequestFile:
    """Return a file of a request that waits to be staged, or is pinned if it is staged already.

    Args:
        request: that it is of.
        surl: what the caller calls it.
        path: by which its owner may name it elsewhere; None for a copy, which is nobody's pin.
        entry: the file, or what is made of several.
        staged: those of its parts that are.
        now: the time.
    """
    until, pinned = now + timedelta(seconds=request.pin_s), after(FileState.QUEUED, Event.PUBLISH)

    def part(file: Entry) -> RequestFile:
        there = is_staged(file, staged)
        return RequestFile(
            surl,
            path,
            file.guid,
            pinned if there else FileState.QUEUED,
            pin_until=until if there else None,
            pin_s=request.pin_s,
        )

    return RequestFile.of([part(file) for file in entry.files])


def bound_files(settings: BrokerSettings, count: int) -> None:
    """Refuse what is more than one request may have.

    Raises:
        TooLarge: it is.
    """
    if count > settings.max_files:
        raise TooLarge(f"a request has at most {settings.max_files} files")


def _protocol(settings: BrokerSettings, wish: Wish) -> str:
    spoken = settings.protocols
    if wish.kind in (RequestKind.BRING_ONLINE, RequestKind.COPY) or not wish.protocols:
        return spoken[0]
    for protocol in wish.protocols:
        if protocol.lower() in spoken:
            return protocol.lower()
    raise NotSupported(
        "none of the requested transfer protocols is spoken here",
        advice=f"Use one of {', '.join(spoken)}.",
    )


def encrypted(settings: BrokerSettings, wish: Wish) -> str:
    """Return the protocol by which what must not cross a network in clear is uploaded.

    Raises:
        NotSupported: it is not among the caller's.
    """
    offered = [protocol.lower() for protocol in wish.protocols] or [ENCRYPTED]
    if ENCRYPTED not in offered or ENCRYPTED not in settings.protocols:
        raise NotSupported(
            f"images are uploaded to this directory by {ENCRYPTED} only",
            advice=f"Let the client offer {ENCRYPTED} among its transfer protocols.",
        )
    return ENCRYPTED


def bounded(wanted: int | None, default: int, maximum: int) -> int:
    """Return the caller's time within the site's bound; nothing or 0 asks for the default, -1 for the most.

    Raises:
        InvalidRequest: it is another negative number.
    """
    if wanted == UNLIMITED_S:
        return maximum
    if wanted is not None and wanted < 0:
        raise InvalidRequest("a time is -1 or not negative")
    return min(wanted or default, maximum)

"""PROPFIND (RFC 4918, 9.1): what is asked about a name, and the answer as XML.

Besides the properties of the standard there are those that grid clients know from other servers:
``Checksums`` (in the form of a Digest header), ``FileLocality`` and ``mode``. Elements have the prefix
``D:``, because there are clients that read the prefix and not the namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from email.utils import format_datetime
from enum import Enum
from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from srm_dicom.errors import InvalidRequest
from srm_dicom.ids import SitePath, name
from srm_dicom.wire.dav.conditions import entity_tag

DAV = "DAV:"
_PREFIXES = {
    DAV: "D",
    "http://www.dcache.org/2013/webdav": "dcache",
    "http://srm.lbl.gov/StorageResourceManager": "srm",
    "LCGDM:": "lcgdm",
}
MAX_BODY_BYTES = 64 * 1024
_MAX_PROPERTIES = 100
_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus {}>\n'.format(
    " ".join(f'xmlns:{prefix}="{space}"' for space, prefix in _PREFIXES.items())
).encode()
_TAIL = b"</D:multistatus>\n"


class Described(Protocol):
    """What a listing needs of a name."""

    @property
    def path(self) -> SitePath:
        """The normalised absolute path."""

    @property
    def is_directory(self) -> bool:
        """A directory, or a file."""

    @property
    def size_bytes(self) -> int | None:
        """Size of the bytes that would be served; None while nobody knows it."""

    @property
    def adler32(self) -> str | None:
        """Checksum of the same bytes; None while nobody knows it."""

    @property
    def shown_at(self) -> datetime:
        """The one time that may be shown outside."""

    @property
    def online(self) -> bool:
        """Staged here, or not."""


def _of_files(value: Callable[[Described], object]) -> Callable[[Described], str | None]:
    def told(one: Described) -> str | None:
        found = None if one.is_directory else value(one)
        return None if found is None else escape(str(found))

    return told


_VALUES: Mapping[str, Callable[[Described], str | None]] = {
    "{DAV:}displayname": lambda one: escape(name(one.path)),
    "{DAV:}resourcetype": lambda one: "<D:collection/>" if one.is_directory else "",
    "{DAV:}getlastmodified": lambda one: format_datetime(one.shown_at, usegmt=True),
    "{DAV:}getcontentlength": _of_files(lambda one: one.size_bytes),
    "{DAV:}getcontenttype": _of_files(lambda _: "application/octet-stream"),
    "{DAV:}getetag": _of_files(lambda one: entity_tag(one.adler32, one.size_bytes)),
    "{http://www.dcache.org/2013/webdav}Checksums": _of_files(
        lambda one: f"adler32={one.adler32}" if one.adler32 else None
    ),
    "{http://srm.lbl.gov/StorageResourceManager}FileLocality": _of_files(
        lambda one: "ONLINE_AND_NEARLINE" if one.online else "NEARLINE"
    ),
    "{LCGDM:}mode": lambda one: "040550" if one.is_directory else "0100440",
}
"""Each property that there is, as the inside of its element; None where a name does not have it."""

PROPERTIES = tuple(_VALUES)


class Every(Enum):
    """Of every property: what a PROPFIND asks for."""

    VALUE = "allprop"
    NAME = "propname"


Wanted = tuple[str, ...] | Every


def wanted_properties(body: bytes) -> Wanted:
    """Return the properties that a PROPFIND asks for, as ``{namespace}name``, or what it asks of every one.

    Raises:
        InvalidRequest: not what the standard has, or too much of it.
    """
    if not body.strip():
        return Every.VALUE
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise InvalidRequest("the body of the request is not XML") from error
    if root.tag != "{DAV:}propfind":
        raise InvalidRequest("the body of the request is no propfind")
    prop = root.find("{DAV:}prop")
    if prop is None:
        return Every.VALUE if root.find("{DAV:}propname") is None else Every.NAME
    found = tuple(dict.fromkeys(str(one.tag) for one in prop if isinstance(one.tag, str)))
    if len(found) > _MAX_PROPERTIES:
        raise InvalidRequest(f"at most {_MAX_PROPERTIES} properties can be asked for")
    return found


def multistatus(entries: Iterable[Described], wanted: Wanted) -> Iterator[bytes]:
    """Yield the answer about some names, piece by piece."""
    yield _HEAD
    for entry in entries:
        yield _response(entry, wanted).encode()
    yield _TAIL


def _response(entry: Described, wanted: Wanted) -> str:
    named = () if isinstance(wanted, Every) else wanted
    values = {key: _VALUES[key](entry) for key in named or PROPERTIES if key in _VALUES}
    if wanted is Every.NAME:
        values = {key: "" for key, value in values.items() if value is not None}
    present = "".join(_element(key, value) for key, value in values.items() if value is not None)
    absent = "".join(_element(key, "") for key in named if values.get(key) is None)
    stats = _propstat(present, "200 OK") if present or not absent else ""
    if absent:
        stats += _propstat(absent, "404 Not Found")
    return f"<D:response><D:href>{href(entry)}</D:href>{stats}</D:response>\n"


def href(entry: Described) -> str:
    """Return the path of a name as links have it: a directory's ends with a slash."""
    return entry.path + ("/" if entry.is_directory and entry.path != "/" else "")


def _propstat(inside: str, status: str) -> str:
    return f"<D:propstat><D:prop>{inside}</D:prop><D:status>HTTP/1.1 {status}</D:status></D:propstat>"


def _element(key: str, inside: str) -> str:
    space, _, local = key.removeprefix("{").rpartition("}")
    prefix = _PREFIXES.get(space, "x" if space else "")
    tag = f"{prefix}:{local}" if prefix else local
    opening = f"{tag} xmlns:x={quoteattr(space)}" if prefix == "x" else tag
    return f"<{opening}>{inside}</{tag}>" if inside else f"<{opening}/>"

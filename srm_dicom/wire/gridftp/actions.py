"""What the session asks its door to do; everything else it answers by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from srm_dicom.ids import SitePath
from srm_dicom.wire.gridftp.addresses import Address
from srm_dicom.wire.gridftp.facts import Described
from srm_dicom.wire.gridftp.ranges import Restart, Section
from srm_dicom.wire.gridftp.replies import Reply


@dataclass(frozen=True, slots=True)
class Listen:
    """Open a one-shot listening port and answer with `render` of its address.

    `family` is ``1`` (IPv4), ``2`` (IPv6) or something else when the client insists on it (RFC 2428).
    """

    render: Callable[[Address], Reply]
    family: str = ""


@dataclass(frozen=True, slots=True)
class ListenStriped:
    """Open a listening port on every transfer node and answer with `render` of their addresses."""

    render: Callable[[Sequence[Address]], Reply]


@dataclass(frozen=True, slots=True)
class Target:
    """Remember where to connect to for the next transfer, if that is allowed, and answer `done`.

    `striped` says that the client speaks of stripes (SPOR), so that every transfer node has to take part.
    """

    addresses: tuple[Address, ...]
    done: Reply
    striped: bool = False


@dataclass(frozen=True, slots=True)
class Describe:
    """Look a name up and answer with `render`."""

    path: SitePath
    render: Callable[[Described], Reply]


@dataclass(frozen=True, slots=True)
class ListDirectory:
    """Send a directory over a data connection, one line an entry.

    `itself` renders the directory as its own first line; `entry` may also be used for a single file.
    With `deep`, directories below are listed as well.
    """

    path: SitePath
    entry: Callable[[Described], str]
    itself: Callable[[Described], str] | None = None
    deep: bool = False


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Send a file, or a part of it, over data connections."""

    path: SitePath
    section: Section
    restart: Restart


@dataclass(frozen=True, slots=True)
class Checksum:
    """Answer with the checksum of `section` of a file, hexadecimal."""

    path: SitePath
    algorithm: str
    section: Section


@dataclass(frozen=True, slots=True)
class Store:
    """Receive a file, or a part of it, over data connections.

    Attributes:
        restart: what the client has sent before; nothing, unless REST came first.
        base: what offset 0 of the transfer is in the file, if only a part comes (ESTO A).
        append: begin behind what is there (APPE).
        expected_bytes: what ALLO announced.
    """

    path: SitePath
    restart: Restart
    base: int | None = None
    append: bool = False
    expected_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make a directory."""

    path: SitePath


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file, or an empty directory."""

    path: SitePath
    directory: bool


@dataclass(frozen=True, slots=True)
class Rename:
    """Give a file or a directory another name."""

    source: SitePath
    target: SitePath


Change = Store | MakeDirectory | Remove | Rename
Action = Listen | ListenStriped | Target | Describe | ListDirectory | Retrieve | Checksum | Change

"""Striped transfers over several transfer nodes: who sends what, and what a door says to its nodes.

GFD.020 leaves open how the nodes of a striped server speak to each other. Here a door has one connection
to each node for each session that needs it, and asks one thing at a time; `Progress` comes in between, so
that silence means a dead node. The end of the connection ends everything that the node does for it.

A message is four bytes of length (big-endian) and JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec

from srm_dicom.errors import InvalidRequest, TooLarge
from srm_dicom.wire.gridftp.addresses import MAX_STRIPES, Address
from srm_dicom.wire.gridftp.blocks import Header, ends_of_streams
from srm_dicom.wire.gridftp.dialogue import Parameters

LENGTH_BYTES = 4
MAX_MESSAGE_BYTES = 1024 * 1024

M = TypeVar("M", bound="Message")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="is"):
    """Base of what goes over the link."""


class Begin(Message, frozen=True, tag="begin"):
    """Whose session this is; the first message.

    Attributes:
        dn, fqans, limited, emergency, expires: of the caller, as the door's gate said.
        peer: address of the client; data go to and come from there, as the site's policy says.
        end_entity: DER of the caller's own certificate.
        credential: what the caller delegated, PEM with its key; empty if nothing. It stays in memory.
    """

    dn: str
    fqans: tuple[str, ...]
    limited: bool
    emergency: bool
    expires: datetime
    peer: str
    end_entity: bytes
    credential: bytes = b""


class Way(Message, frozen=True, tag="way"):
    """How data connections are secured: `dialogue.Parameters` as far as a node needs them, in MODE E."""

    dcau: str
    subject: str
    protection: str

    @classmethod
    def of(cls, parameters: Parameters) -> Way:
        """Take what counts of a session's parameters."""
        return cls(parameters.dcau, parameters.subject, parameters.protection)

    @property
    def parameters(self) -> Parameters:
        """The same as a session has them; `streams` is one, because every connection is listed."""
        return Parameters("I", "E", self.dcau, self.subject, self.protection)


class Listen(Message, frozen=True, tag="listen"):
    """Open a listening port; the answer is `Listening`."""


class Send(Message, frozen=True, tag="send"):
    """Send a share of a file; the answer is `Done`.

    Attributes:
        targets: where to connect to, as often as it is there.
        ends: flags and offset of the block that ends each of these connections.
        ranges: (start, end) in the file.
        base: what offset 0 of the transfer is in the file.
        fresh: connections of the transfer before are not to be used again.
    """

    path: str
    way: Way
    targets: tuple[tuple[str, int], ...]
    ends: tuple[tuple[int, int], ...]
    ranges: tuple[tuple[int, int], ...]
    base: int
    fresh: bool


class Receive(Message, frozen=True, tag="receive"):
    """Receive a share of an upload that the door has begun; `base` as in `Send`; the answer is `Done`."""

    path: str
    way: Way
    base: int


class Listening(Message, frozen=True, tag="listening"):
    """Where the port is."""

    host: str
    port: int


class Progress(Message, frozen=True, tag="progress"):
    """What has been moved so far, and which ranges of an upload are there."""

    moved_bytes: int
    ranges: tuple[tuple[int, int], ...] = ()


class Done(Message, frozen=True, tag="done"):
    """All of it has been done; as `Progress`."""

    moved_bytes: int = 0
    ranges: tuple[tuple[int, int], ...] = ()


class Refused(Message, frozen=True, tag="refused"):
    """It has not been done: the name of the error's class, its message and what to do."""

    kind: str
    message: str
    advice: str = ""


Asked = Begin | Listen | Send | Receive
Answered = Listening | Progress | Done | Refused
_ASKED: msgspec.json.Decoder[Asked] = msgspec.json.Decoder(Asked)
_ANSWERED: msgspec.json.Decoder[Answered] = msgspec.json.Decoder(Answered)


def encode(message: Message) -> bytes:
    """Return a message with its length.

    Raises:
        TooLarge: it has too many ranges.
    """
    body = msgspec.json.encode(message)
    return length_of(len(body).to_bytes(LENGTH_BYTES, "big")).to_bytes(LENGTH_BYTES, "big") + body


def length_of(head: bytes) -> int:
    """Read the length of a message.

    Raises:
        TooLarge: it is more than a message may have.
    """
    length = int.from_bytes(head, "big")
    if length > MAX_MESSAGE_BYTES:
        raise TooLarge(f"a message between nodes has at most {MAX_MESSAGE_BYTES} bytes")
    return length


def decode_asked(body: bytes) -> Asked:
    """Read what a door asks.

    Raises:
        InvalidRequest: it is no such message.
    """
    try:
        return _ASKED.decode(body)
    except msgspec.MsgspecError as error:
        raise InvalidRequest("not a message of a door") from error


def decode_answered(body: bytes) -> Answered:
    """Read what a node answers.

    Raises:
        InvalidRequest: it is no such message.
    """
    try:
        return _ANSWERED.decode(body)
    except msgspec.MsgspecError as error:
        raise InvalidRequest("not a message of a node") from error


@dataclass(frozen=True, slots=True)
class Share:
    """What one node does of a transfer; see `Send`."""

    targets: tuple[Address, ...]
    ends: tuple[Header, ...]
    ranges: tuple[tuple[int, int], ...]


def shares(
    nodes: int, targets: Sequence[Address], streams: int, ranges: Sequence[tuple[int, int]]
) -> list[Share]:
    """Divide a file among nodes: every node sends, and every address gets connections.

    The parts lie one behind the other, as large as each other (a partitioned layout, GFD.020, 5.3.1).

    Args:
        nodes: how many there are.
        targets: addresses of the receiver, one for each of its own nodes.
        streams: connections wanted from a node to an address; fewer when all would be too many.
        ranges: (start, end) in the file.
    """
    pairs = max(nodes, len(targets))
    each = max(1, min(streams, MAX_STRIPES // pairs))
    connections = [
        (number % nodes, targets[number % len(targets)]) for number in range(pairs) for _ in range(each)
    ]
    ends = ends_of_streams([target for _, target in connections])
    parts = _parts(ranges, nodes)
    return [
        Share(
            tuple(target for owner, target in connections if owner == node),
            tuple(end for (owner, _), end in zip(connections, ends, strict=True) if owner == node),
            parts[node],
        )
        for node in range(nodes)
    ]


def _parts(ranges: Sequence[tuple[int, int]], count: int) -> list[tuple[tuple[int, int], ...]]:
    """Cut ranges into `count` parts of the same size, to a byte."""
    total = sum(end - start for start, end in ranges)
    bounds = [total * number // count for number in range(count + 1)]
    parts: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    before = 0
    for start, end in ranges:
        for number, part in enumerate(parts):
            first = max(start, start + bounds[number] - before)
            last = min(end, start + bounds[number + 1] - before)
            if first < last:
                part.append((first, last))
        before += end - start
    return [tuple(part) for part in parts]

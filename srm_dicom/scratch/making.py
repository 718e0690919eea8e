"""Making files in a process of their own: what the two sides say to each other, and what is done there.

The object lies in memory that both sides have mapped, and so does the file that comes of it; over a socket
go small messages, one to a packet. What a worker says is read as these messages and nothing else: it has
read what a stranger sent, and the stager does not believe it more than that.
"""

from __future__ import annotations

import mmap
import pickle
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated

import msgspec
from msgspec import Meta

from srm_dicom.crypto.crypt4gh import Buffer
from srm_dicom.crypto.digest import Digest, blake3_of
from srm_dicom.crypto.siv import Sealed, Sealer
from srm_dicom.errors import InternalError, MdmError, leaves
from srm_dicom.ids import Guid
from srm_dicom.telemetry import logger

MOST_RECIPES = 32
MOST_PACKET_BYTES = 128 * 1024
MOST_REPORT_CHARS = 120 * 1024

WORK_S = 120.0
"""How long one file may take to make."""

log = logger("worker")

_LEAVES = {leaf.__name__: leaf for leaf in leaves()}

Made = tuple[Sequence[Buffer], str]
"""The parts of a plain file, and the report of what was done to the object."""

Recipe = Callable[..., Made | None]
"""Makes a file of an object, called with its bytes and a few words; None declines."""


class Begin(msgspec.Struct, frozen=True, tag=True):
    """The first word: the key for sealing, and the modules to load before there is work."""

    seal_key: bytes
    modules: tuple[str, ...]


class Learn(msgspec.Struct, frozen=True, tag=True):
    """A pickled recipe lies where objects do."""

    recipe: int
    size_bytes: int


class Make(msgspec.Struct, frozen=True, tag=True):
    """An object lies there; a file without a public key is not sealed."""

    recipe: int
    size_bytes: int
    words: tuple[str, ...]
    guid: str
    public_key: bytes


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker has begun, or has learnt."""


class Lacks(msgspec.Struct, frozen=True, tag=True):
    """It does not know the recipe."""


class Declined(msgspec.Struct, frozen=True, tag=True):
    """The file is not made here: by the recipe's word, or because there is no room for it."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An error of the tree, by its leaf."""

    leaf: str
    message: str


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The file lies where files do; `header_blake3` is empty when it is not sealed."""

    size_bytes: Annotated[int, Meta(ge=0)]
    adler32: Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]
    blake3: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    header_blake3: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]
    report: Annotated[str, Meta(pattern=r"^[ -~]*\Z")]


Order = Begin | Learn | Make
Answer = Ready | Lacks | Declined | Failed | Finished

_read_order = msgspec.msgpack.Decoder(Order).decode
_encode = msgspec.msgpack.Encoder().encode


def work(
    channel: socket.socket,
    objects: mmap.mmap,
    files: mmap.mmap,
    *,
    confine: Callable[[], None] = lambda: None,
) -> None:
    """Do what comes over a channel until the other side is gone.

    Args:
        channel: of packets.
        objects: where objects and recipes are put.
        files: where files are put.
        confine: is called once all is loaded, and before there is an object.
    """
    worker: _Worker | None = None
    while packet := channel.recv(MOST_PACKET_BYTES):
        order = _read_order(packet)
        if isinstance(order, Begin):
            for module in order.modules:
                import_module(module)
            confine()
            worker = _Worker(order.seal_key, objects, files)
            answer: Answer = Ready()
        elif worker is None:
            return
        else:
            answer = worker.learn(order) if isinstance(order, Learn) else worker.make(order)
        channel.sendall(_encode(answer))


class _Worker:
    def __init__(self, seal_key: bytes, objects: mmap.mmap, files: mmap.mmap) -> None:
        self._seal_key = seal_key
        self._objects = objects
        self._files = files
        self._recipes: OrderedDict[int, Recipe] = OrderedDict()

    def learn(self, order: Learn) -> Answer:
        self._recipes[order.recipe] = pickle.loads(self._objects[: order.size_bytes])  # noqa: S301 - the stager's
        if len(self._recipes) > MOST_RECIPES:
            self._recipes.popitem(last=False)
        return Ready()

    def make(self, order: Make) -> Answer:
        recipe = self._recipes.get(order.recipe)
        if recipe is None:
            return Lacks()
        self._recipes.move_to_end(order.recipe)
        # A copy: what a recipe remembers of an object must not become the next one's bytes.
        data = bytearray(memoryview(self._objects)[: order.size_bytes])
        try:
            made = recipe(data, *order.words)
            return Declined() if made is None else self._finished(order, *made)
        except MdmError as error:
            return failed(error)
        except Exception as error:  # noqa: BLE001 - the edge of a worker
            log.error("making_failed", error=type(error).__name__)  # noqa: TRY400 - a traceback may hold values
            return failed(InternalError("a file could not be made"))

    def _finished(self, order: Make, parts: Sequence[Buffer], report: str) -> Answer:
        sealed = sealed_of(parts, self._seal_key, order.guid, order.public_key)
        if (sum(map(len, parts)) if sealed is None else sealed.size_bytes) > len(self._files):
            return Declined()
        room, digest = _Room(self._files), Digest()
        for piece in map(room.put, parts) if sealed is None else sealed.file(parts, room.take):
            digest.update(piece)
        return finished(digest, sealed, report)


def failed(error: MdmError) -> Failed:
    """Return what is told of an error of the tree."""
    return Failed(type(error).__name__, error.message)


def failure_of(told: Failed) -> MdmError:
    """Return the error that was told."""
    return _LEAVES.get(told.leaf, InternalError)(told.message)


def sealed_of(parts: Sequence[Buffer], seal_key: bytes, guid: str, public_key: bytes) -> Sealed | None:
    """Measure what is to be sealed; None for a file without a public key, which is not."""
    if not public_key:
        return None
    sealer = Sealer(seal_key, Guid(guid), public_key)
    for part in parts:
        sealer.absorb(part)
    return sealer.seal()


def finished(digest: Digest, sealed: Sealed | None, report: str) -> Finished:
    """Return what is known of a file that has passed through a digest.

    Raises:
        InternalError: the report is longer than a packet.
    """
    if len(report) > MOST_REPORT_CHARS:
        raise InternalError("a report is longer than may be told of a file")
    header_blake3 = "" if sealed is None else blake3_of(sealed.header)
    return Finished(digest.size_bytes, digest.adler32, digest.blake3, header_blake3, report)


class _Room:
    """Where a file comes to lie, piece by piece: what is made there needs no copy."""

    def __init__(self, files: mmap.mmap) -> None:
        self._rest = memoryview(files)

    def take(self, size_bytes: int) -> memoryview:
        """Return the place of the next piece."""
        place, self._rest = self._rest[:size_bytes], self._rest[size_bytes:]
        return place

    def put(self, piece: Buffer) -> memoryview:
        """Let a piece that is made be the next one."""
        place = self.take(len(piece))
        place[:] = piece
        return place

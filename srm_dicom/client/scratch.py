"""A node's scratch area across the network: how the inner zone hands sealed files out.

Every connection is opened from here, by the inner zone; the node (`transfer.intake`) answers and never
calls. A file is one streamed request on a connection of its own, so nothing of it waits in memory beyond
one buffer, and a node that loses the connection in the middle drops the file by itself. A group becomes
ready with one further request.

Whatever is wrong between this host and the node (no route, no trust, not on its list of stagers, a
defect there) is a fault of the site that may pass: `Overloaded`, so that the files are tried again until
their requests' deadlines. `NoSpace` and `TooLarge` stay what they are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from srm_dicom.client.http import HttpClient, Response, Upload
from srm_dicom.errors import ConfigError, MdmError, NoSpace, Overloaded, TooLarge
from srm_dicom.identity.credential import Credential
from srm_dicom.scratch.area import StagedName
from srm_dicom.telemetry import logger

INCOMING = "/scratch/incoming"
PUBLISH = "/scratch/publish"
READ = "/scratch/read"

FileId = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
"""The random name that a node gives a file until it is published."""

_TOLD_AS_IT_IS = (NoSpace, Overloaded, TooLarge)

log = logger("scratch")


class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that the node has taken in: the answer to `INCOMING`."""

    id: FileId


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file that was taken in shall be called."""

    id: FileId
    name: str


class Piece(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes of an upload that are asked for."""

    id: FileId
    offset: Annotated[int, msgspec.Meta(ge=0)]
    size: Annotated[int, msgspec.Meta(ge=1, le=16 * 2**20)]


class RemoteScratch:
    """`scratch.node.ScratchNode` over https; for many threads at once."""

    def __init__(
        self,
        url: str,
        credential: Credential,
        *,
        timeout_s: float = 60.0,
        connections: int = 32,
        buffer_bytes: int = 256 * 1024,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: ``https://node:8445``.
            credential: this host's; the node knows its name.
            timeout_s: for an answer of the node to begin, and for a connection to become free.
            connections: most of them at once.
            buffer_bytes: of one open file that wait in memory.

        Raises:
            ConfigError: the URL is not that of a node.
        """
        if urlsplit(url).scheme != "https":
            raise ConfigError("inner.node is not a URL https://host:port")
        self._url = url
        self._credential = credential
        self._timeout_s = timeout_s
        self._buffer_bytes = buffer_bytes
        self._free = threading.BoundedSemaphore(connections)
        self._idle: list[HttpClient] = []

    def begin(self) -> RemoteIncoming:
        """Open a new file; the connection is taken when the first buffer is full."""
        return RemoteIncoming(self, self._buffer_bytes)

    def publish(self, files: Sequence[tuple[StagedName, str]]) -> None:
        """Make files ready together; see `scratch.node.ScratchNode.publish`."""
        body = msgspec.json.encode([Wanted(file_id, str(name)) for name, file_id in files])
        client = self.borrow()
        try:
            with translated():
                # Not repeated: an answer that was lost costs another visit, which replaces the files.
                client.request("POST", PUBLISH, body, _JSON, repeatable=False).raise_for_problem()
        finally:
            self.give_back(client)

    def read(self, file_id: str, offset: int, size_bytes: int) -> bytes:
        """Fetch bytes of an upload; see `scratch.node.ScratchNode.read`."""
        body = msgspec.json.encode(Piece(file_id, offset, size_bytes))
        client = self.borrow()
        try:
            with translated():
                response = client.request("POST", READ, body, _JSON)
                response.raise_for_problem()
                return response.body
        finally:
            self.give_back(client)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def borrow(self) -> HttpClient:
        """Take a connection, which only the caller uses until it is given back.

        Raises:
            Overloaded: none became free in time.
        """
        if not self._free.acquire(timeout=self._timeout_s):
            raise Overloaded("too many files are on their way to the scratch node")
        try:
            return self._idle.pop()
        except IndexError:
            return HttpClient(self._url, self._credential, timeout_s=self._timeout_s, unavailable=Overloaded)

    def give_back(self, client: HttpClient) -> None:
        """Return a connection."""
        self._idle.append(client)
        self._free.release()


class RemoteIncoming:
    """A file on its way; see `scratch.node.Incoming`."""

    def __init__(self, node: RemoteScratch, buffer_bytes: int) -> None:
        self._node = node
        self._buffer_bytes = buffer_bytes
        self._buffer = bytearray()
        self._client: HttpClient | None = None
        self._upload: Upload | None = None
        self.id = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; see `scratch.node.Incoming.write`."""
        self._buffer += data
        if len(self._buffer) >= self._buffer_bytes:
            with self._sending() as upload:
                upload.write(self._buffer)
            self._buffer.clear()

    def finish(self) -> None:
        """Say that every byte is written; `id` is known afterwards."""
        with self._sending() as upload:
            upload.write(self._buffer)
            response = upload.finish()
            response.raise_for_problem()
            self.id = _written(response)
        self._end()

    def discard(self) -> None:
        """Break the upload off, if it goes on; what the node has of it is dropped there."""
        if self._upload is not None:
            self._upload.abort()
        self._end()

    @contextmanager
    def _sending(self) -> Iterator[Upload]:
        self._client = self._client or self._node.borrow()
        with translated():
            self._upload = self._upload or self._client.upload(INCOMING, _BYTES)
            yield self._upload

    def _end(self) -> None:
        self._upload = None
        self._buffer.clear()
        if self._client is not None:
            self._node.give_back(self._client)
            self._client = None


_JSON = (("Content-Type", "application/json"),)
_BYTES = (("Content-Type", "application/octet-stream"),)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the node answers into what the stager can act on; the log has what it was.

    Raises:
        NoSpace, Overloaded, TooLarge: see the module.
    """
    try:
        yield
    except _TOLD_AS_IT_IS:
        raise
    except MdmError as error:
        log.warning("scratch_node_refused", error=type(error).__name__, reason=error.message)
        raise Overloaded("the scratch node does not take files now") from error


def _written(response: Response) -> str:
    try:
        return msgspec.json.decode(response.body, type=Written).id
    except msgspec.MsgspecError as error:
        raise Overloaded("the scratch node does not answer as one") from error

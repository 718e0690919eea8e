"""One key server on the wire: calls that wait for their answer, and calls that leave it for later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from srm_dicom.client.http import Response
from srm_dicom.errors import InvalidRequest, KeyServerUnavailable, TooLarge
from srm_dicom.rights.acl import Acl
from srm_dicom.soap.envelope import body_entry
from srm_dicom.wire.hydra import messages, plain
from srm_dicom.wire.hydra.contract import PermissionEntry
from srm_dicom.wire.hydra.permissions import acl_of, permission_of

DEFAULT_PATH = "/glite-data-hydra-service/services/Hydra"
MAX_CALLS_PER_SERVER = 8
"""Calls to one server that may be under way; a server that hangs cannot pile up more."""

MAX_BEGUN_BYTES = 16 * 1024
"""What a connection takes at once, whatever the server does."""

WAITING = object()
"""Says that an answer is not whole yet."""

_HEADERS = (("Content-Type", messages.CONTENT_TYPE), ("SOAPAction", '""'))


class Connection(Protocol):
    """One kept connection: as `client.http.HttpClient`."""

    def request(
        self, method: str, target: str, body: bytes, headers: Any, *, repeatable: bool | None
    ) -> Response:
        """Send a request and read the whole answer."""
        ...

    def start(
        self, method: str, target: str, body: bytes, headers: Iterable[tuple[str, str]]
    ) -> StartedRequest | None:
        """Send a request if the connection is open, and leave the answer for later."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class StartedRequest(Protocol):
    """A request whose answer has not been read: as `client.http.Started`."""

    def fileno(self) -> int:
        """Return the descriptor on which the answer arrives."""
        ...

    def take(self) -> Response | None:
        """Take what has arrived, without waiting; None as long as the answer is not whole."""
        ...

    def wait(self, seconds: float) -> Response:
        """Wait for the answer."""
        ...


class Server:
    """One key server and the connections to it that are idle.

    Attributes:
        name: host and port.
        ailing: it was silent or not to be had the last time; then it is asked after the others.
        fastest_s: of its answers over a connection that was there; 0 before the first.
    """

    def __init__(self, url: str, connect: Callable[[str], Connection]) -> None:
        parts = urlsplit(url)
        self.name = parts.netloc
        self.ailing = False
        self.fastest_s = 0.0
        self._url = url
        self._target = parts.path if parts.path.strip("/") else DEFAULT_PATH
        self._connect = connect
        self._idle: list[Connection] = []
        self._places = [None] * MAX_CALLS_PER_SERVER

    def answered(self, seconds: float) -> None:
        """Note how long an answer took."""
        self.fastest_s = min(self.fastest_s or seconds, seconds)

    def call(self, operation: str, *arguments: object) -> Any:
        """Call an operation and return its result.

        Raises:
            MdmError: what the server's fault stands for, or `KeyServerUnavailable`.
        """
        return self.send(Call(operation, arguments))

    def send(self, call: Call) -> Any:
        """Call an operation and return its result.

        Raises:
            MdmError: as `call`.
        """
        if not self._enter():
            raise KeyServerUnavailable(f"{self.name} has not answered earlier calls yet")
        try:
            return self.result(call, self._exchange(call.body))
        finally:
            self._places.append(None)

    def begin(self, call: Call) -> Begun | None:
        """Send a small call on a connection that is idle; None when it is not small, or there is none.

        Raises:
            KeyServerUnavailable: the server does not take it.
        """
        if len(call.body) > MAX_BEGUN_BYTES or not self._enter():
            return None
        try:
            connection = self._idle.pop()
            started = connection.start("POST", self._target, call.body, _HEADERS)
        except IndexError:
            started = None
        except BaseException:
            self._places.append(None)
            raise
        if started is None:
            self._places.append(None)
            return None
        return Begun(self, call, connection, started)

    def result(self, call: Call, answer: Response) -> Any:
        """Return what an answer to a call says.

        Raises:
            MdmError: as `call`.
        """
        found = plain.read_response(call.operation, answer.body)
        return found[0] if found else messages.read_response(call.operation, self._entry(answer))

    def finish(self, connection: Connection | None) -> None:
        """End a call that was begun; its connection is idle again, if it is still of use."""
        if connection is not None:
            self._idle.append(connection)
        self._places.append(None)

    def permissions(self, key_ids: Sequence[str]) -> Sequence[PermissionEntry]:
        """Return the permissions of keys.

        Raises:
            MdmError: as `call`.
        """
        entries: Sequence[PermissionEntry] = self.call("getPermission", key_ids)
        if len(entries) != len(key_ids):
            raise KeyServerUnavailable(f"{self.name} answered for other keys than it was asked for")
        return entries

    def set_acl(self, key_ids: Sequence[str], acl: Acl) -> None:
        """Replace ACLs; base entries that `acl` does not have stay as they are.

        Raises:
            MdmError: as `call`.
        """
        tags = {entry.tag for entry in acl.access() if not entry.qualifier}
        changed = []
        for entry in self.permissions(key_ids):
            base = [
                one for one in acl_of(entry.permission).entries if not one.qualifier and one.tag not in tags
            ]
            changed.append(PermissionEntry(entry.item, permission_of(Acl((*base, *acl.access())))))
        self.call("setPermission", changed)

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            self._idle.pop().close()

    def _enter(self) -> bool:
        """Take a place for a call; False when all are taken. A semaphore would cost as much as the rest."""
        try:
            self._places.pop()
        except IndexError:
            return False
        return True

    def _exchange(self, body: bytes) -> Response:
        since_s = None
        try:
            connection = self._idle.pop()
            since_s = time.monotonic()
        except IndexError:
            connection = self._connect(self._url)
        try:
            answer = connection.request("POST", self._target, body, _HEADERS, repeatable=True)
        except BaseException:
            connection.close()
            raise
        if since_s is not None:
            self.answered(time.monotonic() - since_s)
        self._idle.append(connection)
        return answer

    def _entry(self, answer: Response) -> Any:
        if "xml" not in (answer.header("content-type") or ""):
            answer.raise_for_problem()
        try:
            return body_entry(answer.body)
        except (InvalidRequest, TooLarge) as error:
            raise KeyServerUnavailable(f"{self.name} does not answer as a key server does") from error


class Call:
    """An operation with its arguments, the same for every server.

    Attributes:
        operation: its name.
        body: the message.
    """

    def __init__(self, operation: str, arguments: Sequence[object]) -> None:
        self.operation = operation
        self.body = messages.request(operation, *arguments)


class Begun:
    """A call that a server has been sent and has not answered; see `Server.begin`."""

    def __init__(self, server: Server, call: Call, connection: Connection, started: StartedRequest) -> None:
        self.server = server
        self._call = call
        self._connection = connection
        self._started = started
        self._since_s = time.monotonic()

    def fileno(self) -> int:
        """Return the descriptor on which the answer arrives."""
        return self._started.fileno()

    def take(self) -> Any:
        """Take what has arrived, without waiting; returns `WAITING` as long as the answer is not whole.

        Raises:
            PeerGone: the connection ended before any of the answer.
            MdmError: as `Server.call`.
        """
        return self._finished(self._started.take)

    def wait(self, seconds: float) -> Any:
        """Wait for the answer.

        Raises:
            PeerGone, MdmError: as `take`.
        """
        return self._finished(lambda: self._started.wait(seconds))

    def _finished(self, read: Callable[[], Response | None]) -> Any:
        try:
            answer = read()
        except BaseException:
            self.server.finish(None)
            raise
        if answer is None:
            return WAITING
        self.server.answered(time.monotonic() - self._since_s)
        self.server.finish(self._connection)
        return self.server.result(self._call, answer)

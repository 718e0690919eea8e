"""One key server on the wire, and asking many at the same time.

`ask` is where slow and hung servers are dealt with: every server has a thread of its own, answers are
taken as they come, who is late is not waited for while others can be asked instead, and who has not
answered at the deadline counts as unavailable.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from srm_dicom.client.http import Response
from srm_dicom.errors import InternalError, InvalidRequest, KeyServerUnavailable, MdmError, TooLarge
from srm_dicom.rights.acl import Acl
from srm_dicom.soap.envelope import body_entry
from srm_dicom.telemetry import logger
from srm_dicom.wire.hydra import messages
from srm_dicom.wire.hydra.contract import PermissionEntry
from srm_dicom.wire.hydra.permissions import acl_of, permission_of

log = logger("keys")

T = TypeVar("T")

DEFAULT_PATH = "/glite-data-hydra-service/services/Hydra"
MAX_CALLS_PER_SERVER = 8
"""Calls to one server that may be under way; a server that hangs cannot pile up more."""

HEDGE_S = 0.02
"""How long those that are asked first may be silent before the others are asked too."""

_HEADERS = (("Content-Type", messages.CONTENT_TYPE), ("SOAPAction", '""'))


class Connection(Protocol):
    """One kept connection: as `client.http.HttpClient`."""

    def request(
        self, method: str, target: str, body: bytes, headers: Any, *, repeatable: bool | None
    ) -> Response:
        """Send a request and read the whole answer."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Server:
    """One key server and the connections to it that are idle.

    Attributes:
        name: host and port.
        ailing: it was silent or not to be had the last time; then it is asked after the others.
    """

    def __init__(self, url: str, connect: Callable[[str], Connection]) -> None:
        parts = urlsplit(url)
        self.name = parts.netloc
        self.ailing = False
        self._url = url
        self._target = parts.path if parts.path.strip("/") else DEFAULT_PATH
        self._connect = connect
        self._idle: list[Connection] = []
        self._free = threading.BoundedSemaphore(MAX_CALLS_PER_SERVER)

    def call(self, operation: str, *arguments: object) -> Any:
        """Call an operation and return its result.

        Raises:
            MdmError: what the server's fault stands for, or `KeyServerUnavailable`.
        """
        if not self._free.acquire(blocking=False):
            raise KeyServerUnavailable(f"{self.name} has not answered earlier calls yet")
        try:
            body = messages.request(operation, *arguments)
            return messages.read_response(operation, self._entry(self._exchange(body)))
        finally:
            self._free.release()

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

    def _exchange(self, body: bytes) -> Response:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect(self._url)
        try:
            answer = connection.request("POST", self._target, body, _HEADERS, repeatable=True)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    def _entry(self, answer: Response) -> Any:
        if "xml" not in (answer.header("content-type") or ""):
            answer.raise_for_problem()
        try:
            return body_entry(answer.body)
        except (InvalidRequest, TooLarge) as error:
            raise KeyServerUnavailable(f"{self.name} does not answer as a key server does") from error


def ask(
    servers: Sequence[Server],
    timeout_s: float,
    call: Callable[[Server], T],
    *,
    first: int | None = None,
    hedge_s: float = HEDGE_S,
) -> Iterator[tuple[Server, T | MdmError]]:
    """Ask servers at the same time.

    Args:
        servers: who may be asked.
        timeout_s: for all of them together; whoever takes longer counts as unavailable.
        call: what is asked; runs in a thread for each server.
        first: how many are asked at once, those that are well before those that ail; None asks all. One
            more is asked for each that fails, and all others when nobody answers for `hedge_s` or nobody
            is left to wait for. So whoever has enough answers and stops has not troubled the rest.
        hedge_s: how long to wait for an answer before that.

    Yields:
        Each server with its answer, or with the error instead of one, in the order of arrival.
    """
    answers: SimpleQueue[tuple[Server, T | MdmError]] = SimpleQueue()
    until_s = time.monotonic() + timeout_s
    waiting: set[Server] = set()
    rest = deque(sorted(servers, key=lambda server: server.ailing))

    def start(count: int) -> None:
        for _ in range(min(count, len(rest))):
            server = rest.popleft()
            waiting.add(server)
            name = f"keys-{server.name}"
            threading.Thread(target=_answer, args=(server, call, answers), name=name, daemon=True).start()

    start(len(rest) if first is None else first)
    while waiting or rest:
        left_s = max(0.0, until_s - time.monotonic())
        try:
            server, answer = answers.get(timeout=min(left_s, hedge_s) if rest else left_s)
        except Empty:
            for silent in waiting:
                silent.ailing = True
            if rest and left_s > hedge_s:
                start(len(rest))
                continue
            break
        waiting.discard(server)
        if isinstance(answer, MdmError):
            start(1)
        yield server, answer
        if not waiting:
            start(len(rest))
    for server in (*waiting, *rest):
        yield server, KeyServerUnavailable(f"{server.name} did not answer within {timeout_s:g} s")


def _answer(
    server: Server, call: Callable[[Server], T], answers: SimpleQueue[tuple[Server, T | MdmError]]
) -> None:
    answer: T | MdmError
    try:
        answer = call(server)
    except MdmError as error:
        answer = error
    except Exception as error:  # noqa: BLE001 - the edge of a worker
        answer = _defect(server, error)
    server.ailing = isinstance(answer, KeyServerUnavailable)
    answers.put((server, answer))


def _defect(server: Server, error: Exception) -> InternalError:
    log.error("key_call_failed", server=server.name, error=type(error).__name__)
    return InternalError(f"a call to {server.name} failed in this program")

"""Asking many key servers at the same time: where those that are slow, hung or dead are dealt with.

Answers are taken as they come, who is late is not waited for while others can be asked instead, and who
has not answered at the deadline counts as unavailable. A server to which a connection is open is asked
from the caller's own thread, which then waits for all of them: to start a thread and to be woken by it
costs as much as the call. Connections are made, and whatever is more than one call is done, in a thread
for each server.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from srm_dicom.client.keyserver import WAITING, Begun, Call, Server
from srm_dicom.errors import InternalError, KeyServerUnavailable, MdmError
from srm_dicom.telemetry import logger
from srm_dicom.web.stream import PeerGone

log = logger("keys")

T = TypeVar("T")

HEDGE_S = 0.015
"""How long those that are asked first may be silent before the others are asked too, at least."""

_ROUND_TRIPS = 2.0
"""So many of its fastest answers a server may be silent: one that is far away is not late for that."""

_LOOK_EVERY_S = 0.002
"""How often threads are looked for while connections are waited for: one wait does not see both."""


def ask(
    servers: Sequence[Server],
    timeout_s: float,
    call: Callable[[Server], T] | Call,
    *,
    first: int | None = None,
    hedge_s: float = HEDGE_S,
    late: Callable[[Iterator[tuple[Server, T]]], None] | None = None,
) -> Generator[tuple[Server, T | MdmError], None, None]:
    """Ask servers at the same time.

    Args:
        servers: who may be asked.
        timeout_s: for all of them together; whoever takes longer counts as unavailable.
        call: what is asked; a function runs in a thread for each server.
        first: how many are asked at once, those that are well before those that ail; None asks all. One
            more is asked for each that fails, and all others when nobody answers for `hedge_s` or nobody
            is left to wait for. So whoever has enough answers and stops has not troubled the rest.
        hedge_s: how long to wait for an answer before that, or longer for servers that are far away.
        late: is given the answers that are still under way when the caller stops, if there are any; it
            may wait for them later and elsewhere.

    Yields:
        Each server with its answer, or with the error instead of one, in the order of arrival.
    """
    asked = _Asked(call, timeout_s)
    until_s = time.monotonic() + timeout_s
    rest = deque(sorted(servers, key=lambda server: server.ailing))

    def start(count: int) -> None:
        for _ in range(min(count, len(rest))):
            asked.start(rest.popleft())

    try:
        start(len(rest) if first is None else first)
        while asked.waiting or rest:
            left_s = max(0.0, until_s - time.monotonic())
            patience_s = max((hedge_s, *(_ROUND_TRIPS * server.fastest_s for server in asked.waiting)))
            try:
                server, answer = asked.next(min(left_s, patience_s) if rest else left_s)
            except Empty:
                for silent in asked.waiting:
                    silent.ailing = True
                if rest and left_s > patience_s:
                    start(len(rest))
                    continue
                break
            if isinstance(answer, MdmError):
                start(1)
            yield server, answer
            if not asked.waiting:
                start(len(rest))
        for server in (*asked.waiting, *rest):
            yield server, KeyServerUnavailable(f"{server.name} did not answer within {timeout_s:g} s")
    finally:
        asked.leave(late)


class _Asked:
    """The servers that have been asked one thing.

    Attributes:
        waiting: those that have not answered.
    """

    def __init__(self, call: Callable[[Server], Any] | Call, timeout_s: float) -> None:
        self._call = call
        self._timeout_s = timeout_s
        self._told: SimpleQueue[tuple[Server, Any]] = SimpleQueue()
        self._begun: dict[int, Begun] = {}
        self._poll = select.poll()
        self._arrived: deque[int] = deque()
        self.waiting: set[Server] = set()

    def start(self, server: Server) -> None:
        """Ask one."""
        self.waiting.add(server)
        try:
            begun = server.begin(self._call) if isinstance(self._call, Call) else None
        except MdmError as error:
            self._told.put((server, error))
            return
        if begun is None:
            self._in_a_thread(server)
        else:
            self._begun[begun.fileno()] = begun
            self._poll.register(begun.fileno(), select.POLLIN)

    def next(self, seconds: float) -> tuple[Server, Any]:
        """Return who answers next, and the answer or the error instead of one.

        Raises:
            Empty: nobody did, within that time.
        """
        until_s = time.monotonic() + seconds
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            if not self._begun:
                server, answer = self._told.get(timeout=left_s)
            else:
                found = self._told_or_arrived(left_s)
                if found is None:
                    if not left_s:
                        raise Empty
                    continue
                server, answer = found
            self.waiting.discard(server)
            return server, answer

    def leave(self, late: Callable[[Iterator[tuple[Server, Any]]], None] | None) -> None:
        """Stop waiting: what was begun is ended elsewhere, so that its connection can be used again."""
        for begun in self._begun.values():
            self._answer_in_a_thread(begun.server, partial(begun.wait, self._timeout_s))
        self._begun.clear()
        if late is not None and self.waiting:
            late(self._rest())

    def _rest(self) -> Iterator[tuple[Server, Any]]:
        """Wait for what comes after `leave`, and yield the answers among it."""
        until_s = time.monotonic() + self._timeout_s
        while self.waiting:
            try:
                server, answer = self._told.get(timeout=max(0.0, until_s - time.monotonic()))
            except Empty:
                return
            self.waiting.discard(server)
            if not isinstance(answer, Exception):
                yield server, answer

    def _told_or_arrived(self, seconds: float) -> tuple[Server, Any] | None:
        if not self._told.empty():
            return self._told.get()
        if not self._arrived:
            if len(self.waiting) > len(self._begun):
                seconds = min(seconds, _LOOK_EVERY_S)
            self._arrived.extend(descriptor for descriptor, _ in self._poll.poll(seconds * 1000))
        while self._arrived:
            descriptor = self._arrived.popleft()
            begun = self._begun[descriptor]
            answer = _outcome(begun.server, begun.take)
            if answer is WAITING:
                continue
            self._poll.unregister(descriptor)
            del self._begun[descriptor]
            if not isinstance(answer, PeerGone):
                return begun.server, answer
            self._in_a_thread(begun.server)  # closed while it was idle: on a new connection then
        return None

    def _in_a_thread(self, server: Server) -> None:
        call = self._call
        self._answer_in_a_thread(
            server, partial(server.send, call) if isinstance(call, Call) else partial(call, server)
        )

    def _answer_in_a_thread(self, server: Server, call: Callable[[], Any]) -> None:
        def work() -> None:
            self._told.put((server, _outcome(server, call)))

        threading.Thread(target=work, name=f"keys-{server.name}", daemon=True).start()


def _outcome(server: Server, call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the error instead of it; notes whether the server is well."""
    answer: Any
    try:
        answer = call()
    except (MdmError, PeerGone) as error:
        answer = error
    except Exception as error:  # noqa: BLE001 - the edge of a worker
        answer = _defect(server, error)
    if answer is not WAITING:
        server.ailing = isinstance(answer, KeyServerUnavailable | PeerGone)
    return answer


def _defect(server: Server, error: Exception) -> InternalError:
    log.error("key_call_failed", server=server.name, error=type(error).__name__)
    return InternalError(f"a call to {server.name} failed in this program")

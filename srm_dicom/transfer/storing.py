"""Receives one upload: opens the file, takes its bytes, tells how it gets on, and finishes it or not.

Nothing is finished on a guess: a stream-mode upload ends when its connection ends, so the client has to be
there still, and has to have sent as many bytes as it announced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass

from srm_dicom.clock import Clock
from srm_dicom.errors import IntegrityError, InvalidRequest
from srm_dicom.identity.principal import Principal
from srm_dicom.telemetry import logger
from srm_dicom.transfer.channel import Guard
from srm_dicom.transfer.dataport import DataPort
from srm_dicom.transfer.files import NewFile, WrittenFiles
from srm_dicom.transfer.receiving import Target, receive_stream
from srm_dicom.transfer.security import DataSecurity
from srm_dicom.transfer.stripes import Connecting, Stripes, receive_blocks
from srm_dicom.wire.gridftp import markers
from srm_dicom.wire.gridftp.actions import Store
from srm_dicom.wire.gridftp.dialogue import Parameters
from srm_dicom.wire.gridftp.ranges import Received
from srm_dicom.wire.gridftp.replies import Reply

log = logger("transfer")

LEAVING_S = 0.1
"""The kernel closes the connections of a program that was killed one after the other, and the last one it
opened first: where the end of the data is all that says that they are whole, the other one is waited for."""

_MARK_EVERY_S = 5.0
_CLEAR = Reply.of(534, "What is written here must not cross a network in clear: PROT P first.")
_STRIPED = Reply.of(504, "What is written here is taken in by one node: send it without -stripe.")
_COMPLETE = Reply.of(226, "Transfer Complete.")


@dataclass(frozen=True, slots=True)
class Line:
    """The control connection, while something is done for its client.

    Attributes:
        tell: sends a preliminary reply at once.
        guard: called again and again while something takes long.
        look: makes sure that the client is there still, and does not leave within so many seconds.
    """

    tell: Callable[[Reply], None]
    guard: Guard
    look: Callable[[float], None]


class Storing:
    """The uploads of one session."""

    def __init__(
        self, files: WrittenFiles, port: DataPort, stripes: Stripes, clock: Clock, line: Line
    ) -> None:
        self._files = files
        self._port = port
        self._stripes = stripes
        self._clock = clock
        self._line = line

    def store(
        self, principal: Principal, action: Store, parameters: Parameters, security: DataSecurity
    ) -> Reply:
        """Receive a file and answer.

        Raises:
            MdmError: it is refused, or is not what was announced.
            CannotConnect: no data connection came to be.
            OSError: a data connection was lost.
        """
        private = self._files.private_only(principal, action.path)
        if private and not parameters.private:
            return _CLEAR
        if private and self._stripes.receives(parameters):
            return _STRIPED
        begun_s = self._clock.monotonic_s()
        in_any_order = parameters.mode == "E" and action.base is None and not action.append
        with self._files.create(
            principal,
            action.path,
            keep_bytes=_kept(action),
            expected_bytes=action.expected_bytes,
            scattered=Received(action.restart.there).whole if in_any_order else None,
        ) as file:
            target = _target(action, file)
            with _remembering(target) if in_any_order else nullcontext():
                self._receive(target, action, parameters, security)
                self._line.look(0.0 if _says_its_end(action, parameters) else LEAVING_S)
                _check_whole(action, target)
            file.finish()
        log.info(
            "file_received",
            dn=principal.dn,
            path=None if private else action.path,  # what an image is called may name a patient
            bytes=sum(target.stripes),
            seconds=round(self._clock.monotonic_s() - begun_s, 3),
        )
        return _COMPLETE

    def _receive(self, target: Target, action: Store, parameters: Parameters, security: DataSecurity) -> None:
        watch = _Watch(target, self._clock, self._line, restarts=parameters.mode == "E")
        with watch:
            if parameters.mode == "E":
                how = Connecting(parameters, security, watch.tell, watch, watch.broken)
                if self._stripes.receives(parameters):
                    self._stripes.receive(action.path, target, how)
                else:
                    receive_blocks(self._port, target, how)
            else:
                (channel,) = self._port.open(parameters, security, watch.tell, self._line.guard)
                with closing(channel):
                    receive_stream(channel, target, action.restart.offset, watch)


class _Watch:
    """A guard that also tells the client how its transfer gets on: every few seconds, first, and last.

    The last time is the one that counts when a transfer breaks off: the client goes on from there, as soon
    as it hears of the break, which may be from the sender of a copy. In stream mode it is told no ranges:
    Globus's client keeps them as those of MODE E and then sends a number without meaning, the address of its
    list, as the offset to go on from.
    """

    def __init__(self, target: Target, clock: Clock, line: Line, *, restarts: bool) -> None:
        self._target = target
        self._clock = clock
        self._line = line
        self._restarts = restarts
        self._begun = False
        self._due_s = clock.monotonic_s() + _MARK_EVERY_S

    def __enter__(self) -> None:
        """Mark nothing yet: the transfer has not been answered."""

    def __exit__(self, *_: object) -> None:
        if self._begun:
            self.mark()

    def __call__(self) -> None:
        self._line.guard()
        if self._begun and self._clock.monotonic_s() >= self._due_s:
            self.mark()

    def tell(self, reply: Reply) -> None:
        """Say that the transfer begins."""
        self._line.tell(reply)
        self._begun = True
        self.mark()

    def broken(self) -> None:
        """Tell it for the last time, before the sender can tell the client that its connections are gone."""
        if self._begun:
            self.mark()
            self._begun = False

    def mark(self) -> None:
        """Tell it now."""
        self._due_s = self._clock.monotonic_s() + _MARK_EVERY_S
        stripes = self._target.stripes
        for number, moved_bytes in enumerate(stripes):
            self._line.tell(markers.performance(self._clock.now(), moved_bytes, number, len(stripes)))
        ranges = self._target.marker()
        if ranges and self._restarts:
            self._line.tell(markers.restart(ranges))


@contextmanager
def _remembering(target: Target) -> Iterator[None]:
    """Have what is there of a transfer that breaks off remembered: whoever goes on by an offset asks."""
    try:
        yield
    except BaseException:
        target.file.scattered(None if target.received.first_hole is None else target.received.whole)
        raise


def _says_its_end(action: Store, parameters: Parameters) -> bool:
    """Tell whether more than the end of a connection says that all has come."""
    return parameters.mode == "E" or action.expected_bytes is not None


def _kept(action: Store) -> int | None:
    """Say how much of an earlier attempt stays; None for all of it."""
    if action.append or action.base is not None or action.restart.received:
        return None
    return action.restart.offset


def _target(action: Store, file: NewFile) -> Target:
    """Say where the bytes belong.

    Raises:
        InvalidRequest: the client goes on behind the end of what is here, or behind a hole in it.
    """
    if action.append and file.has_holes:
        raise InvalidRequest("not all bytes before the last have come", advice="Go on with REST.")
    base = file.size_bytes if action.append else action.base or 0
    received = Received(action.restart.there)
    if received.end > max(0, file.size_bytes - base):
        raise InvalidRequest(f"REST says more than is here: {file.size_bytes} bytes")
    return Target(file, base, received)


def _check_whole(action: Store, target: Target) -> None:
    """See that all that was announced has come.

    Raises:
        IntegrityError: fewer bytes came than ALLO announced, or not all of a whole file.
    """
    missing = target.received.first_hole
    if missing is not None and action.base is None:
        raise IntegrityError(
            f"the bytes {missing[0]}-{missing[1]} have not come", advice="Go on with REST, or send it again."
        )
    if action.expected_bytes is not None and target.end < action.expected_bytes:
        raise IntegrityError(f"{action.expected_bytes} bytes were announced and {target.end} came")

"""The connection between a door and another transfer node of its site: TLS with host certificates, messages.

Both ends use `StripeLink`; `NodeLink` is the door's end, which asks. A link that fails or is silent for
too long is closed, and with it everything that the node did for the session.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence

from srm_dicom import errors
from srm_dicom.clock import Clock
from srm_dicom.errors import MdmError
from srm_dicom.identity.credential import Shown
from srm_dicom.telemetry import logger
from srm_dicom.transfer.arriving import CannotConnect
from srm_dicom.transfer.channel import DataChannel, Guard
from srm_dicom.wire.gridftp import stripes
from srm_dicom.wire.gridftp.addresses import Address
from srm_dicom.wire.gridftp.gsi import why

log = logger("transfer")

_DOWN_S = 30.0
"""For so long a node that did not answer is not asked again where others can do its part."""

Progressed = Callable[[int, Sequence[tuple[int, int]]], None]
"""Told the bytes that a node has moved and the ranges that it has."""


class StripeLink:
    """Messages over a TLS connection.

    Args:
        tls: after its handshake; this object owns it.
        silence_s: how long the other side may say nothing while it is waited for.
    """

    def __init__(self, tls: ssl.SSLSocket, silence_s: float, clock: Clock) -> None:
        self._tls = tls
        self._channel = DataChannel(tls, Address(*tls.getpeername()[:2]), silence_s, clock)

    def send(self, message: stripes.Message, guard: Guard) -> None:
        """Send a message.

        Raises:
            OSError: the link is lost.
        """
        self._channel.send(stripes.encode(message), guard)

    def receive(self, guard: Guard) -> bytes:
        """Wait for a message and return its body.

        Raises:
            OSError: the link is lost, or the other side is silent.
            TooLarge: the message is.
        """
        length = stripes.length_of(self._exactly(stripes.LENGTH_BYTES, guard))
        return self._exactly(length, guard)

    def check(self) -> None:
        """See that the other side is there and has nothing to say.

        Raises:
            ConnectionAbortedError: it is not, or it has.
        """
        try:
            self._tls.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        except OSError as error:
            raise ConnectionAbortedError("the door has gone") from error
        raise ConnectionAbortedError("the door has ended the transfer")

    def close(self) -> None:
        """End the link."""
        self._channel.close()

    def _exactly(self, size_bytes: int, guard: Guard) -> bytes:
        data = bytearray(size_bytes)
        view = memoryview(data)
        while view:
            count = self._channel.receive_into(view, guard)
            if not count:
                raise ConnectionAbortedError("the link between two transfer nodes has ended")
            view = view[count:]
        return bytes(data)


class StripeNodes:
    """The other transfer nodes over this door's scratch directory, for all of its sessions.

    Args:
        nodes: host names and ports of their links.
        credential: this host's, shown to them.
        connect_s: deadline of a link with its handshake.
        silence_s: how long a node may say nothing while it works.
    """

    def __init__(
        self,
        nodes: Sequence[Address],
        credential: Shown,
        *,
        connect_s: float = 10.0,
        silence_s: float = 45.0,
    ) -> None:
        self.nodes = tuple(nodes)
        self._credential = credential
        self._connect_s = connect_s
        self._silence_s = silence_s
        self._down_until_s: dict[Address, float] = {}

    def open(self, node: Address, begin: stripes.Begin, clock: Clock, *, again: bool) -> NodeLink:
        """Open the link to one of them for a session.

        Args:
            node: of `nodes`.
            begin: whose session it is.
            clock: for the deadlines.
            again: also try a node that has just not answered.

        Raises:
            CannotConnect: it does not answer, or is not who it should be.
        """
        if not again and clock.monotonic_s() < self._down_until_s.get(node, 0.0):
            raise CannotConnect(f"the transfer node {node} has not answered just now")
        try:
            made = NodeLink(node, StripeLink(self._secured(node), self._silence_s, clock))
            made.ask(begin, _no_guard)
        except (OSError, MdmError) as error:
            if isinstance(error, OSError):  # else it answers, and refuses this caller alone
                self._down_until_s[node] = clock.monotonic_s() + _DOWN_S
            reason = why(error) if isinstance(error, ssl.SSLError) else str(error)
            log.warning("node_does_not_answer", peer=node.host, port=node.port, reason=reason)
            raise CannotConnect(f"the transfer node {node} does not answer: {reason}") from error
        self._down_until_s.pop(node, None)
        return made

    def _secured(self, node: Address) -> ssl.SSLSocket:
        context = self._credential.client_context()
        sock = socket.create_connection((node.host, node.port), self._connect_s)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context.wrap_socket(sock, server_hostname=node.host)
        except BaseException:
            sock.close()
            raise


class NodeLink:
    """A door's end of a link; for one thread at a time."""

    def __init__(self, node: Address, link: StripeLink) -> None:
        self.node = node
        self._link = link

    def ask(
        self, message: stripes.Message, guard: Guard, progressed: Progressed | None = None
    ) -> stripes.Listening | stripes.Done:
        """Ask for something and wait until it is done.

        Raises:
            MdmError: the node refuses, as a door would.
            CannotConnect: no data connection of the node came to be.
            OSError: the node, or a data connection of it, is lost; the link is closed.
        """
        try:
            self._link.send(message, guard)
            while True:
                answer = stripes.decode_answered(self._link.receive(guard))
                if progressed is not None and isinstance(answer, stripes.Progress | stripes.Done):
                    progressed(answer.moved_bytes, answer.ranges)
                if not isinstance(answer, stripes.Progress):
                    break
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise OSError(f"the transfer node {self.node} is lost: {error}") from error
            raise
        if isinstance(answer, stripes.Refused):
            raise self._meaning(answer)
        return answer

    def listen(self, guard: Guard) -> Address:
        """Have the node open a port.

        Raises:
            MdmError: as `ask`.
            CannotConnect: it has none that is free, or is lost.
        """
        try:
            answer = self.ask(stripes.Listen(), guard)
        except OSError as error:
            raise CannotConnect(str(error)) from error
        if not isinstance(answer, stripes.Listening):
            raise CannotConnect(f"the transfer node {self.node} opened no port")
        return Address(answer.host, answer.port)

    def close(self) -> None:
        """End the link, and what the node does."""
        self._link.close()

    def _meaning(self, refused: stripes.Refused) -> MdmError | OSError:
        kind = getattr(errors, refused.kind, None)
        if isinstance(kind, type) and issubclass(kind, MdmError) and not kind.__subclasses__():
            return kind(refused.message, advice=refused.advice or None)
        text = f"the transfer node {self.node}: {refused.message}"
        return CannotConnect(text) if refused.kind == CannotConnect.__name__ else OSError(text)


def refusal_of(error: MdmError | OSError) -> stripes.Refused:
    """Write an error as `NodeLink.ask` reads it."""
    if isinstance(error, MdmError):
        return stripes.Refused(type(error).__name__, error.message, error.advice)
    kind = CannotConnect.__name__ if isinstance(error, CannotConnect) else ""
    return stripes.Refused(kind, error.strerror or str(error))


def _no_guard() -> None:
    """Leave the deadlines to the link."""

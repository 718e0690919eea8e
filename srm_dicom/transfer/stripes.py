"""A session's transfers in MODE E over all transfer nodes of the site, this one among them.

SPAS and SPOR speak of stripes, so every node has to take part, or the answer is 425. A client that names
one address with PORT gets data from the nodes that answer; one that does not is left out, and not asked
again for a while.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from srm_dicom.clock import Clock
from srm_dicom.transfer.arriving import CannotConnect
from srm_dicom.transfer.channel import Guard
from srm_dicom.transfer.dataport import DataPort
from srm_dicom.transfer.files import OpenedFile
from srm_dicom.transfer.receiving import BlockReceiver, Target
from srm_dicom.transfer.security import DataSecurity
from srm_dicom.transfer.streams import send_blocks, until, watch
from srm_dicom.transfer.stripelink import NodeLink, StripeNodes
from srm_dicom.wire.gridftp.addresses import Address
from srm_dicom.wire.gridftp.dialogue import Parameters
from srm_dicom.wire.gridftp.replies import Reply
from srm_dicom.wire.gridftp.stripes import Begin, Receive, Send, Share, Way, shares

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connecting:
    """How the data connections of a transfer are made: under what, as whom, and who is told of it.

    Attributes:
        broken: called when what comes in has broken off, before the sender sees its connections go.
    """

    parameters: Parameters
    security: DataSecurity
    tell: Callable[[Reply], None]
    guard: Guard
    broken: Callable[[], None] = lambda: None


def send_share(port: DataPort, file: OpenedFile, share: Share, base: int, how: Connecting) -> None:
    """Send one node's share from its own data port, and keep the connections.

    Raises:
        CannotConnect: a connection did not come to be.
        OSError: a connection is lost.
    """
    channels = port.open(how.parameters, how.security, how.tell, how.guard, share.targets)
    try:
        send_blocks(channels, file, share.ranges, base, how.guard, share.ends)
    except BaseException:
        for channel in channels:
            channel.close()
        raise
    port.keep(channels, how.parameters)


def receive_blocks(port: DataPort, target: Target, how: Connecting) -> None:
    """Receive what comes to one node's own data port in MODE E, and keep the connections.

    Raises:
        CannotConnect: nobody came, or PASV did not come before.
        OSError: a connection is lost.
    """
    kept, arrivals = port.arrivals(how.parameters, how.security, how.tell)
    receiver = BlockReceiver(target, arrivals, port.max_streams)
    with closing(arrivals):
        port.keep(receiver.run(kept, how.guard, how.broken), how.parameters)


class Stripes:
    """The nodes of one session; for one thread.

    Args:
        nodes: the others; None where this is the only one.
        port: this node's own.
        begin: says whose session it is, once somebody has logged in.
    """

    def __init__(
        self, nodes: StripeNodes | None, port: DataPort, begin: Callable[[], Begin], clock: Clock
    ) -> None:
        self._nodes = nodes
        self._port = port
        self._begin = begin
        self._clock = clock
        self._links: list[NodeLink] = []
        self._listening = False
        self._every = False
        self._fresh = False

    def listen(self, guard: Guard) -> tuple[Address, ...]:
        """Open a port on every node; return their addresses, this node's first.

        Raises:
            CannotConnect: one of them does not answer, or has no free port.
        """
        self.forget()
        links = self._open(guard, every=True)
        own = self._port.listen()
        others = _together([partial(link.listen, _no_guard) for link in links], guard)
        self._listening = bool(links)
        return own, *others

    def aim(self, addresses: tuple[Address, ...], *, striped: bool) -> None:
        """Remember where to connect to.

        Raises:
            CannotConnect, NotSupported: see `DataPort.aim`.
        """
        self.forget()
        self._port.aim(addresses)
        self._every, self._fresh = striped, True

    def forget(self) -> None:
        """Let the data go over this node alone until the client says something else."""
        self._listening = self._every = False

    def sends(self, parameters: Parameters) -> bool:
        """Tell whether the next file goes out over all nodes."""
        return self._nodes is not None and parameters.mode == "E" and bool(self._port.targets)

    def receives(self, parameters: Parameters) -> bool:
        """Tell whether the next file comes in over all nodes."""
        return self._listening and parameters.mode == "E"

    def send(
        self, path: str, file: OpenedFile, ranges: Sequence[tuple[int, int]], base: int, how: Connecting
    ) -> None:
        """Send a file over all nodes.

        Raises:
            MdmError: a node refuses, as this one would have.
            OSError: a node or a connection is lost.
        """
        links = self._open(how.guard, every=self._every)
        own, *others = shares(1 + len(links), self._port.targets, how.parameters.streams, ranges)
        way = Way.of(how.parameters)
        asked = [
            Send(
                path,
                way,
                tuple((target.host, target.port) for target in share.targets),
                tuple((int(end.flags), end.offset) for end in share.ends),
                share.ranges,
                base,
                self._fresh,
            )
            for share in others
        ]
        calls = [partial(link.ask, order) for link, order in zip(links, asked, strict=True)]
        self._work(calls, lambda hold: send_share(self._port, file, own, base, hold), how)
        self._fresh = False

    def receive(self, path: str, target: Target, how: Connecting) -> None:
        """Receive a file over all nodes.

        Raises:
            MdmError, OSError: as `send`.
        """
        order = Receive(path, Way.of(how.parameters), target.base)
        calls = [
            partial(link.ask, order, progressed=partial(target.gather, number))
            for number, link in enumerate(self._links, start=1)
        ]
        self._work(calls, lambda hold: receive_blocks(self._port, target, hold), how)

    def close(self) -> None:
        """Leave the other nodes; what they do for this session ends."""
        while self._links:
            self._links.pop().close()
        self.forget()

    def _open(self, guard: Guard, *, every: bool) -> list[NodeLink]:
        """Return links to the other nodes, to all of them or to those that answer."""
        if self._nodes is None:
            return []
        linked = {link.node for link in self._links}
        missing = [node for node in self._nodes.nodes if node not in linked]
        begin = self._begin()

        def open_one(nodes: StripeNodes, node: Address) -> NodeLink | CannotConnect:
            try:
                return nodes.open(node, begin, self._clock, again=every)
            except CannotConnect as error:
                return error

        found = _together([partial(open_one, self._nodes, node) for node in missing], guard)
        self._links += [one for one in found if isinstance(one, NodeLink)]
        failed = next((one for one in found if isinstance(one, CannotConnect)), None)
        if every and failed is not None:
            raise failed
        return self._links

    def _work(
        self, calls: Sequence[Callable[[Guard], object]], own: Callable[[Connecting], None], how: Connecting
    ) -> None:
        """Do this node's part in this thread while the others do theirs; one that fails ends all.

        A node whose part was broken off is left: only the end of its link tells it for certain.
        """
        stop = threading.Event()
        try:
            with ThreadPoolExecutor(max(1, len(calls)), thread_name_prefix="stripe") as pool:
                futures = [pool.submit(call, until(stop)) for call in calls]

                def hold() -> None:
                    how.guard()
                    for future in futures:
                        if future.done():
                            future.result()

                try:
                    own(Connecting(how.parameters, how.security, how.tell, hold))
                    watch(futures, how.guard)
                finally:
                    stop.set()
        except BaseException:
            self.close()
            raise


def _together(calls: Sequence[Callable[[], T]], guard: Guard) -> list[T]:
    """Make calls at the same time, which have deadlines of their own, and return their results."""
    if not calls:
        return []
    with ThreadPoolExecutor(len(calls), thread_name_prefix="stripe") as pool:
        futures = [pool.submit(call) for call in calls]
        watch(futures, guard)
        return [future.result() for future in futures]


def _no_guard() -> None:
    """Leave the deadlines to what is waited for."""

"""The data side of one session: a one-shot listening port, or addresses to connect to.

Listening ports come from the site's range and are closed after their one connection or their deadline:
a leaked listener would use up the range that the firewall has open.
"""

from __future__ import annotations

import math
import secrets
import select
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial

from srm_dicom.clock import Clock
from srm_dicom.errors import NotAuthenticated, NotSupported
from srm_dicom.telemetry import logger
from srm_dicom.transfer.arriving import Arriving, CannotConnect
from srm_dicom.transfer.channel import DataChannel, Guard
from srm_dicom.transfer.dataends import DataSettings, Ends
from srm_dicom.transfer.peers import PeerPolicy
from srm_dicom.transfer.security import DataSecurity
from srm_dicom.turns import Place
from srm_dicom.wire.gridftp.addresses import MAX_STRIPES, Address, plain
from srm_dicom.wire.gridftp.dialogue import Parameters
from srm_dicom.wire.gridftp.replies import Reply

log = logger("transfer")

_GUARD_EVERY_S = 0.25
_STRANGER_S = 5.0
"""Who has not been announced by its address proves in this time to be the user."""

_BEGINNING = Reply.of(150, "Beginning transfer.")
_GOING_ON = Reply.of(125, "Beginning transfer; reusing existing data connection.")


class _Stranger(Exception):
    """Somebody has connected who is not the user; never leaves this module."""


class DataPort:
    """Data connections of one session; not for several threads.

    Args:
        ends: the addresses of the control connection.

    Attributes:
        peer: the client's address.
        owner: the identity that has logged in.
    """

    def __init__(self, settings: DataSettings, policy: PeerPolicy, ends: Ends, clock: Clock) -> None:
        self._settings = settings
        self._policy = policy
        self._family = ends.family
        self._local = plain(ends.bind)
        self._bind = ends.bind
        self.peer = ends.peer
        self.owner = ""
        self._clock = clock
        self._listener: socket.socket | None = None
        self._place = Place(settings.listeners)
        self._listening_on = 0
        self._listening_until_s = 0.0
        self._targets: tuple[Address, ...] = ()
        self._turned_away = ""
        self._kept: list[DataChannel] = []
        self._kept_under: tuple[str, str, str, str] | None = None

    @property
    def max_streams(self) -> int:
        """Most connections of one transfer."""
        return self._settings.max_streams

    @property
    def targets(self) -> tuple[Address, ...]:
        """What the next transfer connects to, once for each stream; nothing when it listens."""
        return self._targets

    @property
    def protocol(self) -> str:
        """The network protocol of the control connection, as RFC 2428 numbers them."""
        return "2" if ":" in self._local else "1"

    def listen(self) -> Address:
        """Open a fresh listening port and return the address to tell.

        Raises:
            CannotConnect: no port of the range is free, or the owner has too many of them.
        """
        self.close()
        if not self._place.take(self.owner):
            raise CannotConnect("you wait on too many data ports: end some transfers, or try again later")
        self._listener = listener = self._listen_in_range()
        self._listening_on = listener.getsockname()[1]
        self._listening_until_s = self._clock.monotonic_s() + self._settings.connect_s
        return Address(self._settings.host or self._local, self._listening_on)

    def forget_stale(self) -> float:
        """Close a listening port that nobody has used in time; return the seconds until the next look."""
        if self._listener is None:
            return math.inf
        left_s = self._listening_until_s - self._clock.monotonic_s()
        if left_s <= 0:
            self._stop_listening()
            return math.inf
        return left_s

    def aim(self, addresses: tuple[Address, ...]) -> None:
        """Remember where to connect to.

        Raises:
            CannotConnect: the site connects to nobody.
            NotSupported: the site's policy does not allow one of them.
        """
        if not self._policy.active:
            raise CannotConnect("this server connects to nobody: use passive mode (PASV, EPSV) and MODE S")
        for address in addresses:
            self._policy.check_target(self.peer, address)
            self._check_own(address)
        self.close()
        self._targets = addresses

    def _check_own(self, address: Address) -> None:
        """Refuse a way for others to this machine's other services: a copy between its doors needs none.

        Raises:
            NotSupported: the address is this machine's, and the port no data port.
        """
        first, last = self._settings.range
        own = address.host in (self._local, self._settings.host) and address.host != self.peer
        if own and not first <= address.port <= last:
            raise NotSupported("data connections to this machine go to its data ports")

    def open(
        self,
        parameters: Parameters,
        security: DataSecurity,
        tell: Callable[[Reply], None],
        guard: Guard,
        targets: tuple[Address, ...] | None = None,
    ) -> list[DataChannel]:
        """Return connections to send on, or the one to receive on in MODE S: kept ones, or fresh ones.

        What is told may wait until `guard` is called: that is done before anything is waited for.

        With `targets`, the connections are just these, in their order.

        Raises:
            CannotConnect: none came to be in time, one is not with the user, or neither PASV nor PORT
                came before.
        """
        if targets is not None and tuple(channel.target for channel in self._kept) != targets:
            self.drop()
        kept = self._take_kept(parameters, security, tell)
        if kept:
            return kept
        if self._listener is not None:
            return [self._accept(parameters, security, guard)]
        return self._connect_all(targets or self._each_stream(parameters), parameters, security, guard)

    def arrivals(
        self, parameters: Parameters, security: DataSecurity, tell: Callable[[Reply], None]
    ) -> tuple[list[DataChannel], Arriving]:
        """Return connections to receive on in MODE E: kept ones, and where new ones come from.

        Raises:
            CannotConnect: in MODE E the sender connects, so PASV or SPAS has to come before.
        """
        kept = self._take_kept(parameters, security, tell)
        if not kept and self._listener is None:
            raise CannotConnect("in MODE E the sender connects: use PASV or SPAS before STOR")
        return kept, self._arriving(parameters, security)

    def _arriving(self, parameters: Parameters, security: DataSecurity) -> Arriving:
        """Return where connections come from that have come to the listening port, and will; it is theirs."""
        listener, self._listener = self._listener, None
        return Arriving(
            listener,
            partial(self._take_peer, proven=parameters.dcau != "N"),
            partial(self._is_known, parameters=parameters),
            partial(self._ready_or_none, parameters=parameters, security=security),
            self._settings.connect_s,
            self._clock,
            self._place.leave,
        )

    def _take_kept(
        self, parameters: Parameters, security: DataSecurity, tell: Callable[[Reply], None]
    ) -> list[DataChannel]:
        """Say that the transfer begins; return the connections that are there already."""
        if self._kept and self._kept_under == parameters.connection:
            tell(_GOING_ON)
            kept, self._kept = self._kept, []
            return kept
        self.drop()
        if self._listener is None and not self._targets:
            raise CannotConnect(
                f"PASV or PORT comes first, and PASV is good for {self._settings.connect_s:g} s"
            )
        if parameters.dcau != "N" and not security.possible:
            raise CannotConnect("no credential was delegated: delegate at login, or send DCAU N")
        tell(_BEGINNING)
        return []

    def keep(self, channels: list[DataChannel], parameters: Parameters) -> None:
        """Keep connections for the next transfer (MODE E)."""
        self._kept, self._kept_under = channels, parameters.connection

    def drop(self) -> None:
        """Close the kept connections."""
        for channel in self._kept:
            channel.close()
        self._kept = []

    def close(self) -> None:
        """Close everything and forget where to connect to."""
        self.drop()
        self._targets = ()
        self._stop_listening()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self._place.leave()

    def _listen_in_range(self) -> socket.socket:
        """Listen on a random free port of the range; accepting from it does not wait.

        A port whose last connection lingers in TIME_WAIT is free: without SO_REUSEADDR a range of 200
        ports would be good for 200 files a minute.
        """
        first, last = self._settings.range
        size = last - first + 1
        offset = secrets.randbelow(size)
        for step in range(size):
            listener = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((self._bind, first + (offset + step) % size))
                listener.listen(MAX_STRIPES)
            except OSError:
                listener.close()
                continue
            return listener
        raise CannotConnect(f"no data port of {first}-{last} is free: try again in a minute")

    def _accept(self, parameters: Parameters, security: DataSecurity, guard: Guard) -> DataChannel:
        if parameters.dcau != "N":
            guard()
        until_s = self._clock.monotonic_s() + self._settings.connect_s
        self._turned_away = ""
        with closing(self._arriving(parameters, security)) as arriving:
            while True:
                ready = self._await_peer(arriving, guard, until_s)
                channel = ready() if ready is not None else None
                if channel is not None:
                    return channel
                if self._clock.monotonic_s() >= until_s:
                    raise self._nobody_came(self._turned_away)
                guard()

    def _await_peer(
        self, arriving: Arriving, guard: Guard, until_s: float
    ) -> Callable[[], DataChannel | None] | None:
        """Most clients have connected before they say what they want: look first, then wait."""
        poll = select.poll()
        poll.register(arriving.fileno(), select.POLLIN)
        while (ready := arriving.take()) is None:
            if self._clock.monotonic_s() >= until_s:
                return None
            guard()
            poll.poll(_GUARD_EVERY_S * 1000)
        return ready

    def _nobody_came(self, turned_away: str) -> CannotConnect:
        return CannotConnect(
            f"no data connection from {self.peer} to port {self._listening_on} "
            f"within {self._settings.connect_s:g} s: look for a firewall between them{turned_away}"
        )

    def _take_peer(self, listener: socket.socket, *, proven: bool) -> tuple[socket.socket, Address] | None:
        """Return a connection that has come from where it may come from, if there is one; do not wait."""
        try:
            sock, (host, port, *_) = listener.accept()
        except OSError:
            return None
        peer = Address(plain(host), port)
        if self._policy.accepts(self.peer, peer.host, proven=proven):
            return sock, peer
        sock.close()
        return None

    def _ready_if_known(
        self, sock: socket.socket, peer: Address, parameters: Parameters, security: DataSecurity
    ) -> DataChannel:
        """Make a connection ready that has come.

        Raises:
            _Stranger: it did not prove to be the user's, and is not from the client: anybody can knock.
            CannotConnect: as `_ready`.
        """
        known = self._is_known(peer, parameters)
        wait_s = self._settings.connect_s if known else min(_STRANGER_S, self._settings.connect_s)
        try:
            return self._ready(sock, peer, parameters, security, accepted=True, wait_s=wait_s)
        except CannotConnect as error:
            if known:
                raise
            log.info("stranger_turned_away", peer=peer.host, port=peer.port)
            raise _Stranger(str(error)) from error

    def _is_known(self, peer: Address, parameters: Parameters) -> bool:
        return peer.host == self.peer or parameters.dcau == "N"

    def _ready_or_none(
        self, sock: socket.socket, peer: Address, parameters: Parameters, security: DataSecurity
    ) -> DataChannel | None:
        try:
            return self._ready_if_known(sock, peer, parameters, security)
        except _Stranger as error:
            self._turned_away = f"; one from {peer.host} was turned away: {error}"
            return None

    def _each_stream(self, parameters: Parameters) -> tuple[Address, ...]:
        targets = self._targets * (parameters.streams if parameters.mode == "E" else 1)
        return targets[: max(MAX_STRIPES, len(self._targets))]

    def _connect_all(
        self, targets: tuple[Address, ...], parameters: Parameters, security: DataSecurity, guard: Guard
    ) -> list[DataChannel]:
        guard()
        if len(targets) == 1:
            return [self._connect(targets[0], parameters, security)]
        with ThreadPoolExecutor(len(targets), thread_name_prefix="connect") as pool:
            futures = [pool.submit(self._connect, target, parameters, security) for target in targets]
        return _all_or_none(futures)

    def _connect(self, target: Address, parameters: Parameters, security: DataSecurity) -> DataChannel:
        try:
            sock = socket.create_connection((target.host, target.port), self._settings.connect_s)
        except OSError as error:
            raise CannotConnect(
                f"cannot connect to {target} ({error.strerror or error}): "
                "use passive mode if a firewall or NAT lies between"
            ) from error
        wait_s = self._settings.connect_s
        return self._ready(sock, target, parameters, security, accepted=False, wait_s=wait_s)

    def _ready(
        self,
        sock: socket.socket,
        target: Address,
        parameters: Parameters,
        security: DataSecurity,
        *,
        accepted: bool,
        wait_s: float,
    ) -> DataChannel:
        channels, owner = self._settings.channels, self.owner
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if parameters.dcau != "N":
                sock.settimeout(wait_s)
                sock = security.secure(
                    sock, accepted=accepted, private=parameters.private, subject=parameters.subject
                )
        except NotAuthenticated as error:
            sock.close()
            raise CannotConnect(error.message) from error
        except OSError as error:
            sock.close()
            raise CannotConnect(
                f"the data connection with {target} failed: {error.strerror or error}"
            ) from error
        if not channels.take(owner):
            sock.close()
            raise CannotConnect("you have too many data connections: end some, or try again later")
        left = partial(channels.release, owner)
        return DataChannel(sock, target, self._settings.stall_s, self._clock, left)


def _all_or_none(futures: Sequence[Future[DataChannel]]) -> list[DataChannel]:
    failed = next((future for future in futures if future.exception() is not None), None)
    if failed is None:
        return [future.result() for future in futures]
    for future in futures:
        if future.exception() is None:
            future.result().close()
    raise failed.exception() or CannotConnect("a data connection failed")

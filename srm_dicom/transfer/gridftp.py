"""The GridFTP door: accepts control connections and gives each a thread.

Bounds: sessions in all, from one address and of one identity, seconds until a login is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from srm_dicom.audit.doors import DoorLog
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.identity.gate import Gate
from srm_dicom.transfer.accepting import Acceptor, Bounds
from srm_dicom.transfer.control import ControlConnection, ControlSettings, Services
from srm_dicom.transfer.dataends import DataSettings
from srm_dicom.transfer.files import ServedFiles, WrittenFiles
from srm_dicom.transfer.peers import PeerPolicy
from srm_dicom.transfer.stripelink import StripeNodes
from srm_dicom.turns import Turns
from srm_dicom.wire.gridftp.dialogue import Limits

_FULL = b"421 Too many sessions, try again later.\r\n"


@dataclass(frozen=True, slots=True)
class GridFtpSettings:
    """Where the door stands and what it bears.

    Attributes:
        host: address to listen on; ``::`` takes IPv4 as well.
        port: 2811 by custom, 0 takes any.
        data_ports: first and last port of passive data connections; (0, 0) takes any.
        data_host: address told to clients instead of the control connection's local one (behind NAT).
        login_s: deadline of a login, from the connection on.
        idle_s: a session without a command for this long ends.
        data_connect_s: deadline of a data connection with its handshake.
        data_stall_s: a peer that takes no byte for this long has gone.
        max_sessions: control connections at once.
        max_sessions_per_address: of them from one address.
        max_sessions_per_identity: of them of one identity.
        max_streams: data connections of one transfer.
        max_data_connections: data connections at once, three quarters of them of one identity at most.
        max_sums: checksums that are computed at the same time, half of them for one identity at most.
        active: connect out to clients (PORT): MODE E downloads need it.
        third_party: networks besides the control peer that data may go to and come from.
        third_party_public: let PORT name any public address, as third-party copies do.
    """

    host: str = "127.0.0.1"
    port: int = 2811
    data_ports: tuple[int, int] = (20000, 20199)
    data_host: str | None = None
    login_s: float = 30.0
    idle_s: float = 600.0
    data_connect_s: float = 30.0
    data_stall_s: float = 120.0
    max_sessions: int = 2000
    max_sessions_per_address: int = 1500
    max_sessions_per_identity: int = 1500
    max_streams: int = 16
    max_data_connections: int = 4000
    max_sums: int = 4
    active: bool = True
    third_party: tuple[str, ...] = ()
    third_party_public: bool = True

    def services(
        self,
        files: ServedFiles,
        writing: WrittenFiles | None,
        gate: Gate,
        clock: Clock,
        audit: AuditLog | None,
        nodes: StripeNodes | None = None,
    ) -> Services:
        """Put together what every session of a door shares.

        Raises:
            ConfigError: `third_party` holds something that is no network.
        """
        return Services(
            files,
            writing,
            gate,
            clock,
            ControlSettings(self.login_s, self.idle_s, Limits(self.max_streams)),
            self.data,
            self.policy,
            DoorLog(audit, "gridftp", clock),
            Turns(self.max_sessions, self.max_sessions_per_identity),
            Turns(self.max_sums),
            nodes,
        )

    @property
    def data(self) -> DataSettings:
        """The bounds of data connections."""
        return DataSettings(
            self.data_ports,
            self.data_host,
            self.data_connect_s,
            self.data_stall_s,
            self.max_streams,
            self.max_data_connections,
        )

    @property
    def policy(self) -> PeerPolicy:
        """Where data connections may lead and come from.

        Raises:
            ConfigError: `third_party` holds something that is no network.
        """
        return PeerPolicy.parse(
            active=self.active, third_party=self.third_party, public=self.third_party_public
        )


class GridFtpDoor(Acceptor):
    """Serves files over GridFTP from `start` to `stop`.

    Args:
        files: decides and opens.
        gate: says who is on the line.
        settings: bounds.
        clock: time.
        audit: logins and refusals go there.
        writing: takes uploads and changes names; None makes the door read-only.
        nodes: the site's other transfer nodes, if it has any.
    """

    def __init__(
        self,
        files: ServedFiles,
        gate: Gate,
        settings: GridFtpSettings,
        clock: Clock,
        audit: AuditLog | None = None,
        writing: WrittenFiles | None = None,
        nodes: StripeNodes | None = None,
    ) -> None:
        services = settings.services(files, writing, gate, clock, audit, nodes)
        bounds = Bounds(
            settings.host, settings.port, settings.max_sessions, settings.max_sessions_per_address, _FULL
        )
        super().__init__(bounds, "gsiftp", partial(ControlConnection, services=services), clock)

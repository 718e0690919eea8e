"""Where data connections may lead and come from: the rule against bounce attacks.

PORT lets a client name any address. What it names is taken only when it is the client's own address
or lies in a network that the site has listed, or is a public address; loopback, private, link-local
and multicast ranges (the hospital's own) are otherwise refused, as are privileged ports.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self

from srm_dicom.errors import ConfigError, NotSupported
from srm_dicom.transfer.networks import Network, address_of, is_public
from srm_dicom.wire.gridftp.addresses import Address

LOWEST_PORT = 1024


@dataclass(frozen=True, slots=True)
class PeerPolicy:
    """The site's rule.

    Attributes:
        active: whether we connect out at all (PORT); MODE E downloads need it.
        third_party: networks besides the control peer that data may go to and come from.
        public: whether any public address is as good as a listed one, for third-party copies; to our
            listening ports only together with proof.
    """

    active: bool = True
    third_party: tuple[Network, ...] = ()
    public: bool = True

    @classmethod
    def parse(cls, *, active: bool, third_party: tuple[str, ...], public: bool) -> Self:
        """Read the networks of a configuration.

        Raises:
            ConfigError: one of them is not ``address/bits``.
        """
        try:
            return cls(active, tuple(ipaddress.ip_network(text) for text in third_party), public)
        except ValueError as error:
            raise ConfigError(f"third_party: {error}") from error

    def check_target(self, control_peer: str, target: Address) -> None:
        """Refuse to connect to what a client named with PORT.

        Raises:
            NotSupported: the address is not allowed.
        """
        if target.port < LOWEST_PORT:
            raise NotSupported("data connections go to ports from 1024 on")
        if not self._allowed(control_peer, target.host, public=self.public):
            raise NotSupported("data connections go to the address of the control connection")

    def accepts(self, control_peer: str, peer: str, *, proven: bool) -> bool:
        """Tell whether a connection to a listening port may come from `peer`.

        Args:
            control_peer: where the control connection comes from.
            peer: the address in question.
            proven: the peer has to show that it is the same user (DCAU A), so a stranger gets nothing.
        """
        return self._allowed(control_peer, peer, public=self.public and proven)

    def _allowed(self, control_peer: str, host: str, *, public: bool) -> bool:
        if host == control_peer:
            return True
        address = address_of(host)
        if any(address in network for network in self.third_party):
            return True
        return public and is_public(address)

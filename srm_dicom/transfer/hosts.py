"""Between which hosts copies go: an allow list for each VO, asked again at every connection.

A copy makes this server connect to a place that a user names, from inside the hospital's network. So a
name has to be listed for the caller's VO, and what it resolves to has to be a public address, or one in a
network that the site has named for it. The check is part of connecting: a redirect, a second try and a name
that resolves to something else by then cannot go around it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from srm_dicom.client.http import Connect
from srm_dicom.errors import ConfigError, NotAuthorised
from srm_dicom.identity.principal import Principal
from srm_dicom.transfer.networks import Network, address_of, is_public

EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class CopyHosts:
    """The site's rule.

    Attributes:
        hosts: by VO (``*`` is everybody's): names, or ``*.example.org`` for all below a domain.
        networks: that may be connected to although they are not public.
        never: networks that may not, whatever else is said: where archives are.
    """

    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    networks: tuple[Network, ...] = ()
    never: tuple[Network, ...] = ()

    @classmethod
    def parse(
        cls, hosts: Mapping[str, tuple[str, ...]], networks: tuple[str, ...], never: tuple[str, ...]
    ) -> Self:
        """Read a configuration.

        Raises:
            ConfigError: one of the networks is not ``address/bits``.
        """
        lowered = {vo: tuple(host.lower() for host in listed) for vo, listed in hosts.items()}
        try:
            return cls(
                lowered,
                tuple(ipaddress.ip_network(text) for text in networks),
                tuple(ipaddress.ip_network(text) for text in never),
            )
        except ValueError as error:
            raise ConfigError(f"[copies]: {error}") from error

    def check(self, principal: Principal, host: str) -> None:
        """Refuse a host that is not listed for the caller.

        Raises:
            NotAuthorised: it is not.
        """
        name = host.lower().rstrip(".")
        listed = [one for vo in (*_vos(principal), EVERYBODY) for one in self.hosts.get(vo, ())]
        if not any(_matches(name, one) for one in listed):
            raise NotAuthorised(
                "this server copies nothing to or from that host for you",
                advice="[copies.hosts] lists the hosts of each VO.",
            )

    def admits(self, address: str) -> bool:
        """Tell whether an address may be connected to."""
        found = address_of(address)
        if any(found in network for network in self.never):
            return False
        if any(found in network for network in self.networks):
            return True
        return is_public(found)

    def connect_for(self, principal: Principal) -> Connect:
        """Return what makes connections for a caller, to nowhere else than the rule allows."""

        def connect(address: tuple[str, int], timeout_s: float) -> socket.socket:
            self.check(principal, address[0])
            places = [place[:2] for *_, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM)]
            allowed = [(str(host), int(port)) for host, port in places if self.admits(str(host))]
            if not allowed:
                raise NotAuthorised("that host is in a network that this server does not connect to")
            for place in allowed[:-1]:
                with suppress(OSError):
                    return socket.create_connection(place, timeout_s)
            return socket.create_connection(allowed[-1], timeout_s)

        return connect


def _vos(principal: Principal) -> list[str]:
    """Return the VOs of a caller: the first part of each group."""
    return list(dict.fromkeys(fqan.split("/")[1] for fqan in principal.fqans if fqan.startswith("/")))


def _matches(name: str, listed: str) -> bool:
    if listed.startswith("*."):
        return name.endswith(listed[1:])
    return name == listed

"""What an address stands for, and whether it is anybody's: where users may have this server connect to."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")
"""Of IPv6 nothing else has been given to anybody (RFC 4291, 2.4); what `is_global` takes besides, such as
``fec0::/10`` and ``::7f00:1``, may lead inwards."""


def address_of(text: str) -> Address:
    """Read an address; one of IPv6 that stands for an IPv4 address is that one.

    Raises:
        ValueError: it is none.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: Address) -> bool:
    """Tell whether an address may be anybody's on the internet."""
    reached = address.version == 4 or address in _UNICAST
    return reached and address.is_global and not address.is_multicast

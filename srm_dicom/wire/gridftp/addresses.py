"""Where data connections go.

The forms of PORT and PASV (RFC 959), EPRT and EPSV (RFC 2428), SPOR and SPAS (GFD.020, 5.4 and 5.5).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from srm_dicom.errors import InvalidRequest
from srm_dicom.wire.gridftp.replies import Reply

MAX_STRIPES = 16
_PORT = re.compile(r"(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})\Z")
_EPRT = re.compile(r"([!-~])([12])\1(?P<host>[0-9A-Fa-f:.]{2,45})\1(?P<port>\d{1,5})\1\Z")
_PASV_REPLY = re.compile(r"(\d{1,3}(?:,\d{1,3}){5})")
_EPSV_REPLY = re.compile(r"\(([!-~])\1\1(\d{1,5})\1\)")


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address as text, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@lru_cache(maxsize=1024)
def plain(host: str) -> str:
    """Write an address in its shortest form, an IPv4 address without its IPv6 mapping."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def parse_port(argument: str) -> Address:
    """Read the argument of PORT, ``h1,h2,h3,h4,p1,p2``.

    Raises:
        InvalidRequest: six numbers from 0 to 255 were expected.
    """
    match = _PORT.match(argument.strip())
    numbers = [int(group) for group in match.groups()] if match else [256]
    if max(numbers) > 255:
        raise InvalidRequest("PORT takes six numbers from 0 to 255")
    return _address(".".join(map(str, numbers[:4])), numbers[4] * 256 + numbers[5])


def parse_eprt(argument: str) -> Address:
    """Read the argument of EPRT, ``|1|132.235.1.2|6275|``.

    Raises:
        InvalidRequest: not that form.
    """
    match = _EPRT.match(argument.strip())
    if match is None:
        raise InvalidRequest("EPRT takes |1|address|port| or |2|address|port|")
    return _address(match["host"], int(match["port"]))


def parse_spor(argument: str) -> tuple[Address, ...]:
    """Read the argument of SPOR: PORT arguments separated by spaces, one a stripe.

    Raises:
        InvalidRequest: none, too many, or one that is not a PORT argument.
    """
    parts = argument.split()
    if not 1 <= len(parts) <= MAX_STRIPES:
        raise InvalidRequest(f"SPOR takes 1 to {MAX_STRIPES} addresses")
    return tuple(parse_port(part) for part in parts)


def _address(host: str, port: int) -> Address:
    try:
        host = plain(host)
    except ValueError as error:
        raise InvalidRequest("not an IP address") from error
    if not 0 < port < 65536:
        raise InvalidRequest("a port is 1 to 65535")
    return Address(host, port)


def six_numbers(address: Address) -> str:
    """Write an IPv4 address and port as ``h1,h2,h3,h4,p1,p2``.

    Raises:
        InvalidRequest: the address is IPv6, which this form cannot hold.
    """
    if ":" in address.host:
        raise InvalidRequest("this connection is IPv6: use EPSV")
    return ",".join([*address.host.split("."), str(address.port >> 8), str(address.port & 255)])


def pasv_reply(address: Address) -> Reply:
    """Answer PASV."""
    return Reply.of(227, f"Entering Passive Mode ({six_numbers(address)})")


def epsv_reply(address: Address) -> Reply:
    """Answer EPSV: the port alone, the host is the control connection's (RFC 2428, 3)."""
    return Reply.of(229, f"Entering Extended Passive Mode (|||{address.port}|)")


def family_reply(supported: str) -> Reply:
    """Refuse a network protocol, and tell the one to use (RFC 2428, 3)."""
    return Reply.of(522, f"Network protocol not supported, use ({supported})")


def spas_reply(addresses: Iterable[Address]) -> Reply:
    """Answer SPAS: an address for each stripe."""
    return Reply.of(229, "Entering Striped Passive Mode.", *map(six_numbers, addresses), "End")


def parse_passive_port(reply: Reply) -> int:
    """Read the port out of a 227 or 229 reply; the host is the control connection's.

    Raises:
        InvalidRequest: the reply has none.
    """
    match = _EPSV_REPLY.search(reply.text)
    if match is not None:
        return _address("0.0.0.0", int(match[2])).port  # noqa: S104 only the port is looked at
    match = _PASV_REPLY.search(reply.text)
    if match is None:
        raise InvalidRequest("the server's reply holds no port")
    return parse_port(match[1]).port

"""Sockets that listen, the addresses of those who call, and who makes room for whom."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TypeVar

from srm_dicom.turns import Turns
from srm_dicom.wire.gridftp.addresses import plain

Guest = TypeVar("Guest")


def listener(host: str, port: int, backlog: int) -> socket.socket:
    """Return a listening socket; ``::`` takes IPv4 as well.

    Raises:
        OSError: the address is not to be had.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return socket.create_server(
        (host, port), family=found[0][0], backlog=backlog, dualstack_ipv6=host == "::"
    )


def accepted(listening: socket.socket) -> tuple[socket.socket, str]:
    """Accept a connection; returns it and whose it is, an IPv4 address without its IPv6 mapping.

    Raises:
        OSError: there is none, or the process has no descriptor for it.
    """
    sock, address = listening.accept()
    return sock, plain(address[0])


def make_room(
    places: Turns,
    peer: str,
    guests: Callable[[], Iterable[tuple[Guest, str, bool]]],
    drop: Callable[[Guest], None],
) -> bool:
    """Take a place for a peer, if need be of one that nobody knows; tells whether there was one.

    Args:
        places: by address; nobody else takes any.
        peer: an address.
        guests: who has the places, the oldest first: each with its address and whether it is known.
        drop: ends one of them, and gives its place back.
    """
    if places.take(peer):
        return True
    alone = places.full_for(peer)
    unknown = (one for one, address, known in guests() if not known and (address == peer or not alone))
    oldest = next(unknown, None)
    if oldest is None:
        return False
    drop(oldest)
    return places.take(peer)

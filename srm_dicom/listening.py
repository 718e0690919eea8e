"""Sockets that listen, and the addresses of those who call."""

from __future__ import annotations

import socket

from srm_dicom.wire.gridftp.addresses import plain


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

"""When a client hears that its transfer begins: before anything is waited for, and else with its end."""

import ipaddress
import socket

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotSupported
from srm_dicom.transfer.dataends import DataSettings, Ends
from srm_dicom.transfer.dataport import DataPort
from srm_dicom.transfer.peers import PeerPolicy
from srm_dicom.wire.gridftp.addresses import Address
from srm_dicom.wire.gridftp.dialogue import Parameters

CLOCK = SystemClock()
ANY = (ipaddress.ip_network("0.0.0.0/0"),)


class _Handshake:
    possible = True

    def __init__(self, seen):
        self._seen = seen

    def secure(self, sock, **_):
        self._seen.append("handshake")
        return sock


def _opening(dcau, *, listening):
    """Return what happens when a connection that is there, or a listening client, is taken."""
    seen = []
    port = DataPort(
        DataSettings((0, 0)), PeerPolicy(), Ends(socket.AF_INET, "127.0.0.1", "127.0.0.1"), SystemClock()
    )
    with socket.create_server(("127.0.0.1", 0)) as client:
        if listening:
            port.aim((Address("127.0.0.1", client.getsockname()[1]),))
            near = client
        else:
            address = port.listen()
            near = socket.create_connection((address.host, address.port))
        (channel,) = port.open(
            Parameters(dcau=dcau),
            _Handshake(seen),
            lambda reply: seen.append(reply.code),
            lambda: seen.append("sent"),
        )
        channel.close()
        near.close()
    return seen


def test_that_a_transfer_begins_is_sent_before_anything_is_waited_for():
    assert _opening("A", listening=False) == [150, "sent", "handshake"]
    assert _opening("A", listening=True) == [150, "sent", "handshake"]
    assert _opening("N", listening=True) == [150, "sent"]


def test_that_a_transfer_begins_is_sent_with_its_end_when_nothing_is_waited_for():
    assert _opening("N", listening=False) == [150]


def test_any_port_is_a_dynamic_one():
    """They are chosen here: the kernel would search long where many linger in TIME_WAIT."""
    port = DataPort(
        DataSettings((0, 0)), PeerPolicy(), Ends(socket.AF_INET, "127.0.0.1", "127.0.0.1"), SystemClock()
    )
    try:
        assert all(49152 <= port.listen().port <= 65535 for _ in range(20))
    finally:
        port.close()


def test_a_client_does_not_lead_to_other_services_of_this_machine():
    def port_of(peer, **settings):
        ends = Ends(socket.AF_INET, "198.51.100.1", peer)
        return DataPort(DataSettings((20000, 20199), **settings), PeerPolicy(third_party=ANY), ends, CLOCK)

    outsider = port_of("203.0.113.9", host="198.51.100.2")
    for own in ("198.51.100.1", "198.51.100.2"):
        for port in (5432, 19999, 20200):
            with pytest.raises(NotSupported):
                outsider.aim((Address("198.51.100.9", 5000), Address(own, port)))
        outsider.aim((Address(own, 20000), Address(own, 20199)))
    port_of("198.51.100.1").aim((Address("198.51.100.1", 5432),))

"""When a client hears that its transfer begins: before anything is waited for, and else with its end."""

import socket

from srm_dicom.clock import SystemClock
from srm_dicom.transfer.dataport import DataPort, DataSettings, Ends
from srm_dicom.transfer.peers import PeerPolicy
from srm_dicom.wire.gridftp.addresses import Address
from srm_dicom.wire.gridftp.dialogue import Parameters


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

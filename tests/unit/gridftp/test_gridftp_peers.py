"""Where data connections may lead: no bounce attacks."""

import pytest

from srm_dicom.errors import ConfigError, NotSupported
from srm_dicom.transfer.peers import PeerPolicy
from srm_dicom.wire.gridftp.addresses import Address

CLIENT = "198.51.100.7"
INWARD = "127.0.0.1 10.1.2.3 192.168.0.9 172.16.5.5 169.254.1.1 100.64.0.1 0.0.0.0 ::1 fe80::1 fd00::1"
NOBODY = "224.0.0.1 255.255.255.255 ff02::1"
STANDING_FOR_OTHERS = "64:ff9b::7f00:1 64:ff9b::a01:203 2002:7f00:1:: ::7f00:1 ::ffff:10.1.2.3 fec0::1"


@pytest.mark.parametrize("host", [*INWARD.split(), *NOBODY.split(), *STANDING_FOR_OTHERS.split()])
def test_a_client_cannot_point_us_inward(host):
    with pytest.raises(NotSupported):
        PeerPolicy().check_target(CLIENT, Address(host, 5000))


def test_the_client_itself_is_allowed_wherever_it_is():
    PeerPolicy().check_target("10.1.2.3", Address("10.1.2.3", 5000))
    PeerPolicy().check_target("127.0.0.1", Address("127.0.0.1", 5000))


def test_privileged_ports_are_refused():
    with pytest.raises(NotSupported):
        PeerPolicy().check_target(CLIENT, Address(CLIENT, 25))


def test_public_addresses_serve_third_party_copies_unless_the_site_says_no():
    PeerPolicy().check_target(CLIENT, Address("8.8.8.8", 5000))
    with pytest.raises(NotSupported):
        PeerPolicy(public=False).check_target(CLIENT, Address("8.8.8.8", 5000))


def test_the_site_may_list_networks():
    policy = PeerPolicy.parse(active=True, third_party=("10.2.0.0/16",), public=False)
    policy.check_target(CLIENT, Address("10.2.3.4", 5000))
    with pytest.raises(NotSupported):
        policy.check_target(CLIENT, Address("10.3.3.4", 5000))
    assert policy.accepts(CLIENT, "10.2.3.4", proven=False)


def test_a_listening_port_takes_the_client_alone():
    assert PeerPolicy().accepts(CLIENT, CLIENT, proven=False)
    assert not PeerPolicy().accepts(CLIENT, "8.8.8.8", proven=False)
    assert not PeerPolicy().accepts(CLIENT, "10.1.1.1", proven=True)


def test_a_public_server_may_call_when_it_proves_to_be_the_user():
    assert PeerPolicy().accepts(CLIENT, "8.8.8.8", proven=True)
    assert not PeerPolicy(public=False).accepts(CLIENT, "8.8.8.8", proven=True)


def test_a_network_that_is_none_is_a_configuration_error():
    with pytest.raises(ConfigError):
        PeerPolicy.parse(active=True, third_party=("10.0.0.1/8",), public=True)

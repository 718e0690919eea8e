"""Where copies may go: names by VO, addresses after resolution."""

import ipaddress
import socket
from datetime import UTC, datetime

import pytest

from srm_dicom.errors import ConfigError, NotAuthorised
from srm_dicom.identity.principal import Principal
from srm_dicom.transfer.hosts import CopyHosts

END = datetime(2040, 1, 1, tzinfo=UTC)
BIOMED = Principal("/CN=Alice", ("/biomed/Role=production", "/other/group"), False, END)
ALONE = Principal("/CN=Bob", (), False, END)
HOSTS = CopyHosts.parse(
    {"biomed": ("se.example.org", "*.Grid.example"), "*": ("open.example",)},
    networks=("10.1.0.0/16",),
    never=("10.1.2.0/24", "198.51.100.0/24"),
)


@pytest.mark.parametrize(
    ("principal", "host", "listed"),
    [
        (BIOMED, "se.example.org", True),
        (BIOMED, "SE.Example.org.", True),
        (BIOMED, "a.b.grid.example", True),
        (BIOMED, "grid.example", False),
        (BIOMED, "evilgrid.example", False),
        (BIOMED, "se.example.org.evil.net", False),
        (BIOMED, "open.example", True),
        (BIOMED, "", False),
        (ALONE, "open.example", True),
        (ALONE, "se.example.org", False),
    ],
)
def test_names_are_listed_by_vo(principal, host, listed):
    if listed:
        HOSTS.check(principal, host)
    else:
        with pytest.raises(NotAuthorised):
            HOSTS.check(principal, host)


def test_nothing_is_listed_without_a_configuration():
    with pytest.raises(NotAuthorised):
        CopyHosts().check(BIOMED, "se.example.org")


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.1.3.4", True),
        ("10.1.2.4", False),
        ("10.2.0.1", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("198.51.100.7", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.1.2.4", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("::7f00:1", False),
        ("fec0::1", False),
    ],
)
def test_addresses(address, admitted):
    assert HOSTS.admits(address) is admitted


def resolving(monkeypatch, *addresses):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: found)


def test_a_listed_name_that_resolves_inwards_is_refused(monkeypatch):
    resolving(monkeypatch, "127.0.0.1", "192.168.7.7")
    with pytest.raises(NotAuthorised, match="network"):
        HOSTS.connect_for(BIOMED)(("se.example.org", 443), 1.0)


def test_only_the_checked_address_is_connected_to(monkeypatch):
    """One that answers and one that is forbidden: the name is resolved once, by us."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("10.9.9.9", "127.0.0.1")]
        hosts = CopyHosts({"*": ("se.example.org",)}, networks=(ipaddress.ip_network("127.0.0.0/8"),))
        resolved = {"se.example.org": here}
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *_, **__: resolved.get(host) or numeric(host, port)
        )
        with hosts.connect_for(ALONE)(("se.example.org", port), 5.0) as connected:
            assert connected.getpeername() == ("127.0.0.1", port)


def numeric(host, port):
    assert ipaddress.ip_address(host)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]


def test_a_network_that_is_none():
    with pytest.raises(ConfigError, match="copies"):
        CopyHosts.parse({}, ("10.0.0.0/33",), ())

"""Several machines in one: network namespaces on one wire, which know each other by name.

Only the network is apart, not files or users: what has to cross a wire does. Needs root and iproute2.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_HOSTS = Path("/etc/netns")
"""Below here ``ip netns exec`` looks for a machine's own /etc (ip-netns(8))."""

_ALL_PROTOCOLS = 3
_IPV4, _TCP = 0x0800, 6
_SYN, _ACK = 0x02, 0x10


class Machines:
    """Each of `names` is a machine called ``<name>.test`` with an address of its own."""

    def __init__(self, names: Sequence[str]) -> None:
        """Make them; on a failure nothing is left.

        Raises:
            subprocess.CalledProcessError: this user may not, or this kernel cannot.
        """
        self._tag = f"m{secrets.token_hex(2)}"
        subnet = f"10.213.{secrets.randbelow(256)}"
        self.addresses = {name: f"{subnet}.{number}" for number, name in enumerate(names, 2)}
        try:
            self._ip("link", "add", self._tag, "type", "bridge")
            self._ip("link", "set", self._tag, "up")
            for name in names:
                self._plug_in(name)
        except BaseException:
            self.stop()
            raise

    def _plug_in(self, name: str) -> None:
        machine, wire = self._machine(name), self.wire(name)
        known = "".join(f"{address} {other}.test\n" for other, address in self.addresses.items())
        (_HOSTS / machine).mkdir(parents=True)
        (_HOSTS / machine / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        self._ip("netns", "add", machine)
        self._ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", machine)
        self._ip("link", "set", wire, "master", self._tag, "up")
        self._ip("-n", machine, "address", "add", f"{self.addresses[name]}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._ip("-n", machine, "link", "set", device, "up")

    def stop(self) -> None:
        """Take them away; what still runs in one of them has no network then."""
        for name in self.addresses:
            with suppress(subprocess.CalledProcessError):
                self._ip("netns", "delete", self._machine(name))
            shutil.rmtree(_HOSTS / self._machine(name), ignore_errors=True)
        with suppress(subprocess.CalledProcessError):
            self._ip("link", "delete", self._tag)

    def on(self, name: str, *words: object) -> list[str]:
        """Return the command that runs a command on a machine."""
        called = ("unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', f"{name}.test")
        return ["ip", "netns", "exec", self._machine(name), *called, *map(str, words)]

    def wire(self, name: str) -> str:
        """Return the name of the wire that leads to a machine."""
        return f"{self._tag}-{name}"

    @contextmanager
    def callers(self, name: str) -> Iterator[set[str]]:
        """Yield a set that gets the name of every other machine that opens a connection to this one."""
        found: set[str] = set()
        named = {socket.inet_aton(address): other for other, address in self.addresses.items()}
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as tap:
            tap.bind((self.wire(name), 0))
            tap.settimeout(0.1)
            stop = threading.Event()

            def listen() -> None:
                while not stop.is_set():
                    with suppress(TimeoutError):
                        source, target = _opening(tap.recv(2048))
                        if named.get(target) == name and source in named:
                            found.add(named[source])

            thread = threading.Thread(target=listen, daemon=True)
            thread.start()
            try:
                yield found
            finally:
                stop.set()
                thread.join()

    def _machine(self, name: str) -> str:
        return f"{self._tag}-{name}"

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


def _opening(frame: bytes) -> tuple[bytes, bytes]:
    """Return from whom to whom a frame opens a TCP connection; nobody if it does not."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind != _IPV4 or len(frame) < 54 or frame[23] != _TCP:
        return b"", b""
    flags = frame[14 + 4 * (frame[14] & 15) + 13]
    return (frame[26:30], frame[30:34]) if flags & (_SYN | _ACK) == _SYN else (b"", b"")

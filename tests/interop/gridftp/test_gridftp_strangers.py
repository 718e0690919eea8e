"""Anybody can knock at a data port: who is not the user ends no transfer by it."""

import socket
import threading
from contextlib import ExitStack, contextmanager, suppress

import pytest

from srm_dicom.testing.ports import free_pair

GUC = pytest.mark.interop("globus-url-copy")


@contextmanager
def strangers(ports, *, silent=False):
    """Knock at data ports as soon as they are open, from an address that data may come from.

    Who is silent stays; 40 of them at most.
    """
    end = threading.Event()
    come, staying = [], []

    def knock(port):
        while not end.is_set() and len(staying) < 40:
            with suppress(OSError), ExitStack() as stack:
                sock = stack.enter_context(socket.socket())
                sock.settimeout(1)
                sock.bind(("127.0.0.9", 0))
                sock.connect(("127.0.0.1", port))
                come.append(port)
                if silent:
                    staying.append(stack.pop_all())
                else:
                    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")

    threads = [threading.Thread(target=knock, args=(port,)) for port in ports]
    for thread in threads:
        thread.start()
    try:
        yield come
    finally:
        end.set()
        for thread in threads:
            thread.join()
        for stack in staying:
            stack.close()


@GUC
@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("options", [(), ("-p", "3"), ("-dcpriv",)], ids=" ".join)
def test_strangers_end_no_transfer(site, new_door, tmp_path, options, silent):
    ports = free_pair()
    with (
        new_door(site.files, data_ports=ports, third_party=("127.0.0.9/32",)) as url,
        strangers(ports, silent=silent) as come,
    ):
        name = "strange" + "".join(options)
        site.succeed("globus-url-copy", *options, f"file://{site.root}/file", f"{url}/{name}")
        assert (site.root / name).read_bytes() == (site.root / "file").read_bytes()
        site.succeed("globus-url-copy", *options, f"{url}/file", f"file://{tmp_path}/back")
        assert (tmp_path / "back").read_bytes() == (site.root / "file").read_bytes()
        assert come

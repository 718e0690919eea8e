"""Receiving CT slices (512 x 512) over C-STORE: this program's receiver beside dcmtk's storescp.

The sender is dcmtk's storescu, once as Debian ships it (Nagle's algorithm on: what an untouched PACS
does) and once with TCP_NODELAY, which storescp then has too. Neither receiver writes to a disk: storescp
has ``--ignore``, ours drops what it has read. Rounds of all ways alternate; the medians are compared.
"""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from srm_dicom.clock import SystemClock
from srm_dicom.testing.archives import SYSTEM_PATH, program, storescu
from srm_dicom.testing.images import SeriesSpec, make_series, save
from srm_dicom.testing.ports import free_port
from srm_plugin_dicom.receiver import ObjectInfo, Peer, Receiver

SLICES = 200
ROUNDS = 3


class Dropper:
    """A handler that counts and forgets."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self, _info: ObjectInfo) -> "Dropper":
        return self

    def write(self, _chunk: memoryview) -> None:
        return None

    def finish(self) -> None:
        self.count += 1

    def abandon(self) -> None:
        return None


def run() -> dict[str, float]:
    """Return images per second of each way, and ours in relation to storescp."""
    with ExitStack() as stack:
        paths = save(
            make_series(SeriesSpec(slices=SLICES, rows=512, columns=512)),
            Path(stack.enter_context(tempfile.TemporaryDirectory())),
        )
        ours = start_ours(stack)
        theirs, tuned = start_storescp(stack, no_delay=False), start_storescp(stack, no_delay=True)

        def send(port: int, *, no_delay: bool) -> Callable[[], None]:
            return lambda: storescu(
                paths, port, called="BENCH", calling="STORESCU", options=["-xe"], no_delay=no_delay
            )

        rates = interleaved(
            {
                "ours, sender as shipped": send(ours, no_delay=False),
                "storescp, sender as shipped": send(theirs, no_delay=False),
                "ours, sender with NODELAY": send(ours, no_delay=True),
                "storescp, sender with NODELAY": send(tuned, no_delay=True),
            }
        )
    for sender in ("as shipped", "with NODELAY"):
        rates[f"ours / storescp, {sender}"] = (
            rates[f"ours, sender {sender}"] / rates[f"storescp, sender {sender}"]
        )
    return rates


def start_ours(stack: ExitStack) -> int:
    peer = Peer("STORESCU", frozenset({"127.0.0.1"}))
    receiver = Receiver(
        "BENCH", bind="127.0.0.1", port=0, peers=[peer], handler=Dropper(), clock=SystemClock()
    )
    receiver.start()
    stack.callback(receiver.stop)
    return receiver.port


def start_storescp(stack: ExitStack, *, no_delay: bool) -> int:
    port = free_port()
    command = [program("storescp"), "--ignore", "--max-pdu", "131072", "-aet", "BENCH", str(port)]
    environment = {"PATH": SYSTEM_PATH} | ({"TCP_NODELAY": "1"} if no_delay else {})
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    time.sleep(1)
    return port


def interleaved(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: SLICES / statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Print the table."""
    for name, value in run().items():
        print(f"{name:32} {value:10,.2f}" if "/" in name else f"{name:32} {value:10,.0f} images/s")


if __name__ == "__main__":
    main()

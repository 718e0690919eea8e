"""A worker of the stager's workshop: ``python -m srm_dicom.daemon.worker CHANNEL OBJECTS FILES DOOR``.

The four numbers are of descriptors that it inherits; by the door come connections to attend, each with a
channel of its own. It ends when the stager does, and by no signal that is meant for the stager. Before it
sees an object it gives up files and connections (`confine`).
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress

from srm_dicom.daemon.confine import confine
from srm_dicom.daemon.coredump import never_dump
from srm_dicom.scratch.attending import Attended
from srm_dicom.scratch.making import WORK_S, work
from srm_dicom.telemetry import configure, logger
from srm_dicom.tuning import keep_what_is_loaded, tune_for_arrivals

log = logger("worker")


LOOK_S = 10.0
"""How often it is looked whether a file takes too long."""


def main(channel: int, objects: int, files: int, door: int) -> None:
    """Work until the other side of the channel is gone."""
    never_dump()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    configure("worker")
    tune_for_arrivals()
    rooms = [mmap.mmap(room, os.fstat(room).st_size) for room in (objects, files)]
    with socket.socket(fileno=channel) as orders, suppress(ConnectionError):
        threading.Thread(target=_leave_with, args=(orders.fileno(),), daemon=True).start()
        threading.Thread(target=_let_in, args=(socket.socket(fileno=door),), daemon=True).start()
        work(orders, *rooms, confine=_settle_in)


def _settle_in() -> None:
    """All is loaded: keep it, and give up whatever making files does not need."""
    keep_what_is_loaded()
    if not confine():
        log.warning("not_confined")


def _leave_with(channel: int) -> None:
    """End when the other side does, in the middle of a file too: nobody else would end what never returns."""
    poll = select.poll()
    poll.register(channel, 0)  # that it was hung up is told in any case
    poll.poll()
    os._exit(0)


def _let_in(door: socket.socket) -> None:
    """Attend what comes by the door, each in a thread; who is stuck takes all of them away."""
    attended = Attended()
    door.settimeout(LOOK_S)
    while not attended.is_stuck(WORK_S):
        with suppress(TimeoutError):
            word, descriptors, _, _ = socket.recv_fds(door, 1, 2)
            if not word:
                break
            pair = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            if len(pair) == 2:  # else there were no descriptors left, and the stager sees the channel close
                threading.Thread(target=attended.serve, args=pair, daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

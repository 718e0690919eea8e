"""A program that a worker may run on a connection: in a module, so that a worker finds it."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass

from srm_dicom.errors import MdmError
from srm_dicom.plugin.attending import Bench, Task


@dataclass(frozen=True, slots=True)
class Lines:
    """Takes objects, each after a line with its name and size; answers ``ok`` or an error's class, and who.

    Under the name ``die`` the process ends, ``break`` is a defect, ``coming`` is told of before it is asked
    for, and ``abandoned`` is handed over but for its end.
    """

    def __call__(self, connection: socket.socket, bench: Bench) -> None:
        """Serve until the other side closes."""
        tasks: dict[str, Task] = {}
        with connection.makefile("rb") as stream:
            for line in stream:
                name, size = line.decode().split()
                data = stream.read(int(size))
                try:
                    _take(bench, tasks, name, data)
                    answer = "ok"
                except MdmError as error:
                    answer = type(error).__name__
                connection.sendall(f"{answer} {os.getpid()}\n".encode())


def _take(bench: Bench, tasks: dict[str, Task], name: str, data: bytes) -> None:
    if name == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "break":
        raise KeyError(data)
    if name == "coming":
        bench.tell_coming((name,))
    if name not in tasks:
        tasks.clear()
        tasks.update({task.name: task for task in bench.ask((name,))})
    task = tasks.pop(name, None)
    fits = len(data) <= bench.most_bytes
    if task is not None and fits and bench.make(task, data, task.words, (name,)):
        return
    over = bench.hand_over((name,))
    over.write(memoryview(data))
    if name == "abandoned":
        over.abandon()
    else:
        over.finish()

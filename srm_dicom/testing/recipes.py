"""Recipes that do what a plugin's may: in a module, so that a worker finds them."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from srm_dicom.errors import ObjectRefused
from srm_dicom.scratch.making import Made

SECRET = "SecretPatient"


def where(data: bytearray, *words: str) -> Made:
    """Return the object in two parts, with the words; the report names the process."""
    return [bytes(data[:10]), memoryview(data)[10:], " ".join(words).encode()], str(os.getpid())


def tell(data: bytearray) -> Made:
    """Return an empty file whose report is the object."""
    return [b""], data.decode()


def refuse(_data: bytearray) -> Made:
    """Refuse it."""
    raise ObjectRefused("burned-in text")


def decline(_data: bytearray) -> None:
    """Decline it."""


def read(data: bytearray) -> Made:
    """Return a file that the object names, as whoever has taken the process over would like to."""
    return [Path(data.decode()).read_bytes()], ""


def write(data: bytearray) -> Made:
    """Leave something in a file that the object names."""
    Path(data.decode()).write_bytes(b"left")
    return [b""], ""


def connect(data: bytearray) -> Made:
    """Call somebody at a port that the object names."""
    with socket.create_connection(("127.0.0.1", int(data)), 10):
        return [b""], ""


def kill(data: bytearray) -> Made:
    """End a process that the object names."""
    os.kill(int(data), signal.SIGKILL)
    return [b""], ""


def load(data: bytearray) -> Made:
    """Load a module that the object names."""
    import_module(data.decode())
    return [b""], ""


def swell(data: bytearray) -> Made:
    """Return a hundred times as much."""
    return [bytes(data)] * 100, "swollen"


def break_down(_data: bytearray) -> Made:
    """Fail as a defect does, with a value of the object in the error."""
    raise ValueError(SECRET)


def die(_data: bytearray) -> Made:
    """Take the process along, as a codec does that reads beyond its buffer."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def hang(_data: bytearray) -> Made:
    """Never return."""
    while True:
        time.sleep(60)


class Remembering:
    """Keeps what it was given last, as a plan that has been learnt might, and returns it with the next."""

    def __init__(self) -> None:
        self._last: Sequence[bytearray] = ()

    def __call__(self, data: bytearray) -> Made:
        """Return the last object and this one."""
        last, self._last = self._last, (data,)
        return [*last, data], ""

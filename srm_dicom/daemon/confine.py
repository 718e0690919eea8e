"""A process that computes and does nothing else says so to the kernel, which holds it to it (landlock(7)).

From then on it opens no file but those that its program is made of, writes none, and makes no TCP connection:
so whoever takes it over, by way of an object that breaks a codec, reads no secret and reaches nobody. What is
open already stays open. A kernel without Landlock (Linux before 5.13) or a part of it holds it to less.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""By version of Landlock: so many of its rights to files there are, which are the lowest bits."""

_TCP = (1 << 0) | (1 << 1)
"""To bind, and to connect."""

_OUTSIDE = (1 << 0) | (1 << 1)
"""Abstract sockets, and signals to processes, that are not confined like this one."""

_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
_MACHINE = ("/sys/devices/system/cpu", "/proc/cpuinfo")
"""What a text detector asks, to be as fast as the machine is."""

_DEVICES = ("/dev/null", "/dev/urandom")


def version() -> int:
    """Return which version of Landlock the kernel has, 0 for none."""
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION))


def confine() -> bool:
    """Give up what a process that computes does not need; tells whether the kernel takes that.

    Modules may still be loaded from wherever this interpreter looks for them, but for the current directory
    and what is not of a package there that is loaded already.
    """
    known = version()
    if not known:
        return False
    rights = (1 << _FILE_RIGHTS[min(known, max(_FILE_RIGHTS))]) - 1
    bounds = struct.pack("QQQ", rights, _TCP if known >= 4 else 0, _OUTSIDE if known >= 6 else 0)
    size_bytes = 8 if known < 4 else 16 if known < 6 else 24
    ruleset = _call(_CREATE_RULESET, bounds, size_bytes, 0)
    if ruleset < 0:
        return False
    try:
        for path in _program():
            _allow(ruleset, path)
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return _call(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _program() -> Iterator[Path]:
    """Yield where the files are that a program is made of."""
    yield from map(Path, (*_SYSTEM, *_MACHINE, *_DEVICES, sys.prefix, sys.base_prefix))
    beside = Path.cwd()  # where ``python -m`` looks first, and anything may be
    yield from (path for path in map(Path, sys.path) if path not in {beside, Path("/"), Path()})
    for name, module in list(sys.modules.items()):
        found = getattr(module, "__path__", None) if "." not in name else None
        yield from map(Path, found or ())


def _allow(ruleset: int, path: Path) -> None:
    """Let files be read and run that are at a path or below."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not everybody has all of it
        return
    try:
        rights = _READ_FILE | _EXECUTE | (_READ_DIR if path.is_dir() else 0)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: int | bytes | None) -> int:
    """Call the kernel; returns less than 0 where it refuses, or is not Linux."""
    call = getattr(ctypes.CDLL(None), "syscall", None) if sys.platform == "linux" else None
    if call is None:
        return -1
    call.restype = ctypes.c_long
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(call(ctypes.c_long(number), *given))

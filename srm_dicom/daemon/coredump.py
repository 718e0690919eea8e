"""No picture of this process's memory on a disk: what handles clear bytes may crash, and leaves nothing."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def never_dump() -> None:
    """Have the kernel write no core file of this process, whatever it dies of.

    A limit of 0 stops core files, but not a handler that the kernel pipes the core to (core(5)), as
    systemd-coredump is; not being dumpable stops both, and other processes of the same user from looking
    in. Where the system has no such call the limit has to do.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    control = getattr(ctypes.CDLL(None), "prctl", None)
    if control is not None:
        control(_PR_SET_DUMPABLE, 0, 0, 0, 0)

"""What the interpreter, the C library and the kernel are told where there are many objects."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress

SWITCH_S = 0.0005
"""How long a thread of the stager may keep the others from the interpreter. A thread that receives lets go
of it some twenty times an object, and each way back took up to the usual 5 ms."""

YOUNG_OBJECTS = 10_000
"""How many more objects there are when cycles of garbage are looked for. After the usual 700 that is done for
every third image, and finds what is under way."""

_M_TRIM_THRESHOLD, KEPT_BYTES = -1, 64 * 1024 * 1024
_M_MMAP_THRESHOLD, LARGE_BYTES = -3, 4 * 1024 * 1024


def tune_for_arrivals() -> None:
    """Let threads take turns often, garbage wait, and glibc keep the memory of one image for the next.

    Otherwise each image's buffers are mapped anew, page by page, which takes a seventh of the stager's time.
    Where the C library has no such call nothing is lost but that. To the kernel it is a batch job (sched(7)),
    where the administrator has not said another thing: who wakes up takes no core from those at work, who
    would come back to cold caches.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(YOUNG_OBJECTS)
    with suppress(OSError):  # a unit's filter may forbid it, and says it itself then
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_M_TRIM_THRESHOLD, KEPT_BYTES)
        tune(_M_MMAP_THRESHOLD, LARGE_BYTES)


def keep_what_is_loaded() -> None:
    """Keep the collector of garbage away from what a process has loaded, for that stays until its end.

    To look through it takes a tenth of a second and more, in which no thread of the process does anything.
    """
    gc.collect()
    gc.freeze()


def allow_descriptors() -> None:
    """Let this process open as many files as its hard limit says: open tars need a lot."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

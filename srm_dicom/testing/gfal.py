"""What gfal2 does by itself, whoever serves it."""

from __future__ import annotations

import re
import signal

LAST_WORDS = re.compile(
    r"(?:free|malloc|munmap_chunk|realloc)\(\): \w|double free or corruption|corrupted (?:size|double-linked)"
)
"""What the C library says of a heap that the client has damaged."""


def died_at_exit(code: int, said: str) -> bool:
    """Tell whether a program died as it sometimes does when all its work is done, with Globus servers too.

    Args:
        code: with which it ended, directly or below a shell.
        said: on its standard error.
    """
    return code in (-signal.SIGABRT, 128 + signal.SIGABRT) and LAST_WORDS.search(said) is not None


def stumbled(code: int) -> bool:
    """Tell whether a program stepped on a damaged heap without a word; its work may be done or not."""
    return code in (-signal.SIGSEGV, 128 + signal.SIGSEGV)

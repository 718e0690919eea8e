"""What gfal2 does by itself, whoever serves it."""

from __future__ import annotations

import re
import signal

LAST_WORDS = re.compile(
    r"(?:free|malloc|munmap_chunk|realloc)\(\): \w|double free or corruption|corrupted (?:size|double-linked)"
)
"""What the C library says of a heap that the client has damaged."""

_FAILURE = re.compile("error|fail|denied", re.IGNORECASE)


def died_at_exit(code: int, said: str) -> bool:
    """Tell whether a program died as it sometimes does when all its work is done, with Globus servers too.

    The C library finds the damaged heap and says so, or the program steps on it without a word.

    Args:
        code: with which it ended, directly or below a shell.
        said: on its standard error.
    """
    if code in (-signal.SIGSEGV, 128 + signal.SIGSEGV):
        return _FAILURE.search(said) is None
    return code in (-signal.SIGABRT, 128 + signal.SIGABRT) and LAST_WORDS.search(said) is not None

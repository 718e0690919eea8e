"""Waiting for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 40.0


def eventually(condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Return what is true in the end; AssertionError when it is not in time."""
    until_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.02)
    return found

"""Buffers that stay: to find the pages of a fresh one costs as much as to send a small file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Buffers:
    """Hands out buffers of one size; may be asked by several threads at once.

    Args:
        size_bytes: of each.
        spare: so many that nobody uses are kept.
    """

    def __init__(self, size_bytes: int, spare: int = 32) -> None:
        self._size_bytes = size_bytes
        self._spare: deque[memoryview] = deque(maxlen=spare)

    @contextmanager
    def one(self) -> Iterator[memoryview]:
        """Lend a buffer; it holds whatever its last user left in it."""
        try:
            buffer = self._spare.pop()
        except IndexError:
            buffer = memoryview(bytearray(self._size_bytes))
        try:
            yield buffer
        finally:
            self._spare.append(buffer)

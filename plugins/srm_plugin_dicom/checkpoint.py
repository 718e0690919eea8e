"""A pause of pynetdicom's reactor that is one: without it, an answer is lost now and then.

An association of pynetdicom (3.0) has a thread that takes messages from the peer. Who waits for an answer
pauses it first, and believes it paused when it says so; but it says so before it waits, so it may be on its
way to take the answer that is waited for, which then never comes: on a busy machine one in two thousand.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association

MOST_S = 1.0
"""How long a pause waits for the thread to come to it."""


class Checkpoint(threading.Event):
    """Where the thread waits; cleared, it returns when nobody is on the way past it.

    Args:
        thread: that waits here.
    """

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__()
        self._thread = thread
        self.set()

    def clear(self) -> None:
        """Stop the thread here, and see that it has."""
        super().clear()
        until_s = time.monotonic() + MOST_S
        while not self._cond._waiters and self._thread.is_alive():  # type: ignore[attr-defined]  # noqa: SLF001
            if time.monotonic() > until_s:
                return
            time.sleep(0.0001)


class Entity(AE):
    """An AE whose associations lose no answer."""

    def associate(self, *args: Any, **options: Any) -> Association:
        """Ask for an association; as pynetdicom's."""
        association = super().associate(*args, **options)
        if association.is_established:
            association._reactor_checkpoint = Checkpoint(association)  # noqa: SLF001 - it has no other place
        return association

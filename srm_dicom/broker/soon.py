"""Holding the answer to a request for a moment, because what it asks for may come at once.

A client that hears that its file is not there comes again when it thinks fit, gfal2 after half a second. One
image that the archive has at hand is staged in less than a tenth of that.
"""

from __future__ import annotations

import threading

from srm_dicom.broker.states import ACTIVE
from srm_dicom.clock import Clock
from srm_dicom.db.database import Database
from srm_dicom.db.news import Topic
from srm_dicom.ids import Token
from srm_dicom.store.requests import Requests

MOST_FILES = 8
"""More are not staged at once."""

_AT_ONCE = 16
"""So many answers are held; a caller beyond them hears at once how it is."""

_FIRST_S, _LATE = 0.001, 0.1
"""How soon it is looked again where nothing is heard, and by what part of the wait so far that may grow."""

_HEARD_S = 0.05
"""How soon it is looked again where news should have been heard."""


class Soon:
    """Waits for files of requests, each for `hold_s` at most."""

    def __init__(self, database: Database, requests: Requests, clock: Clock, hold_s: float) -> None:
        self._database = database
        self._requests = requests
        self._clock = clock
        self._hold_s = hold_s
        self._places = threading.Semaphore(_AT_ONCE)

    def wait(self, token: Token) -> bool:
        """Wait until no file of a request waits for a stager, or the time is up; tells whether it waited."""
        if not self._hold_s or not self._places.acquire(blocking=False):
            return False
        try:
            self._wait(token)
        finally:
            self._places.release()
        return True

    def _wait(self, token: Token) -> None:
        since_s, seen = self._clock.monotonic_s(), -1
        with self._database.news(Topic.READY) as news:
            while (waited_s := self._clock.monotonic_s() - since_s) < self._hold_s:
                state = self._database.state()
                if state != seen:
                    seen = state
                    if not self._requests.has_any(token, ACTIVE):
                        return
                pause_s = _HEARD_S if news.is_heard else max(_FIRST_S, _LATE * waited_s)
                news.wait(min(pause_s, self._hold_s - waited_s))

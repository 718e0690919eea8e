"""What becomes of the bytes of handed-in images: gone, with their key, as soon as their put has ended.

Puts end in many places (stored, refused, aborted, out of time) and in other processes. Where they end is a
row of the database, so this process, which alone has the keys, looks whether its uploads still have one.
"""

from __future__ import annotations

import threading

from srm_dicom.broker.puts import Puts
from srm_dicom.scratch.sealeduploads import SealedUploads
from srm_dicom.store.uploads import Uploads
from srm_dicom.telemetry import logger

LOOK_S = 1.0

log = logger("transfer")


class HandedIn:
    """Looks after the sealed uploads of a node; `run` until stopped."""

    def __init__(self, sealed: SealedUploads, uploads: Uploads, puts: Puts, node: str) -> None:
        """Take over from the process that died, if one did: what it had taken in is lost."""
        self._sealed = sealed
        self._uploads = uploads
        log.info("uploads_lost", count=puts.lose(node))

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set, and end everything then."""
        while not stop.wait(LOOK_S):
            try:
                self.look()
            except Exception as error:
                log.exception("uploads_not_looked_after", error=type(error).__name__)
        self._sealed.end(self._sealed.names())

    def look(self) -> None:
        """End what nobody waits for."""
        names = self._sealed.names()
        if names:
            self._sealed.end(names - self._uploads.known(names))

"""Which keys were destroyed here: they do not come back, whatever is restored or sent again.

One line a key in a file of its own, beside the audit log and outside of the database, so that a database
put back from a backup does not put back the ledger. It is on disk before the key goes, and is asked within
each transaction that keeps something: what that has kept all the same, for it came first, goes with the key.
A server that starts removes what its ledger names before it listens; an import does so before it adds
anything.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from srm_dicom.crypto.keyrecord import KEY_ID
from srm_dicom.durable import make_directory, sync_directory
from srm_dicom.errors import ConfigError, InvalidRequest

_LINE = re.compile(rf"([0-9a-f]{{64}}) ({KEY_ID})\Z")


class DestructionLedger:
    """An append-only file; `in` asks for a key by its public half and its id.

    By both: who may make keys may have an id destroyed that is nobody's yet, and could else give the public
    half of somebody else's key with it.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; a line that a crash has cut is left out: its key is still there.

        Raises:
            ConfigError: the file has a line of something else.
        """
        self._path = path
        self._lock = threading.Lock()
        self._destroyed: dict[tuple[bytes, str], None] = {}
        self._lasting = False
        text = path.read_text("ascii") if path.exists() else ""
        for line in text.split("\n")[:-1]:
            match = _LINE.match(line)
            if match is None:
                raise ConfigError(f"{path}: a line is none of a ledger")
            self._destroyed[bytes.fromhex(match[1]), match[2]] = None
        if not text.endswith("\n") and text:
            os.truncate(path, text.rfind("\n") + 1)

    def __contains__(self, key: tuple[bytes, str]) -> bool:
        return key in self._destroyed

    def refuse(self, public_key: bytes, key_id: str) -> None:
        """Refuse a key that was destroyed; who asks in a transaction that keeps something of it asks in time.

        Raises:
            InvalidRequest: it was.
        """
        if (public_key, key_id) in self:
            raise InvalidRequest("the key has been destroyed and does not come back")

    def __iter__(self) -> Iterator[tuple[bytes, str]]:
        """Yield public key and key id of every key that was destroyed."""
        return iter(list(self._destroyed))

    def add(self, destroyed: Iterable[tuple[bytes, str]]) -> None:
        """Note keys, by public key and key id; returns when they are on disk."""
        with self._lock:
            new = dict.fromkeys(key for key in destroyed if key not in self)
            if not new:
                return
            make_directory(self._path.parent)
            self._append("".join(f"{public_key.hex()} {key_id}\n" for public_key, key_id in new).encode())
            if not self._lasting:  # nobody knows what became of the process that made the file
                sync_directory(self._path.parent)
                self._lasting = True
            self._destroyed |= new

    def _append(self, lines: bytes) -> None:
        """Write lines, all or none: the next ones begin where a line ends."""
        with self._path.open("ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                done = 0
                while done < len(lines):
                    done += os.write(file.fileno(), lines[done:])
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise

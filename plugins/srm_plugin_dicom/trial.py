"""A way for ``srm-dicom check`` to have one image moved while a stager holds the port that moves go to.

The stager's process tries on request and tells how it went; nothing else can be asked of it. It listens on a
local socket without a file (Linux, unix(7): abstract), and both sides insist on being the same user.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

import msgspec

from srm_dicom.errors import MdmError, NotDelivered, SourceUnavailable
from srm_dicom.telemetry import logger
from srm_plugin_dicom.settings import NodeSettings

_MAX_BYTES = 4096
_ASK_S = 5.0
_CREDENTIALS = struct.Struct("3i")

log = logger("dicom")


class _Told(msgspec.Struct, omit_defaults=True):
    """What is answered: `detail` of a success, or why it failed."""

    detail: str = ""
    failure: str = ""
    advice: str = ""


class TrialDesk:
    """Answers `ask` in the process that holds the port; a second one of the same node cannot be.

    Args:
        node: whose port is held.
        attempt: has one image of a source moved and tells how it went.

    Raises:
        OSError: another process answers already.
    """

    def __init__(self, node: NodeSettings, attempt: Callable[[str], str]) -> None:
        self._attempt = attempt
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._listener.bind(_address(node))
            self._listener.listen(1)
        except OSError:
            self._listener.close()
            raise
        threading.Thread(target=self._serve, name="dicom-trial", daemon=True).start()

    def stop(self) -> None:
        """Answer nobody any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(_ASK_S)
                if _same_user(connection):
                    source = connection.recv(_MAX_BYTES).decode("utf-8", "replace")
                    connection.send(msgspec.json.encode(self._try(source)))

    def _try(self, source: str) -> _Told:
        try:
            return _Told(detail=self._attempt(source))
        except MdmError as error:
            return _Told(failure=error.message, advice=error.advice)
        except Exception as error:  # noqa: BLE001 - the edge of a worker
            log.warning("trial_broke", error=type(error).__name__)
            return _Told(failure="the trial broke; the stager's log has the details")


def ask(node: NodeSettings, source: str, timeout_s: float) -> str:
    """Have the process that holds the port of `node` try a source; returns how it went.

    Raises:
        NotDelivered: it tried, and no image came.
        SourceUnavailable: no process of this user answers.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(_address(node))
            if not _same_user(connection):
                raise SourceUnavailable("the process that holds the port of moves is another user's")
            connection.send(source.encode("utf-8"))
            told = msgspec.json.decode(connection.recv(_MAX_BYTES), type=_Told)
        except (OSError, msgspec.DecodeError) as error:
            raise SourceUnavailable("what holds the port of moves does not answer") from error
    if told.failure:
        raise NotDelivered(told.failure, advice=told.advice)
    return told.detail


def _address(node: NodeSettings) -> str:
    return f"\0srm-dicom/{node.ae_title}@{node.bind}:{node.port}"


def _same_user(connection: socket.socket) -> bool:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(raw)[1] == os.geteuid())

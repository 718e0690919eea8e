"""Takes the parts of a WADO-RS answer, each a DICOM file (PS3.10), to whoever waits for them.

Which object a part is, its first elements say; until these are read nothing else is held.
"""

from __future__ import annotations

from srm_dicom.errors import InvalidRequest, MdmError, NotAuthorised, Overloaded, TooLarge
from srm_plugin_dicom.header import read_identity
from srm_plugin_dicom.multipart import Event, PartBegins, PartEnds
from srm_plugin_dicom.stores import Handler, ObjectInfo, ObjectSink

HEAD_BYTES = 65_536


class PartTaker:
    """Gets the events of one message; `close` it at the end."""

    def __init__(self, name: str, handler: Handler) -> None:
        self._name = name
        self._handler = handler
        self._prefix: bytearray | None = None
        self._sink: ObjectSink | None = None

    def take(self, event: Event) -> None:
        """Take what comes next.

        Raises:
            Overloaded: too much is being received at once.
        """
        if isinstance(event, PartBegins):
            self._prefix = bytearray()
        elif isinstance(event, PartEnds):
            self._begin()
            self._finish()
        elif self._prefix is None:
            self._write(event)
        else:
            self._prefix += event
            if len(self._prefix) >= HEAD_BYTES:
                self._begin()

    def close(self) -> None:
        """Let go of a part whose rest will not come."""
        if self._sink is not None:
            self._sink.abandon()
            self._sink = None

    def _begin(self) -> None:
        """Find out which object it is; one that nobody waits for has no sink."""
        if self._prefix is None:
            return
        prefix, self._prefix = self._prefix, None
        try:
            sop_class, instance, syntax = read_identity(bytes(prefix[:HEAD_BYTES]))
            self._sink = self._handler.begin(ObjectInfo(sop_class, instance, syntax, self._name, ""))
        except (InvalidRequest, NotAuthorised):
            return
        self._write(bytes(prefix))

    def _write(self, data: bytes) -> None:
        if self._sink is None:
            return
        try:
            self._sink.write(memoryview(data))
        except TooLarge:
            self.close()
        except Overloaded:
            self.close()
            raise

    def _finish(self) -> None:
        """Deliver it; what went wrong with this object, its slot knows."""
        if self._sink is None:
            return
        sink, self._sink = self._sink, None
        try:
            sink.finish()
        except MdmError:
            return

"""The arrivals' AE: whatever configured peers forward is read as far as its header and reported.

The object itself is not kept: it was forwarded by an archive that holds it and gives it again when it
is staged. The sender's C-STORE is answered when `arrived` returned, which is when its news is durable.
"""

from __future__ import annotations

from collections.abc import Callable

from srm_dicom.telemetry import logger
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.header import MAX_HEADER_BYTES, read_header
from srm_plugin_dicom.stores import ObjectInfo, ObjectSink

log = logger("dicom")

Report = Callable[[ObjectInfo, dict[str, str]], None]
"""Gets what is known of an arrived object, by keyword; returns when that is durable."""


class ArrivalDesk:
    """The handler of the arrivals' AE; see the module."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def begin(self, info: ObjectInfo) -> ObjectSink:
        """Open a sink for any object: the receiver has admitted the peer."""
        return _Arrival(info, self._report)


class _Arrival:
    def __init__(self, info: ObjectInfo, report: Report) -> None:
        self._info = info
        self._report = report
        self._prefix = bytearray()

    def write(self, chunk: memoryview) -> None:
        room = MAX_HEADER_BYTES - len(self._prefix)
        if room > 0:
            self._prefix += chunk[:room]

    def finish(self) -> None:
        header = read_header(bytes(self._prefix), self._info.transfer_syntax)
        said = {"SOPClassUID": self._info.sop_class, "SOPInstanceUID": self._info.sop_instance}
        if any(header.setdefault(keyword, uid).strip() != uid for keyword, uid in said.items()):
            log.warning("another_object_came", peer=self._info.address)
            raise refused(Reason.ANOTHER)
        self._report(self._info, header)

    def abandon(self) -> None:
        self._prefix.clear()

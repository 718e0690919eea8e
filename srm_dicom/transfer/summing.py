"""Checksums of parts of an open file."""

from __future__ import annotations

import os

from srm_dicom.transfer.channel import Guard
from srm_dicom.transfer.files import OpenedFile
from srm_dicom.wire.gridftp.ranges import Restart, Section
from srm_dicom.wire.gridftp.sums import new_sum

_READ_BYTES = 1024 * 1024


def sum_of(file: OpenedFile, algorithm: str, section: Section, guard: Guard) -> str:
    """Return the checksum of a section, hexadecimal.

    Raises:
        InvalidRequest: the section begins behind the end of the file.
        OSError: the file is shorter than it was.
    """
    running = new_sum(algorithm)
    for start, end in section.to_send(file.size_bytes, Restart()):
        at = start
        while at < end:
            guard()
            data = os.pread(file.fd, min(_READ_BYTES, end - at), at)
            if not data:
                raise OSError("the file ended early")
            running.update(data)
            at += len(data)
    return running.hexdigest()

"""Checksums of parts of an open file."""

from __future__ import annotations

from srm_dicom.transfer.channel import Guard
from srm_dicom.transfer.files import OpenedFile, read_bytes
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
        for data in read_bytes(file, start, end, _READ_BYTES):
            guard()
            running.update(data)
    return running.hexdigest()

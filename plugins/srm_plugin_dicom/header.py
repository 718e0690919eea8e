"""What a data set says about itself, read from the first part of its bytes."""

from __future__ import annotations

import logging
import warnings
import zlib
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from srm_dicom.errors import InvalidRequest

MAX_HEADER_BYTES = 1 << 20
_PREAMBLE, _PREFIX = 128, 132
_LAST_WANTED = 0x0028FFFF
_BULK = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"})


def read_header(data: bytes, transfer_syntax: str) -> dict[str, str]:
    """Return the values of the groups up to 0028, by keyword, as text.

    Args:
        data: the beginning of a data set as it was sent (no file meta).
        transfer_syntax: its transfer syntax.

    Raises:
        InvalidRequest: the bytes are no data set, or its header is longer than `data`.
    """
    syntax = UID(transfer_syntax)
    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, MAX_HEADER_BYTES)
        dataset = read_dataset(
            BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian, stop_when=_is_beyond
        )
        return texts(dataset)
    except Exception:  # noqa: BLE001 - a parser of foreign bytes may raise anything, with values in it
        raise InvalidRequest("the header of the object cannot be read") from None


def read_file_meta(data: bytes) -> tuple[str, str, str]:
    """Return SOP class, SOP instance and transfer syntax that a file says of itself (PS3.10, 7.1).

    Args:
        data: the beginning of the file, at least its file meta information.

    Raises:
        InvalidRequest: it is no such file.
    """
    if data[_PREAMBLE:_PREFIX] != b"DICM":
        raise InvalidRequest("an object is no DICOM file")
    try:
        meta = read_dataset(
            BytesIO(data[_PREFIX:]), False, True, stop_when=lambda tag, _vr, _length: tag.group != 2
        )
        told = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID
    except Exception:  # noqa: BLE001 - a parser of foreign bytes may raise anything, with values in it
        raise InvalidRequest("the file meta information cannot be read") from None
    return str(told[0]), str(told[1]), str(told[2])


def texts(dataset: Dataset) -> dict[str, str]:
    """Return the values of the top level as text; several values stay separated by backslash."""
    found = {}
    for element in dataset:
        if element.keyword and element.VR not in _BULK and not element.is_empty:
            value = element.value
            found[element.keyword] = "\\".join(map(str, value)) if element.VM > 1 else str(value)
    return found


def keep_values_out_of_logs() -> None:
    """Silence the libraries: pynetdicom logs identifiers, pydicom logs and warns with values."""
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def _is_beyond(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return bool(tag > _LAST_WANTED)

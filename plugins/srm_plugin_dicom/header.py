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
_SOP_INSTANCE = 0x00080018
_IDENTITY_BYTES = 65_536
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


def read_identity(data: bytes) -> tuple[str, str, str]:
    """Return SOP class, SOP instance and transfer syntax of a file (PS3.10, 7.1).

    The UIDs are the data set's: the file meta information of real files often has others.

    Args:
        data: the beginning of the file, to the element (0008,0018) at least.

    Raises:
        InvalidRequest: it is no such file.
    """
    if data[_PREAMBLE:_PREFIX] != b"DICM":
        raise InvalidRequest("an object is no DICOM file")
    try:
        file = BytesIO(data[_PREFIX:])
        meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
        syntax = UID(meta.TransferSyntaxUID)
        rest = file.read()
        if syntax == DeflatedExplicitVRLittleEndian:
            rest = zlib.decompressobj(-zlib.MAX_WBITS).decompress(rest, _IDENTITY_BYTES)
        own = read_dataset(
            BytesIO(rest),
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=lambda tag, _vr, _length: tag > _SOP_INSTANCE,
        )
        return str(own.SOPClassUID), str(own.SOPInstanceUID), str(syntax)
    except Exception:  # noqa: BLE001 - a parser of foreign bytes may raise anything, with values in it
        raise InvalidRequest("the beginning of the file cannot be read") from None


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

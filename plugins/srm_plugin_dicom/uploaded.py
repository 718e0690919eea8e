"""A DICOM file that a user uploads, read with suspicion (PS3.10, 7.1); no I/O.

What is refused is told by its class alone: no message here has a value of the object.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedIOBase
from struct import pack
from typing import BinaryIO, cast

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from srm_dicom.errors import InvalidRequest, MdmError, TooLarge
from srm_plugin_dicom.deidentify.profile import IMPLEMENTATION_UID
from srm_plugin_dicom.header import texts

_PREAMBLE_BYTES, _PREFIX_BYTES = 128, 132
_UNDEFINED = 0xFFFFFFFF
_LARGE_BYTES = 1 << 20
_BEYOND_HEADER = 0x00290000
_ORIGINAL_ATTRIBUTES, _PADDING = 0x04000561, 0xFFFCFFFC
_DELIMITER, _DELIMITER_BYTES = (0xFFFE, 0xE0DD, 0), 8
"""Ends sequences and fragments of undefined length (PS3.5, 7.5.2 and A.4)."""

_CUT = "this DICOM file is cut short"
_METHOD, _METHOD_CODES = 0x00120063, 0x00120064
_UNIQUE = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_MATCHING = frozenset("*?\\")
"""What would make a PatientID match others in a C-FIND (PS3.4, C.2.2.2.4)."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An object that may be given to an archive.

    Attributes:
        data: the data set alone, encoded as it came.
        header: its values of the groups up to 0028, by keyword, as text.
    """

    data: memoryview
    transfer_syntax: str
    header: dict[str, str]

    @property
    def sop_class(self) -> str:
        """Its SOP Class UID."""
        return self.header["SOPClassUID"]

    @property
    def sop_instance(self) -> str:
        """Its SOP Instance UID."""
        return self.header["SOPInstanceUID"]


def read_upload(file: bytearray, max_inflated_bytes: int) -> Uploaded:
    """Read a whole file.

    Args:
        file: its bytes; they must not change afterwards.
        max_inflated_bytes: what a deflated data set may become.

    Raises:
        InvalidRequest: it is no whole DICOM file, lacks what every image has, or is de-identified.
        TooLarge: a deflated data set becomes too large.
    """
    if file[_PREAMBLE_BYTES:_PREFIX_BYTES] != b"DICM":
        raise InvalidRequest("this is no DICOM file (PS3.10)")
    try:
        return _read(memoryview(file).toreadonly(), max_inflated_bytes)
    except MdmError:
        raise
    except Exception:  # noqa: BLE001 - a parser of foreign bytes may raise anything, with values in it
        raise InvalidRequest("this DICOM file cannot be read to its end") from None


def same_content(one: memoryview, one_syntax: str, other: memoryview, other_syntax: str) -> bool:
    """Tell whether two data sets say the same.

    An archive may encode anew what it holds: group lengths, padding and the record of what it coerced
    do not count. Pixels of another compression do.
    """
    if one_syntax == other_syntax and one == other:
        return True
    try:
        return _said(one, one_syntax) == _said(other, other_syntax)
    except Exception:  # noqa: BLE001 - as above
        return False


def _read(file: memoryview, max_inflated_bytes: int) -> Uploaded:
    stream = cast(BinaryIO, _Bytes(file[_PREFIX_BYTES:]))
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    syntax = str(meta.TransferSyntaxUID)
    data = file[_PREFIX_BYTES + stream.tell() :]
    plain = _plain_bytes(data, syntax, max_inflated_bytes)
    dataset = _dataset(plain, syntax, stepping_over_bytes=_LARGE_BYTES)
    if not _is_whole(dataset, plain, is_little_endian=UID(syntax).is_little_endian):
        raise InvalidRequest(_CUT)
    _drop_unread(dataset)
    if _is_deidentified(meta, dataset):
        raise InvalidRequest("a de-identified object does not go into an archive of patients")
    header = {keyword: text.strip() for keyword, text in texts(dataset[:_BEYOND_HEADER]).items()}
    if not all(UID(header.get(keyword, "")).is_valid for keyword in _UNIQUE):
        raise InvalidRequest("the object does not say which it is, and of which study and series")
    if not header.get("PatientID") or _MATCHING & set(header["PatientID"]):
        raise InvalidRequest("the object does not say by a PatientID whose it is")
    return Uploaded(data, syntax, header)


class _Bytes(BufferedIOBase):
    """Bytes as a file, without a copy of them all."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, at most `size`."""
        end = len(self._data) if size is None or size < 0 else self._at + size
        part = bytes(self._data[self._at : end])
        self._at += len(part)
        return part

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Go to a place."""
        self._at = offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: len(self._data)}[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at


def _plain_bytes(data: memoryview, transfer_syntax: str, most: int = _UNDEFINED) -> memoryview:
    """Return the elements of a data set, inflated if they are deflated."""
    if transfer_syntax != DeflatedExplicitVRLittleEndian:
        return data
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(data, most)
    if inflater.unconsumed_tail:
        raise TooLarge("an object is larger than max_object_bytes")
    if not inflater.eof:
        raise InvalidRequest(_CUT)
    return memoryview(plain)


def _dataset(plain: memoryview, transfer_syntax: str, *, stepping_over_bytes: int | None = None) -> Dataset:
    """Return the elements; values that are larger than so much are not read."""
    syntax = UID(transfer_syntax)
    file = cast(BinaryIO, _Bytes(plain))
    return read_dataset(file, syntax.is_implicit_VR, syntax.is_little_endian, defer_size=stepping_over_bytes)


def _drop_unread(dataset: Dataset) -> None:
    """Drop what was stepped over: pydicom would want to read it from a file."""
    for tag, element in list(dataset.items()):
        if isinstance(element, RawDataElement) and element.value is None and element.length:
            del dataset[tag]


def _is_whole(dataset: Dataset, plain: memoryview, *, is_little_endian: bool) -> bool:
    """Tell whether no value has fewer bytes than its length says, and the last ends with the data set.

    Between two elements at the top level a file may be cut without anybody noticing.
    """
    elements = list(dataset.values())
    if any(_end(element) > len(plain) for element in elements):
        return False
    last = max(elements, key=_start)
    if not isinstance(last, RawDataElement) or last.length == _UNDEFINED:
        order = "<" if is_little_endian else ">"
        return bytes(plain[-_DELIMITER_BYTES:]) == pack(f"{order}HHI", *_DELIMITER)
    return _end(last) == len(plain)


def _start(element: RawDataElement | DataElement) -> int:
    """Return where a value begins."""
    return element.value_tell if isinstance(element, RawDataElement) else element.file_tell or 0


def _end(element: RawDataElement | DataElement) -> int:
    """Return where a value ends, or begins if a delimiter ends it."""
    if not isinstance(element, RawDataElement) or element.length == _UNDEFINED:
        return _start(element)
    return element.value_tell + element.length


def _is_deidentified(meta: Dataset, dataset: Dataset) -> bool:
    """Tell whether it says so, or was made here (PS3.3, C.12.1.1.1)."""
    made_here = str(meta.get("ImplementationClassUID", "")) == IMPLEMENTATION_UID.decode("ascii")
    said = str(dataset.get("PatientIdentityRemoved", "") or "").strip().upper() == "YES"
    return made_here or said or _METHOD in dataset or _METHOD_CODES in dataset


def _said(data: memoryview, transfer_syntax: str) -> dict[int, object]:
    return _values(_dataset(_plain_bytes(data, transfer_syntax), transfer_syntax))


def _values(dataset: Dataset) -> dict[int, object]:
    """Return values in a form that does not depend on how they were encoded."""
    return {
        int(element.tag): _value(element.value)
        for element in dataset
        if element.tag.element and element.tag not in {_ORIGINAL_ATTRIBUTES, _PADDING}
    }


def _value(value: object) -> object:
    if isinstance(value, Items):
        return [_values(item) for item in value]
    if isinstance(value, bytes):
        return value.rstrip(b"\0 ")
    several = value if isinstance(value, MultiValue | list) else [value]
    return ["" if each is None else str(each).rstrip("\0 ") for each in several]

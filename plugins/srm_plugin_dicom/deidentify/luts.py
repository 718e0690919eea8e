"""Lookup tables are as long as their descriptors say (PS3.3 C.7.6.3.1.5, C.11.1.1.1), with nothing behind."""

from __future__ import annotations

from collections.abc import Sequence

from srm_plugin_dicom.deidentify.elements import Element
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.syntax import Codec

_DESCRIPTOR_OF = {
    0x00281200: 0x00281100,
    0x00281201: 0x00281101,
    0x00281202: 0x00281102,
    0x00281203: 0x00281103,
    0x00283006: 0x00283002,
}
TAGS = frozenset((*_DESCRIPTOR_OF, *_DESCRIPTOR_OF.values()))
_TABLES = frozenset((b"", b"UN", b"US", b"SS", b"OW"))
"""Representations that a table may have, known or not; what has another one does not leave."""


def check(elements: Sequence[Element], data: bytes, codec: Codec) -> None:
    """Refuse lookup tables of one level that are longer than their descriptors say.

    Raises:
        ObjectRefused: one is, or has no descriptor.
    """
    found = {element[0]: element for element in elements if element[0] in TAGS}
    for tag, descriptor_tag in _DESCRIPTOR_OF.items():
        table, descriptor = found.get(tag), found.get(descriptor_tag)
        if table is None or table.vr not in _TABLES or table.value == table.stop:
            continue
        if descriptor is None or descriptor.stop - descriptor.value < 6:
            raise refused(Reason.PIXELS, f"lookup table {tag:08X}")
        entries = codec.u16.unpack_from(data, descriptor.value)[0] or 1 << 16
        bits = codec.u16.unpack_from(data, descriptor.value + 4)[0]
        length = table.stop - table.value
        packed = bits <= 8 and length in (entries, entries + (entries & 1))
        if length != 2 * entries and not packed:
            raise refused(Reason.PIXELS, f"lookup table {tag:08X}")

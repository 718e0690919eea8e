"""What the header says that decisions need: a few top-level values, read without trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

from srm_plugin_dicom.deidentify import values
from srm_plugin_dicom.deidentify.elements import Element
from srm_plugin_dicom.deidentify.syntax import Syntax
from srm_plugin_dicom.deidentify.text import decoded

CHARACTER_SET = 0x00080005
SOP_CLASS, SOP_INSTANCE, MODALITY = 0x00080016, 0x00080018, 0x00080060
CONVERSION_TYPE, IMAGE_TYPE, BURNED_IN = 0x00080064, 0x00080008, 0x00280301
MANUFACTURER, MODEL, BODY_PART = 0x00080070, 0x00081090, 0x00180015
PATIENT_ID, ISSUER = 0x00100020, 0x00100021
SLICE_THICKNESS, SLICE_SPACING = 0x00180050, 0x00180088
DESCRIPTIONS = (0x00081030, 0x0008103E, 0x00181030, 0x00321060, 0x00400254)
ALL_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
LABEL_IN_IMAGE, RECOGNIZABLE = 0x00480010, 0x00280302
STUDY_INSTANCE, SERIES_INSTANCE = 0x0020000D, 0x0020000E
SAMPLES, PHOTOMETRIC, PLANAR, FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED = 0x00280010, 0x00280011, 0x00280100, 0x00280101
HIGH_BIT, SIGNED, PADDING = 0x00280102, 0x00280103, 0x00280120
OVERLAY_BITS = tuple(range(0x60000102, 0x60200102, 0x20000))
DECIDING = frozenset(
    (
        *(CHARACTER_SET, SOP_CLASS, MODALITY, CONVERSION_TYPE, IMAGE_TYPE, BURNED_IN, MANUFACTURER, MODEL),
        *(BODY_PART, PATIENT_ID, ISSUER, SLICE_THICKNESS, SLICE_SPACING, *DESCRIPTIONS, *ALL_PIXELS),
        *(LABEL_IN_IMAGE, RECOGNIZABLE, SAMPLES, PHOTOMETRIC, PLANAR, FRAMES, ROWS, COLUMNS),
        *(BITS_ALLOCATED, BITS_STORED, HIGH_BIT, SIGNED, PADDING, *OVERLAY_BITS),
    )
)
"""Every attribute that is asked for when it is decided about an object as a whole, but the instance UID."""
NAMES = (SOP_CLASS, SOP_INSTANCE, SERIES_INSTANCE, STUDY_INSTANCE)
"""What tells which object it is, in the order in which it is announced (see `series.Received`)."""

LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Facts:
    """The top-level elements of one object, looked up when they are asked for."""

    data: bytes
    elements: Mapping[int, Element]
    syntax: Syntax

    @classmethod
    def of(cls, data: bytes, elements: Sequence[Element], syntax: Syntax) -> Facts:
        """Index the elements of the top level."""
        return cls(data, {element[0]: element for element in elements}, syntax)

    def raw(self, tag: int) -> bytes:
        """Return a value as it is, without padding; empty when it is missing or too long to be one."""
        element = self.elements.get(tag)
        if element is None or element.items is not None or element.stop - element.value > LONGEST:
            return b""
        return self.data[element.value : element.stop].rstrip(b" \0")

    def text(self, tag: int) -> str:
        """Return a value as text under the object's own character set."""
        return decoded(self.raw(tag), self.raw(CHARACTER_SET))

    def word(self, tag: int) -> str:
        """Return a value as upper-case text."""
        return self.raw(tag).decode("ascii", "replace").strip().upper()

    def words(self, tag: int) -> list[str]:
        """Return the values of an attribute as upper-case text."""
        return [word.strip() for word in self.word(tag).split("\\")]

    def u16(self, tag: int, default: int = 0) -> int:
        """Return an unsigned 16-bit value."""
        element = self.elements.get(tag)
        if element is None or element.stop - element.value != 2:
            return default
        return int(self.syntax.codec.u16.unpack_from(self.data, element.value)[0])

    def number(self, tag: int) -> float | None:
        """Return a decimal string's first value; None where it is no number that a machine could mean."""
        first = self.raw(tag).split(b"\\")[0]
        text = values.number(first, 1)
        found = float(text) if text else inf
        return found if isfinite(found) else None

    def frames(self) -> int:
        """Return the number of frames; 1 when it is not said, 0 when it makes no sense."""
        text = self.raw(FRAMES).strip()
        if not text:
            return 1
        return int(text) if text.isdigit() else 0

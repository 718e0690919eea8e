"""Unused bits of native pixels: above the high bit nothing may stand but the sign and the padding value.

Retired overlays were kept there (PS3.3 C.9.2), and no viewer shows them. The check costs one pass over the
samples, more where some are negative or padding, and nothing where all bits are in use.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.paging import STEP_BYTES, forget
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.syntax import LITTLE
from srm_plugin_dicom.deidentify.view import Viewed, loaded

_CHUNK_BYTES = 1 << 20


def are_unused(facts: Facts) -> bool:
    """Tell whether samples have bits that no pixel needs."""
    allocated = facts.u16(f.BITS_ALLOCATED)
    return allocated not in (facts.u16(f.BITS_STORED), 1)


def check(pixels: Viewed, facts: Facts) -> None:
    """Refuse pixels whose unused bits hold something.

    Args:
        pixels: native samples, as many as the header describes.
        facts: the header.

    Raises:
        ObjectRefused: bits are used that should not be, or lie where they cannot be checked.
    """
    if not are_unused(facts):
        return
    allocated, stored = facts.u16(f.BITS_ALLOCATED), facts.u16(f.BITS_STORED)
    if not 0 < stored < allocated or facts.u16(f.HIGH_BIT, stored - 1) != stored - 1:
        raise refused(Reason.UNUSED_BITS)
    if allocated not in (8, 16):
        raise refused(Reason.UNUSED_BITS)
    order = "<" if facts.syntax.codec is LITTLE else ">"
    for at in range(0, len(pixels), _CHUNK_BYTES):
        chunk = loaded(pixels[at : at + _CHUNK_BYTES])
        samples = np.frombuffer(chunk, f"{order}u{allocated // 8}", len(chunk) * 8 // allocated)
        if np.bitwise_or.reduce(samples) >> stored and not _are_right(samples, facts):
            raise refused(Reason.UNUSED_BITS)
        if not at % STEP_BYTES:
            forget(pixels)


def check_overlays(facts: Facts) -> None:
    """Refuse compressed pixels of which the header says that an overlay is in their unused bits.

    Raises:
        ObjectRefused: it says so (PS3.3 C.9.2, retired), and only a decoder could tell whether it is true.
    """
    stored = facts.u16(f.BITS_STORED)
    if any(facts.u16(tag) >= stored for tag in f.OVERLAY_BITS if tag in facts.elements):
        raise refused(Reason.UNUSED_BITS, "overlay")


def high_bytes(facts: Facts) -> bytes:
    """Return what the highest bytes of samples that lie byte by byte may be; empty if all bits are in use.

    Raises:
        ObjectRefused: bits are unused that cannot be looked at like that.
    """
    allocated, stored = facts.u16(f.BITS_ALLOCATED), facts.u16(f.BITS_STORED)
    if not are_unused(facts):
        return b""
    if allocated not in (8, 16) or not 0 < stored < allocated:
        raise refused(Reason.UNUSED_BITS)
    if facts.u16(f.HIGH_BIT, stored - 1) != stored - 1:
        raise refused(Reason.UNUSED_BITS)
    padding = facts.u16(f.PADDING)
    return allowed(stored - (allocated - 8)) + bytes((padding >> 8 if allocated == 16 else padding & 0xFF,))


@cache
def allowed(free: int) -> bytes:
    """Return the high bytes of samples with `free` bits in them: plain, or with the sign extended."""
    if free <= 0:
        return b"\0\xff"
    return bytes((*range(1 << free), *range(256 - (1 << free - 1), 256)))


def _are_right(samples: NDArray[np.unsignedinteger], facts: Facts) -> bool:
    """Tell whether every sample is in range, negative, or the padding value (PS3.3 C.7.5.1.1.2)."""
    allocated, stored = facts.u16(f.BITS_ALLOCATED), facts.u16(f.BITS_STORED)
    wrong = (samples >= 1 << stored) & (samples < (1 << allocated) - (1 << stored - 1))
    if allocated == 16 and f.PADDING in facts.elements:
        wrong &= samples != facts.u16(f.PADDING)
    return not wrong.any()

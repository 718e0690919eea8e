"""Reads of an object that is too large for memory what lies ahead of its pixel data."""

from __future__ import annotations

from srm_dicom.errors import ObjectRefused
from srm_plugin_dicom.deidentify import part10
from srm_plugin_dicom.deidentify.elements import Element, Limits, Reader
from srm_plugin_dicom.deidentify.reasons import Reason
from srm_plugin_dicom.deidentify.syntax import PIXEL_DATA
from srm_plugin_dicom.deidentify.view import View, WholeNeeded

HEADER_BYTES = (1 << 20, 4 << 20, 16 << 20)
"""How much is read to find the pixel data in, one try after the other."""


def read(view: View, transfer_syntax: str, limits: Limits) -> tuple[part10.Opened, Reader, list[Element]]:
    """Read an object from its beginning until its pixel data are reached.

    Args:
        view: a Part 10 file, or a bare data set.
        transfer_syntax: of a bare data set.
        limits: bounds what is read.

    Returns:
        The beginning of it, opened, its reader and its elements; the last is the pixel data, of which
        the places are told as they are in the whole.

    Raises:
        ObjectRefused: not well-formed as far as it was read.
        WholeNeeded: the pixel data do not begin within a bound, or are in a deflated data set.
    """
    for count in HEADER_BYTES:
        # What looks wrong in a part may be cut at a wrong place: but for the last try, more is the judge.
        more = count < min(len(view), HEADER_BYTES[-1])
        try:
            opened = part10.open_object(bytes(view[:count]), transfer_syntax, limits)
            if opened.syntax.deflated:
                break
            reader = Reader(opened.data, limits, len(view))
            elements = reader.data_set(opened.start, opened.source)
        except ObjectRefused as error:
            if not more and (error.message != Reason.TRUNCATED.value or count >= len(view)):
                raise
            continue
        if elements and elements[-1].tag == PIXEL_DATA:
            return opened, reader, elements
        if not more:
            break
    raise WholeNeeded

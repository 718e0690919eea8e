"""Why an object may not leave: the closed list of reasons that users, logs and reports may see.

A reason is a class, never a value: it says what kind of thing could not be proven clean.
"""

from __future__ import annotations

from enum import Enum

from srm_dicom.errors import ObjectRefused


class Reason(Enum):
    """The classes of reasons; the value is what people read."""

    MALFORMED = "the object is not well-formed DICOM"
    TRUNCATED = "the object ends too early"
    DUPLICATE = "an attribute occurs twice"
    TOO_DEEP = "sequences are nested too deeply"
    TOO_LARGE = "the object is larger than this site handles"
    ANOTHER = "the object is not the one that was asked for"
    NO_IDENTITY = "the object has no SOP class or instance UID"
    TRANSFER_SYNTAX = "objects in this transfer syntax cannot be proven clean"
    SOP_CLASS = "objects of this SOP class cannot be proven clean"
    DOCUMENT = "encapsulated documents cannot be proven clean"
    RAW_DATA = "raw data cannot be proven clean"
    REPORT = "structured reports cannot be proven clean"
    PRESENTATION = "presentation states cannot be proven clean"
    WAVEFORM = "waveforms cannot be proven clean"
    VIDEO = "video cannot be proven clean"
    BURNED_IN = "the pixels may show text"
    RECOGNIZABLE = "the pixels may show a face"
    SLIDE_LABEL = "the pixels may show a slide label"
    PIXELS = "the pixel data do not fit their description"
    UNUSED_BITS = "unused bits of the pixels are in use"
    STREAM = "the compressed pixels cannot be walked"
    CHECK = "the independent check found something"


def refused(reason: Reason, detail: str = "") -> ObjectRefused:
    """Return the error that says so; `detail` names a place (a tag, a marker), never a value."""
    return ObjectRefused(f"{reason.value} ({detail})" if detail else reason.value)

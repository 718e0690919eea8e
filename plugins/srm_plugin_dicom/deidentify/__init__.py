"""Removes every identity: PS3.15 table E.1-1 and an allow-list, checked by an independent walk.

`deidentify` turns the bytes of one object into the bytes that may leave, or refuses. Nothing here does
I/O but `files`; pydicom helps only where text or pixels are decoded (`text`, `decoding`, `detector`).
"""

from srm_plugin_dicom.deidentify.engine import Context, Deidentifier, Output, deidentify
from srm_plugin_dicom.deidentify.pixels import PixelPolicy, Trust
from srm_plugin_dicom.deidentify.profile import PROFILES, SiteProfile, current_version
from srm_plugin_dicom.deidentify.series import Image, SeriesTransform

__all__ = [
    "PROFILES",
    "Context",
    "Deidentifier",
    "Image",
    "Output",
    "PixelPolicy",
    "SeriesTransform",
    "SiteProfile",
    "Trust",
    "current_version",
    "deidentify",
]

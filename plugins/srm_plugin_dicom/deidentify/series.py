"""Transforms of whole series: what makes a head unrecognisable has to see all of its slices (PS3.15 E.3.2).

This software has no transform of its own. A site installs one as an entry point and names it in a profile;
images of such a profile that are thin slices of a head leave through it, or not at all. A transform gets
what would leave of the header, and pixels; it gives back pixels and nothing else.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import NamedTuple
from zlib import crc32

from srm_dicom.errors import ConfigError
from srm_plugin_dicom.deidentify.elements import Buffer
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.view import View

ENTRY_POINTS = "srm_plugin_dicom.transforms"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,15}\Z")
_VERSION = re.compile(r"[A-Za-z0-9._]{1,12}\Z")


@dataclass(frozen=True, slots=True)
class Image:
    """One object of a series, as a transform sees it.

    Attributes:
        header: a Part 10 file of what leaves of it, without its pixel data.
        pixels: its native pixels, little endian, frame after frame as the header describes; writable.
    """

    header: bytes
    pixels: memoryview


class SeriesTransform(ABC):
    """Changes pixels so that nobody is recognised by them; made without arguments, used from any thread.

    Attributes:
        name: what profiles call it: up to 16 lower-case letters, digits and hyphens.
        version: names what it does to pixels, and is part of a release: the same name and version make of
            the same series the same pixels, everywhere and for ever. Up to 12 letters, digits, dots.
    """

    name: str
    version: str

    @abstractmethod
    def clean(self, images: Sequence[Image]) -> None:
        """Change the pixels of a series where they are.

        Args:
            images: every object of the series that may show a face, in an order that depends on nothing
                else; where each lies in space, its header says.

        Raises:
            ObjectRefused: it cannot be done; no image of the series leaves. Any other exception does the
                same and is reported as a defect.
        """


class SeriesNeeded(Exception):
    """An object leaves only together with the others of its series (see `Deidentifier.deidentify_series`)."""

    def __init__(self, series: bytes) -> None:
        """Take the series instance UID, which is not to be shown to anybody."""
        super().__init__("the whole series is needed")
        self.series = series


class Received(NamedTuple):
    """An object, with what it was announced as and has to be: UIDs, empty where nothing was said."""

    data: Buffer | View
    transfer_syntax: str = ""
    sop_class: str = ""
    instance: str = ""
    series: str = ""
    study: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Return what `facts.NAMES` have to say."""
        return self[2:]


@cache
def transform(name: str) -> SeriesTransform:
    """Return an installed transform; one object for all who ask.

    Raises:
        ConfigError: there is none of that name, or it is no transform.
    """
    found = entry_points(group=ENTRY_POINTS)
    points = [point for point in found if point.name == name]
    if len(points) != 1:
        known = ", ".join(sorted(point.name for point in found)) or "none"
        raise ConfigError(f"there is no series transform {name!r}", advice=f"Installed: {known}.")
    try:
        kind = points[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the series transform {name!r} cannot be loaded: {type(error).__name__}") from None
    if not (isinstance(kind, type) and issubclass(kind, SeriesTransform)) or not _NAME.match(name):
        raise ConfigError(f"the entry point {name!r} is no series transform")
    made = kind()
    if made.name != name:
        raise ConfigError(f"the series transform {name!r} calls itself otherwise")
    if not _VERSION.match(made.version):
        raise ConfigError(f"the series transform {name!r} has no version that a release can carry")
    return made


def cleaned(images: Sequence[Image], by: SeriesTransform) -> None:
    """Have a series changed by a transform.

    Raises:
        ObjectRefused: it could not be done, or nothing was changed: a transform that left every pixel as
            it was has not cleaned anything.
    """
    before = [crc32(image.pixels) for image in images]
    by.clean(images)
    if [crc32(image.pixels) for image in images] == before:
        raise refused(Reason.RECOGNIZABLE, "unchanged")

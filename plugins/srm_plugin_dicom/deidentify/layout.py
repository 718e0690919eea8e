"""Where everything is in a header, and what is compared of it when another one is at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import NamedTuple

from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify.elements import Buffer, Element


class Step(NamedTuple):
    """Bytes to compare, up to the length of the element behind them, and what is known of that.

    Attributes:
        meta_bytes: how long it was in the example, if it is file meta information; 0 in the data set.
        whole: it is no sequence, and its length must be defined.
        told: what leaves depends on it; `number`: it is decimal numbers, which leave as they are if they may.
        decides: about an object as a whole.
    """

    prefix: bytes
    length: Struct
    tag: int
    vr: bytes
    header_bytes: int
    meta_bytes: int
    whole: bool
    told: bool
    number: bool
    decides: bool


class Layout:
    """Where everything is in objects that have the same lengths: one comparison tells that one has them.

    Attributes:
        size: bytes that are looked at: the header, and that of the pixel data with its length.
        elements: of the data set, those on which what leaves depends; `encoded` takes out their bytes.
        deciding: takes out the elements that decide about an object as a whole.
        names: where the values of those are that tell which object it is, by their number in `facts.NAMES`.
        numbers: takes out the values of those that may stay together; None if one cannot stay as it is.
        spans: of all that may differ.
        start: where the data set starts; `stop` where it ends ahead of the pixel data.
    """

    __slots__ = (
        *("_same", "_shared", "deciding", "elements", "encoded", "names", "numbers", "pixel"),
        *("size", "spans", "start", "stop"),
    )

    def __init__(
        self,
        data: bytes,
        start: int,
        found: Sequence[tuple[Element, Step]],
        stop: int,
        pixel: Element,
    ) -> None:
        """Take an object's layout.

        Args:
            data: the object, up to its pixels.
            start: see above.
            found: the elements that may differ, each with its step.
            stop: see above.
            pixel: its pixel data.
        """
        self.start, self.stop, self.size, self.pixel = start, stop, pixel.value, pixel
        self.elements = [element for element, step in found if step.told]
        self.spans = [(element.start, element.stop) for element, _ in found]
        between = [
            0,
            *(place for element, _ in found for place in (element.value, element.stop)),
            pixel.value,
        ]
        self._shared = _taking(zip(between[::2], between[1::2], strict=True))
        self._same = self._shared(data)
        self.encoded = _taking((element.start, element.stop) for element in self.elements)
        self.deciding = _taking((each.start, each.stop) for each, step in found if step.decides)
        self.names = [
            (f.NAMES.index(step.tag), element.value, element.stop)
            for element, step in found
            if step.tag in f.NAMES
        ]
        numbers = [(element.value, element.stop) for element, step in found if step.number]
        even = not any((stop - start) & 1 for start, stop in numbers)
        self.numbers = _taking(numbers) if even else None

    def fits(self, data: Buffer) -> bool:
        """Tell whether an object has this layout, and what must be the same in it."""
        return len(data) >= self.size and self._shared(data) == self._same


def _taking(spans: Iterable[tuple[int, int]]) -> Callable[[Buffer], tuple[bytes, ...]]:
    """Return what takes the bytes of some spans, which do not overlap, out of an object."""
    at, text = 0, ""
    for start, stop in spans:
        text += f"{start - at}x{stop - start}s"
        at = stop
    return Struct(text).unpack_from

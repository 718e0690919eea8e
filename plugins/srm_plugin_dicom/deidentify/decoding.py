"""Decodes compressed frames where their pixels must change, with pydicom and the decoders that it finds.

Only streams that have been walked come here. Lossless streams decode to the same pixels everywhere; what a
lossy one decodes to depends on the decoder, which a site that blanks such images pins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.view import Viewed


@dataclass(frozen=True, slots=True)
class Decoded:
    """A native frame, little endian, and what it has become besides."""

    pixels: Viewed
    photometric: str
    planar: bool


def decode(stream: Sequence[bytes | memoryview], facts: Facts) -> Decoded:
    """Decode one frame.

    Args:
        stream: the frame's codestream, in parts.
        facts: the header.

    Raises:
        ObjectRefused: no decoder is installed, or none makes of it what the header describes.
    """
    from pydicom.encaps import encapsulate  # noqa: PLC0415 - most sites never decode
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415

    samples, allocated = facts.u16(f.SAMPLES, 1), facts.u16(f.BITS_ALLOCATED)
    rows, columns = facts.u16(f.ROWS), facts.u16(f.COLUMNS)
    try:
        decoder = get_decoder(facts.syntax.uid)
        pixels, told = decoder.as_buffer(
            encapsulate([b"".join(stream)], has_bot=False),
            rows=rows,
            columns=columns,
            number_of_frames=1,
            samples_per_pixel=samples,
            photometric_interpretation=facts.word(f.PHOTOMETRIC),
            pixel_representation=facts.u16(f.SIGNED),
            bits_allocated=allocated,
            bits_stored=facts.u16(f.BITS_STORED),
            planar_configuration=facts.u16(f.PLANAR),
            pixel_keyword="PixelData",
        )
    except Exception:  # noqa: BLE001 - decoders raise whatever they like about what they are given
        raise refused(Reason.BURNED_IN, "not decodable") from None
    if len(pixels) != rows * columns * samples * allocated // 8 or told["bits_allocated"] != allocated:
        raise refused(Reason.PIXELS)
    planar = samples > 1 and bool(told.get("planar_configuration"))
    return Decoded(memoryview(pixels).cast("B"), str(told["photometric_interpretation"]), planar)

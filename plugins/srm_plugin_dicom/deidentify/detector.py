"""Looks for text in the pixels of what is about to leave, with rapidocr (the `ocr` extra).

A further gate: what it finds stops an object, what it does not find proves nothing. Of an object with many
frames a few are looked at, since what a machine burns in stands in all of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import Any

from srm_dicom.errors import ConfigError

_FRAMES = 5
_SURE = 0.85
_SHORTEST = 3
_LONGEST_SIDE = 1600


@dataclass(frozen=True, slots=True)
class RapidText:
    """Finds text of at least three letters or digits that the recogniser is sure of."""

    def __post_init__(self) -> None:
        if find_spec("rapidocr") is None:
            raise ConfigError("text is to be detected, but rapidocr is not installed (the extra is `ocr`)")

    def shows_text(self, file: bytes) -> bool:
        """Tell whether some frame of a Part 10 file shows text, or cannot be looked at."""
        try:
            return any(map(_reads, _frames(file)))
        except Exception:  # noqa: BLE001 - decoders and the recogniser raise whatever they like
            return True


@cache
def _engine() -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime (1.32) calls its maker as soon as it is loaded
    from rapidocr import RapidOCR  # noqa: PLC0415 - loads models

    return RapidOCR(params={"Global.log_level": "error"})


def _frames(file: bytes) -> list[Any]:
    from pydicom import dcmread  # noqa: PLC0415
    from pydicom.pixels import pixel_array  # type: ignore[attr-defined]  # noqa: PLC0415

    count = int(dcmread(BytesIO(file), stop_before_pixels=True).get("NumberOfFrames") or 1)
    chosen = sorted({round(at * (count - 1) / max(_FRAMES - 1, 1)) for at in range(_FRAMES)})
    return [_grey(pixel_array(BytesIO(file), index=index)) for index in chosen]


def _grey(frame: Any) -> Any:
    """Return a frame in eight bits, stretched as a viewer would, and no larger than is useful."""
    import numpy as np  # noqa: PLC0415

    step = max(frame.shape[:2]) // _LONGEST_SIDE + 1
    frame = frame[::step, ::step].astype("float32")
    low, high = np.percentile(frame, (1, 99.8))
    grey = (np.clip((frame - low) / (high - low or 1), 0, 1) * 255).astype("uint8")
    return grey if grey.ndim == 3 else np.repeat(grey[:, :, None], 3, axis=2)


def _reads(frame: Any) -> bool:
    found = _engine()(frame)
    texts = zip(found.txts or (), found.scores or (), strict=True)
    return any(score >= _SURE and sum(map(str.isalnum, text)) >= _SHORTEST for text, score in texts)

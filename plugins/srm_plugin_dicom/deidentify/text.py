"""Text of a data set under its Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1)."""

from __future__ import annotations

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import TEXT_VR_DELIMS

_ESCAPE = b"\x1b"


def decoded(raw: bytes, character_set: bytes) -> str:
    """Return a value as the text that pydicom makes of it, so that what is found and what is sent agree.

    Args:
        raw: a value of VR LO, SH, or another that Specific Character Set affects.
        character_set: the value of (0008,0005), as it is; empty where there is none.
    """
    if raw.isascii() and _ESCAPE not in raw:
        return raw.decode("ascii")
    names = character_set.decode("ascii", "replace").split("\\")
    encodings = convert_encodings([name.strip() for name in names])
    return "\\".join(decode_bytes(part, encodings, TEXT_VR_DELIMS) for part in raw.split(b"\\"))

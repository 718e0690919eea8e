"""`plugin_ref`: where an object is, sealed under the plugin's own key.

A dump of the server's database holds these and names nobody: the box is opaque, bound to the file's
GUID, and padded so that its length says nothing either.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from srm_dicom.crypto.box import open_box, seal_box
from srm_dicom.errors import IntegrityError
from srm_dicom.ids import Guid

_PADDED_TO_BYTES = 256


class ObjectRef(msgspec.Struct, frozen=True, array_like=True):
    """An object at a source, by the UIDs that it really has."""

    source: str
    study: str
    series: str
    instance: str


def seal_ref(key: bytes, guid: Guid, ref: ObjectRef) -> bytes:
    """Return the sealed reference of a file; the same every time."""
    plain = msgspec.json.encode(ref)
    return seal_box(key, _context(guid), plain + b" " * (-len(plain) % _PADDED_TO_BYTES))


@lru_cache(maxsize=1024)
def open_ref(key: bytes, guid: Guid, box: bytes) -> ObjectRef:
    """Return what a sealed reference says; who plans a visit asks, and soon after who makes it.

    Raises:
        IntegrityError: it was not sealed by this plugin, or for another file.
    """
    try:
        return msgspec.json.decode(open_box(key, _context(guid), box), type=ObjectRef)
    except msgspec.DecodeError:
        raise IntegrityError("a plugin_ref does not say where the file is") from None


def _context(guid: Guid) -> str:
    return f"plugin_ref {guid}"

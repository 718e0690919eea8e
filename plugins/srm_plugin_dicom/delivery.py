"""The one place where an object is de-identified: arrived bytes in, clean bytes into the slot."""

from __future__ import annotations

import traceback
import uuid
from pathlib import Path

from srm_dicom.errors import InternalError, MdmError, ObjectRefused
from srm_dicom.plugin.api import Slot
from srm_dicom.telemetry import logger
from srm_plugin_dicom.deidentify import Context, Output
from srm_plugin_dicom.deidentify.engine import deidentifier
from srm_plugin_dicom.stores import ObjectInfo

log = logger("dicom")


class Delivery:
    """De-identifies for one release."""

    def __init__(self, context: Context) -> None:
        """Take what to de-identify for.

        Raises:
            NotSupported: the release names a profile or version that this program does not have.
        """
        self._deidentifier = deidentifier(context)

    def deliver(self, info: ObjectInfo, data: bytearray, slot: Slot) -> None:
        """Fill the slot with the clean object; returns when it is complete there.

        Raises:
            ObjectRefused: it could not be proven free of identity; the slot is refused.
            InternalError: de-identification broke; the slot is refused.
        """
        try:
            clean = self._clean(info, data)
        except ObjectRefused as error:
            slot.refuse(error.message)
            raise
        except InternalError:
            slot.refuse("de-identification failed")
            raise
        for part in clean:
            slot.write(part)
        slot.commit(clean.report.compact())

    def _clean(self, info: ObjectInfo, data: bytearray) -> Output:
        try:
            return self._deidentifier.deidentify(data, info.transfer_syntax, info.sop_class)
        except MdmError:
            raise
        except Exception as error:  # noqa: BLE001 - one object may not end the visit of the others
            raise _reported(error) from None


def _reported(error: Exception) -> InternalError:
    """Log a defect by its class and place, since its text may hold a value of the object."""
    error_id = str(uuid.uuid4())
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    log.error("deidentify_failed", error=type(error).__name__, error_id=error_id, reason=place)
    return InternalError(f"de-identification failed (error {error_id})")

"""The one place where an object is de-identified: arrived bytes in, clean bytes into the slot."""

from __future__ import annotations

import traceback
import uuid
from pathlib import Path

from srm_dicom.errors import InternalError, MdmError, ObjectRefused
from srm_dicom.plugin.api import Slot
from srm_dicom.rights.project import Release
from srm_dicom.telemetry import logger
from srm_plugin_dicom.association import ObjectInfo
from srm_plugin_dicom.deidentify import Context, deidentify

log = logger("dicom")


class Delivery:
    """De-identifies for one release."""

    def __init__(self, project_key: bytes, release: Release) -> None:
        self._context = Context(project_key, release)

    def deliver(self, info: ObjectInfo, data: bytearray, slot: Slot) -> None:
        """Fill the slot with the clean object; returns when it is complete there.

        Raises:
            ObjectRefused: it could not be proven free of identity; the slot is refused.
            InternalError: de-identification broke; the slot is refused.
        """
        try:
            clean = deidentify(data, info.transfer_syntax, info.sop_class, self._context)
        except ObjectRefused as error:
            slot.refuse(error.message)
            raise
        except MdmError:
            raise
        except Exception as error:  # noqa: BLE001 - one object may not end the visit of the others
            slot.refuse("de-identification failed")
            raise _report(error) from None
        for part in clean:
            slot.write(part)
        slot.commit()


def _report(error: Exception) -> InternalError:
    """Log a defect by its class and place, since its text may hold a value of the object."""
    error_id = str(uuid.uuid4())
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    log.error("deidentify_failed", error=type(error).__name__, error_id=error_id, reason=place)
    return InternalError(f"de-identification failed (error {error_id})")

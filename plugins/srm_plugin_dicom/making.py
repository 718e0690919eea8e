"""The recipe of this plugin: what a process needs to know to de-identify the objects of a release."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srm_dicom.errors import InternalError, MdmError
from srm_dicom.telemetry import logger
from srm_plugin_dicom.deidentify import Context
from srm_plugin_dicom.deidentify.elements import Buffer
from srm_plugin_dicom.deidentify.engine import Deidentifier, deidentifier
from srm_plugin_dicom.deidentify.report import Report
from srm_plugin_dicom.deidentify.series import SeriesNeeded
from srm_plugin_dicom.deidentify.view import WholeNeeded

log = logger("dicom")


class Reports:
    """The reports of a visit: the images of a series have one, written once."""

    def __init__(self) -> None:
        self._told: dict[tuple[object, ...], str] = {}

    def compact(self, report: Report) -> str:
        """Return what is told of an object."""
        same = (report.options, frozenset(report.seen), frozenset(report.removed))
        if same not in self._told:
            self._told[same] = report.compact()
        return self._told[same]


class Making:
    """De-identifies one object that is in memory and leaves alone; a pickled copy does the same elsewhere.

    Attributes:
        reports: what was told of objects so far.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deidentifier: Deidentifier | None = None
        self.reports = Reports()

    def __reduce__(self) -> tuple[Any, ...]:
        return Making, (self._context,)

    def __call__(
        self, data: Buffer, transfer_syntax: str, *names: str
    ) -> tuple[Sequence[Buffer], str] | None:
        """Return what leaves of an object (see `Received`), or None where that takes its series.

        Raises:
            ObjectRefused: it could not be proven free of identity.
            InternalError: de-identification broke.
        """
        try:
            # Asked for once: to find it among all takes as long as to compare the context with another.
            self._deidentifier = self._deidentifier or deidentifier(self._context)
            clean = self._deidentifier.deidentify(data, transfer_syntax, *names)
            return list(clean), self.reports.compact(clean.report)
        except (SeriesNeeded, WholeNeeded):
            return None
        except MdmError:
            raise
        except Exception as error:  # noqa: BLE001 - one object may not end the visit of the others
            raise reported(error) from None


def reported(error: Exception) -> InternalError:
    """Log a defect by its class and place, since its text may hold a value of the object."""
    error_id = str(uuid.uuid4())
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    log.error("deidentify_failed", error=type(error).__name__, error_id=error_id, reason=place)
    return InternalError(f"de-identification failed (error {error_id})")

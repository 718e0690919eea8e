"""The one place where an object is de-identified: arrived bytes in, clean bytes into the slot.

An object that leaves only with its series waits in memory, within the budget of arriving objects, until
the series is whole. Its sender has had its answer by then: success is what was committed. A large object
goes piece by piece into its slot, and is refused when its end is not clean; where it cannot be judged
like that it is in memory for as long as that takes, up to a bound.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from srm_dicom.errors import InternalError, MdmError, NotDelivered, ObjectRefused
from srm_dicom.plugin.api import Slot
from srm_dicom.plugin.attending import Brought
from srm_plugin_dicom.deidentify import Context, Output
from srm_plugin_dicom.deidentify.elements import Buffer
from srm_plugin_dicom.deidentify.engine import deidentifier
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.series import Received, SeriesNeeded
from srm_plugin_dicom.deidentify.view import MOST_BYTES, View, WholeNeeded
from srm_plugin_dicom.making import Making, reported
from srm_plugin_dicom.moves import MemoryBudget

_Made = TypeVar("_Made")
_BROKE = "de-identification failed"


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An object that waits for its series, and for whom: nobody, if it is only part of the volume."""

    received: Received
    slot: Slot | None


class Delivery:
    """De-identifies the objects of one series for one release; a context, which gives back what it held.

    Attributes:
        making: the recipe for one that leaves alone.
    """

    def __init__(self, context: Context, budget: MemoryBudget, max_series_bytes: int) -> None:
        """Take what to de-identify for, and how much of a series may wait.

        Raises:
            NotSupported: the release names a profile or version that this program does not have.
        """
        self._deidentifier = deidentifier(context)
        self.making = Making(context)
        self._budget = budget
        self._max_series_bytes = max_series_bytes
        self._waiting: list[_Waiting] = []
        self._is_over = False
        self._lock = threading.Lock()
        self._arrived: set[str] = set()

    def __enter__(self) -> Delivery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_over = True
            self._budget.give(self._waiting_bytes())
            self._waiting.clear()

    @property
    def waits(self) -> bool:
        """Whether objects wait for the rest of their series."""
        return bool(self._waiting)

    @property
    def arrived(self) -> Collection[str]:
        """The SOP instances that came and need not come again."""
        return self._arrived

    def deliver(self, received: Received, slot: Slot | None) -> None:
        """Fill the slot with the clean object, or keep it until its series is whole.

        Args:
            received: what came, and which object it has to be.
            slot: where to; None for one that nobody asked for: it belongs to what others wait for, or goes.

        Raises:
            ObjectRefused: it is another object, or could not be proven free of identity; the slot is refused.
            InternalError: de-identification broke; the slot is refused.
            Overloaded: no room for it to wait.
            NotDelivered: it would have to wait, and came when all was over.
        """
        with self._arriving(received.instance):
            self._take(received, slot)

    def keep(self, instance: str, file: Brought, slot: Slot) -> None:
        """Give the slot a file that a worker made of an object where it arrived; raises as `deliver`."""
        with self._arriving(instance):
            _refusing([slot], lambda: slot.keep(file))

    @contextmanager
    def _arriving(self, instance: str) -> Iterator[None]:
        """Remember what comes; what is refused need not come again."""
        try:
            yield
        except ObjectRefused:
            self._arrived.add(instance)
            raise
        self._arrived.add(instance)

    def _take(self, received: Received, slot: Slot | None) -> None:
        """Fill a slot with what leaves of an object, or keep the object."""
        data, words, slots = received.data, received[1:], [slot] if slot else []
        if slot and not isinstance(data, View):
            made = _refusing(slots, lambda: slot.make(self.making, data, words))
            if made:
                return
        try:
            clean = _refusing(slots, lambda: self._deidentifier.deidentify(*received))
            if slot:
                _refusing(slots, lambda: self._fill(slot, clean, held=not isinstance(data, View)))
        except SeriesNeeded:
            with self._whole(data, slots, self._max_series_bytes) as whole:
                self._keep(_Waiting(received._replace(data=whole), slot))
        except WholeNeeded:
            with self._whole(data, slots, MOST_BYTES) as whole:
                self._take(received._replace(data=whole), slot)

    @contextmanager
    def _whole(self, data: Buffer | View, slots: Collection[Slot], most: int) -> Iterator[Buffer]:
        """Have a large object in memory, if it has no more than so many bytes."""
        if isinstance(data, View) and len(data) > most:
            _refusing(slots, _too_large)
        with self._budget.whole(data) as whole:
            yield whole

    def finish(self) -> None:
        """Fill the slots of what waited: the series is whole.

        Raises:
            ObjectRefused, InternalError: none of them leaves; their slots are refused.
        """
        slots = [each.slot for each in self._waiting if each.slot]
        made = _refusing(slots, self._series)
        for each, clean in zip(self._waiting, made, strict=True):
            if each.slot:
                self._fill(each.slot, clean, held=True)

    def _fill(self, slot: Slot, clean: Output, *, held: bool) -> None:
        """Fill a slot with what leaves of an object, which is held in memory or read as it is taken."""
        report = self.making.reports.compact(clean.report)
        if held:
            slot.fill(list(clean), report)
            return
        for part in clean:
            slot.write(part)
        slot.commit(report)

    def _series(self) -> list[Output]:
        if self._waiting_bytes() > self._max_series_bytes:
            raise refused(Reason.TOO_LARGE)
        return self._deidentifier.deidentify_series([each.received for each in self._waiting])

    def _keep(self, waiting: _Waiting) -> None:
        """Keep an object; of a series that is too large to be whole ever, only so much that this is known."""
        with self._lock:
            if self._is_over:
                raise NotDelivered("an object came when its visit was over")
            if self._waiting_bytes() <= self._max_series_bytes:
                self._budget.take(len(waiting.received.data))
                self._waiting.append(waiting)
                return
        if waiting.slot:
            waiting.slot.refuse(Reason.TOO_LARGE.value)

    def _waiting_bytes(self) -> int:
        return sum(len(each.received.data) for each in self._waiting)


def _too_large() -> None:
    raise refused(Reason.TOO_LARGE)


def _refusing(slots: Collection[Slot], make: Callable[[], _Made]) -> _Made:
    """Return what is made; where that is refused or breaks, so are the slots."""
    try:
        return make()
    except (SeriesNeeded, WholeNeeded):
        raise
    except MdmError as error:
        if isinstance(error, ObjectRefused | InternalError):
            for slot in slots:
                slot.refuse(error.message if isinstance(error, ObjectRefused) else _BROKE)
        raise
    except Exception as error:  # noqa: BLE001 - one object may not end the visit of the others
        for slot in slots:
            slot.refuse(_BROKE)
        raise reported(error) from None

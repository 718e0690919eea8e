"""Several archives that hold the same images: asked in the order of their priority, each within its load.

An archive that does not answer is asked after its mirrors for a while, so that a batch does not pay for
it each time. One with a rate is asked for a few at a time, for whosever files. What one archive did not
send is asked of the next. An object is delivered once, whoever sends it. What came and found no room here
is no failure of the archive that sent it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from srm_dicom.clock import Clock
from srm_dicom.errors import (
    MdmError,
    NoSpace,
    NotDelivered,
    ObjectRefused,
    Overloaded,
    SourceError,
    SourceRefused,
    SourceSlow,
    SourceUnavailable,
    TooLarge,
)
from srm_dicom.telemetry import logger
from srm_plugin_dicom.archive import Archive, Wanted, nobody_waits, only
from srm_plugin_dicom.deidentify.reasons import Reason
from srm_plugin_dicom.hours import Load
from srm_plugin_dicom.moves import ArrivedObject, Deliver, NotHeld
from srm_plugin_dicom.selector import Level
from srm_plugin_dicom.stores import ObjectInfo

log = logger("dicom")

LONGEST_AT_RATE_S = 10.0
"""Of an archive with a rate at most what it sends in so long is asked for at once."""

MOST_DOUBLED = 10

_GRAVEST = (SourceSlow, SourceUnavailable, NotDelivered, SourceRefused)
"""Which of several archives' failures is told: the one after which asking again helps most."""


class Failover:
    """Fetches from the first archive that has what is wanted."""

    def __init__(
        self, archives: Sequence[Archive], load: Callable[[str], Load], *, rest_s: float, clock: Clock
    ) -> None:
        """Take the archives, and what each bears.

        Args:
            archives: every one that there is.
            load: tells for a name what it bears now.
            clock: where time comes from.
            rest_s: how long one that did not answer is asked after the others.
        """
        self._archives = {archive.name: archive for archive in archives}
        self._load = load
        self._busy: Counter[str] = Counter()
        self._left = threading.Condition()
        self._resting_until_s: dict[str, float] = {}
        self._asked_until_s: dict[str, float] = {}
        self._rest_s = rest_s
        self._clock = clock

    def fetch(
        self,
        names: Sequence[str],
        wanted: Sequence[Wanted],
        deliver: Deliver,
        deadline_s: float,
        waited: int = 0,
    ) -> None:
        """Fetch images of one study from the archives of these names, in this order.

        Args:
            names: of the archives.
            wanted: the images.
            deliver: what gets each.
            deadline_s: for how long.
            waited: how often they were asked for and the first did not come in time: each of these times
                doubles how long an archive is waited for.

        Raises:
            SourceUnavailable: some did not come, and an archive that may have them does not answer.
            SourceSlow: none came from one that may have them, and it was not waited for.
            NotDelivered, SourceRefused: some did not come, and no archive has or gives them.
            Overloaded: every place at the archive was taken until the deadline.
            NoSpace, Overloaded: some came and were not taken here.
            Aborted: nobody waits for them any more.
        """
        end_s = self._clock.monotonic_s() + deadline_s
        once = _Once([instance for each in wanted for instance in each.instances], deliver)
        wanted = [once.told_of(each) for each in wanted]
        failures: list[SourceError] = []
        for name in self._in_order(names):
            asked, rest = len(once.missing), only(wanted, frozenset(once.missing))
            try:
                first_s = self._load(name).first_object_s * 2 ** min(waited, MOST_DOUBLED)
                self._ask(name, [replace(each, first_s=first_s) for each in rest], once, end_s)
            except SourceError as error:
                failures.append(error)
                if once.missing and once.not_taken is None:
                    self._remember(name, error)
            else:
                told = f"{name} did not send {len(once.missing)} of {asked} images"
                failures.append(NotDelivered(told))
            if once.not_taken is not None:  # who hears that there is no room stops; a mirror finds no more
                raise once.not_taken
            if not once.missing:
                return
            if self._clock.monotonic_s() >= end_s:
                break
        raise min(failures, key=lambda error: _GRAVEST.index(type(error)))

    def _ask(self, name: str, wanted: Sequence[Wanted], once: _Once, end_s: float) -> None:
        """Ask one archive, at its rate, until what came finds no room here."""
        for part in self._parts(name, wanted):
            self._wait_for_rate(name, sum(len(each.instances) for each in part), end_s)
            with self._place(name, end_s):
                if not part[0].is_wanted():
                    raise nobody_waits()
                self._archives[name].fetch(part, once, end_s - self._clock.monotonic_s())
            if once.not_taken is not None:
                return

    def _parts(self, name: str, wanted: Sequence[Wanted]) -> list[Sequence[Wanted]]:
        """Divide what is wanted into what is asked for at once."""
        rate = self._load(name).files_per_s
        if not rate:
            return [wanted]
        size = max(1, int(rate * LONGEST_AT_RATE_S))
        instances = [instance for each in wanted for instance in each.instances]
        return [
            only(wanted, frozenset(instances[start : start + size]))
            for start in range(0, len(instances), size)
        ]

    def _wait_for_rate(self, name: str, count: int, end_s: float) -> None:
        """Wait until the archive may be asked for so many more."""
        with self._left:
            now_s, rate = self._clock.monotonic_s(), self._load(name).files_per_s
            at_s = max(now_s, self._asked_until_s.get(name, now_s)) if rate else now_s
            if at_s >= end_s:
                raise Overloaded(f"{name} is asked for no more images at a time")
            self._asked_until_s[name] = at_s + count / rate if rate else now_s
        if at_s > now_s:
            self._clock.sleep(at_s - now_s)

    def instances(self, names: Sequence[str], study: str, series: str) -> list[str]:
        """Return the SOP instances that a series has, by the first of these archives that answers.

        Raises:
            SourceUnavailable, SourceRefused: none of them does.
        """
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
        failures: list[SourceError] = []
        for name in self._in_order(names):
            try:
                with self._archives[name].session() as session:
                    answers = session.find(Level.IMAGE, keys)
            except SourceError as error:
                failures.append(error)
                self._remember(name, error)
            else:
                return [each["SOPInstanceUID"] for each in answers if each.get("SOPInstanceUID")]
        raise min(failures, key=lambda error: _GRAVEST.index(type(error)))

    def _in_order(self, names: Sequence[str]) -> list[str]:
        now_s = self._clock.monotonic_s()
        return sorted(names, key=lambda name: self._resting_until_s.get(name, now_s) > now_s)

    def _remember(self, name: str, error: SourceError) -> None:
        log.warning("source_failed", source=name, reason=error.message, error=type(error).__name__)
        if isinstance(error, SourceUnavailable):
            self._resting_until_s[name] = self._clock.monotonic_s() + self._rest_s

    @contextmanager
    def _place(self, name: str, end_s: float) -> Iterator[None]:
        if not self._load(name).max_visits:
            raise Overloaded(f"{name} is not asked for images now")
        left_s = max(0.0, end_s - self._clock.monotonic_s())
        with self._left:
            if not self._left.wait_for(lambda: self._busy[name] < self._load(name).max_visits, left_s):
                raise Overloaded(f"{name} had no place for another visit")
            self._busy[name] += 1
        try:
            yield
        finally:
            with self._left:
                self._busy[name] -= 1
                self._left.notify_all()


class _Once:
    """Delivers each image at most once.

    Attributes:
        missing: what has not come yet, in its order.
        not_taken: why something that came could not be taken here, if so.
    """

    def __init__(self, instances: Sequence[str], deliver: Deliver) -> None:
        self.missing = dict.fromkeys(instances)
        self.not_taken: MdmError | None = None
        self._deliver = deliver

    def __call__(self, info: ObjectInfo, data: ArrivedObject) -> None:
        self._take(info, lambda: self._deliver(info, data))

    def told_of(self, wanted: Wanted) -> Wanted:
        """Let files that workers bring count as well, and what there was no room for."""
        workers = wanted.by_workers
        by_workers = replace(
            workers, keep=lambda info, file: self._take(info, lambda: workers.keep(info, file))
        )
        return replace(wanted, by_workers=by_workers, not_held=partial(self._hear, wanted.not_held))

    def _hear(self, not_held: NotHeld, instance: str, error: MdmError) -> bool:
        if not isinstance(error, TooLarge):
            self.not_taken = error
            return False
        is_over = not_held(instance, error)
        if is_over:
            self.missing.pop(instance, None)
        return is_over

    def _take(self, info: ObjectInfo, deliver: Callable[[], None]) -> None:
        if self.missing.pop(info.sop_instance, info) is None:
            try:
                deliver()
            except (NoSpace, Overloaded) as error:
                self.not_taken = error
                raise
            except ObjectRefused as error:
                if error.message == Reason.ANOTHER.value:
                    log.warning("another_object_came", source=info.calling, peer=info.address)
                raise

"""What time does to requests: files overdue fail, pins and puts end. One clock, asked at every look."""

from __future__ import annotations

from datetime import datetime

from srm_dicom.broker.states import ACTIVE, SPACE_AVAILABLE, STORING, Event, after, before
from srm_dicom.store.stores import Stores


def apply_time(stores: Stores, now: datetime) -> None:
    """Let everything happen that is due, whether or not a stager lives."""
    requests = stores.requests
    if not requests.is_due(now):
        return
    requests.fail_overdue(before(Event.FAIL), after(ACTIVE[0], Event.FAIL), now)
    requests.expire_pins(before(Event.EXPIRE), after(before(Event.EXPIRE)[0], Event.EXPIRE), now)
    overdue = [SPACE_AVAILABLE, STORING]
    if not requests.is_overdue(overdue, now):
        return
    with stores.database.transaction():
        for file in requests.overdue(overdue, now):
            if file.path is not None:
                stores.uploads.end(file.token, [file.path])
        requests.fail_overdue([SPACE_AVAILABLE], after(SPACE_AVAILABLE, Event.TIME_OUT), now)
        requests.fail_overdue([STORING], after(STORING, Event.REFUSE), now)

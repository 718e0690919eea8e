"""The end of keys: what has to be destroyed is asked for until enough key servers have confirmed it.

The order is written down before the first server is asked and never forgotten: it is this site's ledger,
and is replayed to a key server that was restored, replaced or moved (`Destroyer.replay`). A key counts as
destroyed when n - k + 1 servers have confirmed; the others are asked on, until they have too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import peewee

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.client.destroying import Destruction
from srm_dicom.client.keys import KeyServers
from srm_dicom.clock import Clock
from srm_dicom.db.database import Database
from srm_dicom.telemetry import logger

log = logger("registry")

KEYS_PER_CALL = 1000
ASK_EVERY_S = 60.0
ALARM_AFTER_S = 3600.0
"""A key that is not destroyed after this time is an alarm, and one again each time it has passed."""


class DestructionRow(peewee.Model):
    """Table ``destruction``; `confirmed` are names of servers, `done_at` 0 while too few have."""

    key_id = peewee.CharField(max_length=128, primary_key=True)
    public_key = peewee.BlobField()
    asked_at = peewee.BigIntegerField()
    alarmed_at = peewee.BigIntegerField()
    needed = peewee.IntegerField(default=0)
    confirmed = peewee.TextField(default="")
    open = peewee.BooleanField(default=True)
    done_at = peewee.BigIntegerField(default=0)

    class Meta:
        """`open` while a server has not confirmed."""

        table_name = "destruction"


@dataclass(frozen=True, slots=True)
class Order:
    """A key that is to be destroyed.

    Attributes:
        needed: servers that have to confirm; 0 as long as none has told.
        confirmed: names of the servers that have.
        done: whether these are enough.
        open: whether a server has still to confirm.
    """

    key_id: str
    public_key: bytes
    asked_at: datetime
    needed: int = 0
    confirmed: frozenset[str] = field(default_factory=frozenset)
    done: bool = False
    open: bool = True


class Destructions:
    """What has to be destroyed, in the registrar's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._row = database.bind(DestructionRow)

    def add(self, halves: Mapping[str, bytes], now: datetime) -> None:
        """Write down that keys have to be destroyed, by key id; durable when this returns."""
        rows = [
            {"key_id": key_id, "public_key": half, "asked_at": _s(now), "alarmed_at": _s(now)}
            for key_id, half in halves.items()
        ]
        with self._database.transaction():
            for row in rows:
                self._row.insert(**row).on_conflict_ignore().execute()

    def orders(self, *, open_only: bool = False, ids: Sequence[str] | None = None) -> Iterator[Order]:
        """Yield what was ordered, the oldest first."""
        query = self._row.select().order_by(self._row.asked_at, self._row.key_id)
        if open_only:
            query = query.where(self._row.open)
        if ids is not None:
            query = query.where(self._row.key_id.in_(ids))
        return (_order(row) for row in query)

    def waiting(self) -> int:
        """Return how many keys are not destroyed yet."""
        return int(self._row.select().where(self._row.done_at == 0).count())

    def reopen(self) -> None:
        """Have every server asked for every key again, whatever it has confirmed."""
        self._row.update(open=True, confirmed="").execute()

    def heard(self, key_id: str, told: Destruction, now: datetime) -> bool:
        """Note what the servers said of a key, all of them; tells whether it has been destroyed by that."""
        row, servers = self._row, told.confirmed | told.failures.keys()
        with self._database.transaction():
            before = row.get_by_id(key_id)
            confirmed = told.confirmed | set(before.confirmed.split())
            needed = max(told.needed, before.needed) if told.described else before.needed
            done = len(confirmed) >= (needed or len(servers))
            columns = {
                "needed": needed,
                "confirmed": " ".join(sorted(confirmed)),
                "open": not servers <= confirmed,
                "done_at": before.done_at or (_s(now) if done else 0),
            }
            row.update(columns).where(row.key_id == key_id).execute()
        return done and not before.done_at

    def overdue(self, now: datetime) -> list[Order]:
        """Return the keys for which an alarm is due, and count it as given."""
        row = self._row
        late = (row.done_at == 0) & (row.alarmed_at <= _s(now) - ALARM_AFTER_S)
        with self._database.transaction():
            orders = [_order(one) for one in row.select().where(late)]
            row.update(alarmed_at=_s(now)).where(late).execute()
        return orders


class Destroyer:
    """Asks the key servers until they have confirmed."""

    def __init__(
        self, destructions: Destructions, servers: KeyServers, audit: AuditLog, clock: Clock
    ) -> None:
        self._destructions = destructions
        self._servers = servers
        self._audit = audit
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Ask again and again, until `stop` is set."""
        while not stop.wait(ASK_EVERY_S):
            self.step()

    def order(self, halves: Mapping[str, bytes]) -> None:
        """Have keys destroyed, given by key id with their public halves; `step` asks for it."""
        self._destructions.add(halves, self._clock.now())
        self._tell(Action.ADMINISTRATIVE, Outcome.ALLOWED, "destroy", list(halves))

    def orders(self, ids: Sequence[str]) -> Iterator[Order]:
        """Yield what was ordered of these keys."""
        for start in range(0, len(ids), KEYS_PER_CALL):
            yield from self._destructions.orders(ids=ids[start : start + KEYS_PER_CALL])

    def step(self) -> None:
        """Ask for all keys that a server has not confirmed, and raise the alarm for those that are late."""
        self._ask(list(self._destructions.orders(open_only=True)))
        late = self._destructions.overdue(self._clock.now())
        if late:
            log.error("key_destruction_late", count=len(late))
            rule = "a key that has to be destroyed may still be fetched"
            self._tell(Action.ALARM, Outcome.FAILED, "destroy", [order.key_id for order in late], rule)

    def replay(self) -> None:
        """Ask for all keys that ever had to be destroyed: a server may have been restored or replaced.

        Who does not answer now is asked on, also if it had confirmed before.
        """
        self._destructions.reopen()
        self._ask(list(self._destructions.orders()))

    def _ask(self, orders: Sequence[Order]) -> None:
        for start in range(0, len(orders), KEYS_PER_CALL):
            halves = {order.key_id: order.public_key for order in orders[start : start + KEYS_PER_CALL]}
            done = [
                key_id
                for key_id, told in self._servers.destroy(halves).items()
                if self._destructions.heard(key_id, told, self._clock.now())
            ]
            if done:
                log.info("keys_destroyed", count=len(done))
                self._tell(Action.ADMINISTRATIVE, Outcome.ALLOWED, "destroyed", done)

    def _tell(
        self, action: Action, outcome: Outcome, operation: str, ids: Sequence[str], rule: str = ""
    ) -> None:
        self._audit.record(
            Event(action=action, outcome=outcome, operation=operation, objects=tuple(ids), rule=rule)
        )


def _order(row: Any) -> Order:
    return Order(
        key_id=row.key_id,
        public_key=bytes(row.public_key),
        asked_at=datetime.fromtimestamp(row.asked_at, UTC),
        needed=row.needed,
        confirmed=frozenset(row.confirmed.split()),
        done=bool(row.done_at),
        open=row.open,
    )


def _s(moment: datetime) -> int:
    return int(moment.timestamp())

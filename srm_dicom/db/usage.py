"""What was given today, account by account: where budgets are counted.

`charge` takes from every account or from none. The bound stands in the statement that counts, so it
holds however many doors and processes charge at once, on either database. Bytes count as often as they are
given; an object counts once a day, in however many parts it is read.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

import peewee

from srm_dicom.audit.doors import DoorLog
from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.db.database import Database
from srm_dicom.errors import BudgetExhausted
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.budget import ALARM_AT, Account, Amount
from srm_dicom.telemetry import logger

log = logger("budget")

_ROWS_A_STATEMENT = 200


class UsageRow(peewee.Model):
    """Table ``usage``: one row an account and day."""

    day = peewee.CharField(max_length=10)
    account = peewee.TextField()
    bytes = peewee.BigIntegerField(default=0)
    objects = peewee.BigIntegerField(default=0)

    class Meta:
        """An account has one row a day."""

        table_name = "usage"
        primary_key = peewee.CompositeKey("day", "account")


class UsedObjectRow(peewee.Model):
    """Table ``usage_object``: which objects an account has been charged today; older days are dropped."""

    day = peewee.CharField(max_length=10)
    account = peewee.TextField()
    object = peewee.TextField()

    class Meta:
        """An object counts once a day."""

        table_name = "usage_object"
        primary_key = peewee.CompositeKey("day", "account", "object")


class Ledger:
    """Charges accounts of one database, and raises the alarm: once a day for each, when it is at its end too.

    Who goes on asking then is written down as a door does it, within its bound.

    Args:
        alarm_at: the share of a budget at which somebody is told, once a day.
    """

    def __init__(
        self, database: Database, audit: AuditLog, clock: Clock, *, alarm_at: float = ALARM_AT
    ) -> None:
        self._database = database
        self._row = database.bind(UsageRow)
        self._object = database.bind(UsedObjectRow)
        self._audit = audit
        self._clock = clock
        self._alarm_at = alarm_at
        self._door = DoorLog(audit, "budget", clock)
        self._lock = threading.Lock()
        self._refused: tuple[str, set[str]] = ("", set())

    def charge(
        self,
        principal: Principal,
        charges: Mapping[Account, Collection[str]],
        operation: str,
        size_bytes: int = 0,
    ) -> None:
        """Count what is about to be given.

        Args:
            principal: who gets it.
            charges: the accounts that pay, and the names of the files or keys that each of them pays for.
            operation: the protocol's word for it, for the alarm.
            size_bytes: of all of them together, as far as they are given; every account pays the whole.

        Raises:
            BudgetExhausted: one of the accounts has not so much left; nothing was counted.
        """
        bounded = [account for account in charges if account.budget.bytes or account.budget.objects]
        if not bounded:
            return
        today = self._clock.now().date().isoformat()
        alarming = []
        try:
            with self._database.transaction():
                for account in bounded:
                    if self._charge(today, account, charges[account], size_bytes):
                        alarming.append(account)
        except BudgetExhausted as error:
            event = _alarm(principal, operation, account, error.message, Outcome.DENIED)
            if self._is_first(today, account):
                self._raise(event)
            else:
                self._door.denied(event)
            raise
        for account in alarming:
            rule = f"{self._alarm_at:.0%} of the daily budget of {account}"
            self._raise(_alarm(principal, operation, account, rule, Outcome.ALLOWED))

    def used(self, account: Account, day: date) -> Amount:
        """Return what an account has been charged on a day."""
        return self._used(account, day.isoformat())

    def _used(self, account: Account, day: str) -> Amount:
        row = self._row.get_or_none(self._row.day == day, self._row.account == account.name)
        return Amount(row.bytes, row.objects) if row else Amount()

    def _charge(self, day: str, account: Account, objects: Collection[str], size_bytes: int) -> bool:
        """Charge one account; tells whether it has come to the share that is an alarm."""
        row = self._row
        if row.insert(day=day, account=account.name).on_conflict_ignore().as_rowcount().execute():
            self._object.delete().where(self._object.day < day).execute()
        amount = Amount(size_bytes, self._first_today(day, account, objects))
        mine = (row.day == day) & (row.account == account.name)
        counted = row.update(bytes=row.bytes + amount.bytes, objects=row.objects + amount.objects)
        if not counted.where(mine, *self._within(account, amount)).execute():
            raise BudgetExhausted(
                f"the daily budget of {account} is used up",
                advice="Go on tomorrow, or ask the project's coordinator.",
            )
        after = self._used(account, day)
        before = Amount(after.bytes - amount.bytes, after.objects - amount.objects)
        return account.budget.share(before) < self._alarm_at <= account.budget.share(after)

    def _first_today(self, day: str, account: Account, objects: Collection[str]) -> int:
        """Note objects, and return how many of them are new today; nothing where nobody bounds them."""
        if not account.budget.objects:
            return 0
        rows = [{"day": day, "account": account.name, "object": one} for one in dict.fromkeys(objects)]
        fresh = 0
        for chunk in peewee.chunked(rows, _ROWS_A_STATEMENT):
            fresh += self._object.insert_many(chunk).on_conflict_ignore().as_rowcount().execute()
        return fresh

    def _within(self, account: Account, amount: Amount) -> list[Any]:
        row, budget = self._row, account.budget
        bounds = ((row.bytes, amount.bytes, budget.bytes), (row.objects, amount.objects, budget.objects))
        return [column + more <= bound for column, more, bound in bounds if bound]

    def _is_first(self, day: str, account: Account) -> bool:
        """Tell whether nobody was refused yet that day, as far as this process knows, for this account."""
        with self._lock:
            if self._refused[0] != day:
                self._refused = day, set()
            before = len(self._refused[1])
            self._refused[1].add(account.name)
            return len(self._refused[1]) > before

    def _raise(self, alarm: Event) -> None:
        log.error("budget_alarm", dn=alarm.dn, operation=alarm.operation, reason=alarm.rule)
        self._audit.record(alarm)


def _alarm(principal: Principal, operation: str, account: Account, rule: str, outcome: Outcome) -> Event:
    details = {"operation": operation, "project": account.project, "rule": rule}
    return Event.by(principal, Action.ALARM, outcome, **details)

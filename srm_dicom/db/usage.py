"""What was given today, account by account: where budgets are counted.

`charge` takes from every account or from none. The bound stands in the statement that counts, so it
holds however many doors and processes charge at once, on either database.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import peewee

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.db.database import Database
from srm_dicom.errors import BudgetExhausted
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.budget import ALARM_AT, Account, Amount
from srm_dicom.telemetry import logger

log = logger("budget")


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


class Ledger:
    """Charges accounts of one database, and raises the alarm.

    Args:
        alarm_at: the share of a budget at which somebody is told, once a day.
    """

    def __init__(
        self, database: Database, audit: AuditLog, clock: Clock, *, alarm_at: float = ALARM_AT
    ) -> None:
        self._database = database
        self._row = database.bind(UsageRow)
        self._audit = audit
        self._clock = clock
        self._alarm_at = alarm_at

    def charge(
        self, principal: Principal, accounts: Sequence[Account], amount: Amount, operation: str
    ) -> None:
        """Count what is about to be given.

        Raises:
            BudgetExhausted: one of the accounts has not so much left; nothing was counted.
        """
        bounded = [account for account in accounts if account.budget.bytes or account.budget.objects]
        if not bounded:
            return
        today = self._clock.now().date()
        try:
            with self._database.transaction():
                alarming = [account for account in bounded if self._charge(today, account, amount)]
        except BudgetExhausted:
            self._tell(principal, operation, "a daily budget is used up", Outcome.DENIED)
            raise
        for account in alarming:
            rule = f"{self._alarm_at:.0%} of the daily budget of a {account.name.partition(':')[0]}"
            self._tell(principal, operation, rule, Outcome.ALLOWED)

    def used(self, account: Account, day: date) -> Amount:
        """Return what an account has been charged on a day."""
        row = self._row.get_or_none(self._row.day == day.isoformat(), self._row.account == account.name)
        return Amount(row.bytes, row.objects) if row else Amount()

    def _charge(self, day: date, account: Account, amount: Amount) -> bool:
        """Charge one account; tells whether it has come to the share that is an alarm."""
        row = self._row
        row.insert(day=day.isoformat(), account=account.name).on_conflict_ignore().execute()
        mine = (row.day == day.isoformat()) & (row.account == account.name)
        counted = row.update(bytes=row.bytes + amount.bytes, objects=row.objects + amount.objects)
        if not counted.where(mine, *self._within(account, amount)).execute():
            raise BudgetExhausted(
                "the daily budget is used up", advice="Go on tomorrow, or ask the project's coordinator."
            )
        after = self.used(account, day)
        before = Amount(after.bytes - amount.bytes, after.objects - amount.objects)
        return account.budget.share(before) < self._alarm_at <= account.budget.share(after)

    def _within(self, account: Account, amount: Amount) -> list[Any]:
        row, budget = self._row, account.budget
        bounds = ((row.bytes, amount.bytes, budget.bytes), (row.objects, amount.objects, budget.objects))
        return [column + more <= bound for column, more, bound in bounds if bound]

    def _tell(self, principal: Principal, operation: str, rule: str, outcome: Outcome) -> None:
        log.error("budget_alarm", dn=principal.dn, operation=operation, reason=rule)
        self._audit.record(Event.by(principal, Action.ALARM, outcome, operation=operation, rule=rule))

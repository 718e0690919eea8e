"""Daily budgets: never exceeded, however many take at once; an alarm before they end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdm_keys.access import Access
from mdm_keys.server import KeyServerSettings, spending
from mdm_keys.store import Key, KeyStore
from srm_dicom.audit.event import Action, Outcome
from srm_dicom.audit.line import decode
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.spending import Spending
from srm_dicom.db.database import Database
from srm_dicom.db.usage import Ledger
from srm_dicom.errors import BudgetExhausted
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.budget import UNLIMITED, Account, Amount, Budget
from srm_dicom.rights.declare import Right
from srm_dicom.rights.project import Project, Release
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RELEASE = Release("heart", "basic", "v1")


def who(name: str) -> Principal:
    return Principal(f"/CN={name}", (), False, NOW + timedelta(days=1))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(database_url(tmp_path, "usage"))
    yield made
    made.close()


@pytest.fixture
def audit(tmp_path: Path, clock: FakeClock) -> Iterator[AuditLog]:
    made = AuditLog(tmp_path / "audit", "transfer", "here", clock)
    yield made
    made.close()


@pytest.fixture
def ledger(database: Database, audit: AuditLog, clock: FakeClock) -> Ledger:
    return Ledger(database, audit, clock)


@pytest.fixture
def alarms(audit: AuditLog) -> Callable[[], list[tuple[str, Outcome]]]:
    def read() -> list[tuple[str, Outcome]]:
        events = [decode(raw)[0].event for raw in audit.path.read_bytes().splitlines()]
        assert {event.action for event in events} <= {Action.ALARM}
        return [(event.rule, event.outcome) for event in events]

    return read


@given(st.integers(1, 100), st.integers(0, 300))
def test_the_share_of_a_budget(bound: int, used: int) -> None:
    assert Budget(bytes=bound).share(Amount(used, 5)) == used / bound
    assert Budget(objects=bound).share(Amount(5, used)) == used / bound
    assert UNLIMITED.share(Amount(used, used)) == 0.0


def test_a_budget_ends_and_begins_again_the_next_day(
    ledger: Ledger, clock: FakeClock, alarms: Callable[[], list[tuple[str, Outcome]]]
) -> None:
    account = Account.of_caller("/CN=a", Budget(bytes=100))
    ledger.charge(who("a"), {account: ["x"]}, "open", 60)
    with pytest.raises(BudgetExhausted):
        ledger.charge(who("a"), {account: ["x"]}, "open", 41)
    assert ledger.used(account, NOW.date()).bytes == 60
    ledger.charge(who("a"), {account: ["x"]}, "open", 40)
    assert alarms() == [
        ("the daily budget of the caller is used up", Outcome.DENIED),
        ("80% of the daily budget of the caller", Outcome.ALLOWED),
    ]
    clock.advance(86_400)
    ledger.charge(who("a"), {account: ["x"]}, "open", 10)


def test_who_asks_on_at_the_end_of_a_budget_does_not_fill_the_audit_log(
    ledger: Ledger, clock: FakeClock, alarms: Callable[[], list[tuple[str, Outcome]]]
) -> None:
    """Refusals beyond a bound are counted; the first of somebody else, and of another day, is kept."""

    def asks(name: str, times: int) -> int:
        before = len(alarms())
        for _ in range(times):
            with pytest.raises(BudgetExhausted):
                ledger.charge(who(name), {Account.of_caller(name, Budget(bytes=1)): ["x"]}, "open", 2)
        return len(alarms()) - before

    assert asks("/CN=a", 300) == 121
    assert asks("/CN=b", 10) == 1
    clock.advance(86_400)
    assert asks("/CN=a", 1) == 1
    assert asks("/CN=a", 1) == 1
    assert alarms()[-1][0].startswith("188 refusals before it were not kept; the daily budget")


def test_an_object_counts_once_a_day_and_its_bytes_as_often_as_they_are_given(
    ledger: Ledger, clock: FakeClock
) -> None:
    account = Account.of_caller("/CN=a", Budget(bytes=1000, objects=2))
    for _ in range(5):
        ledger.charge(who("a"), {account: ["x"]}, "open", 10)
    ledger.charge(who("a"), {account: ["y"]}, "open", 10)
    assert ledger.used(account, NOW.date()) == Amount(60, 2)
    with pytest.raises(BudgetExhausted):
        ledger.charge(who("a"), {account: ["z"]}, "open", 10)
    ledger.charge(who("a"), {account: ["x"]}, "open", 10)
    clock.advance(86_400)
    ledger.charge(who("a"), {account: ["x", "z"]}, "open", 10)
    assert ledger.used(account, clock.now().date()) == Amount(10, 2)


def test_all_accounts_or_none(ledger: Ledger) -> None:
    mine, ours = (
        Account.of_caller("/CN=a", Budget(objects=10)),
        Account.of_project("heart", Budget(objects=1)),
    )
    ledger.charge(who("a"), {mine: ["x"], ours: ["x"]}, "open", 5)
    with pytest.raises(BudgetExhausted):
        ledger.charge(who("a"), {mine: ["y"], ours: ["y"]}, "open", 5)
    assert ledger.used(mine, NOW.date()) == Amount(5, 1)


def test_many_at_once_take_no_more_than_there_is(ledger: Ledger) -> None:
    account, taken = Account.of_project("heart", Budget(objects=25)), []

    def take(name: str) -> None:
        for number in range(10):
            try:
                ledger.charge(who(name), {account: [f"{name} {number}"]}, "open", 1)
                taken.append(name)
            except BudgetExhausted:
                continue

    threads = [threading.Thread(target=take, args=(f"user {n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(taken) == 25
    assert ledger.used(account, NOW.date()) == Amount(25, 25)


def test_a_file_is_charged_to_its_caller_and_its_project(ledger: Ledger) -> None:
    end = NOW + timedelta(days=1)
    project = Project("heart", "", "", "basic", "", end, (), daily=Budget(bytes=150))
    spending = Spending(ledger, Budget(bytes=100), {"heart": project})
    spending.charge(who("a"), RELEASE, "x", 80)
    with pytest.raises(BudgetExhausted):
        spending.charge(who("a"), RELEASE, "x", 80)
    with pytest.raises(BudgetExhausted):
        spending.charge(who("b"), RELEASE, "x", 80)
    spending.charge(who("b"), None, "x", 80)
    spending.charge(who("b"), RELEASE, "x", 20)


def test_keys_are_charged_before_they_are_released(
    database: Database,
    ledger: Ledger,
    audit: AuditLog,
    clock: FakeClock,
    alarms: Callable[[], list[tuple[str, Outcome]]],
) -> None:
    store = KeyStore(database)
    store.create([Key(f"k{n}", "", "", Acl.parse('user:"/CN=a":g')) for n in range(3)])

    settings = KeyServerSettings("", keys_per_day=2)
    access = Access(store, audit, frozenset(), spend=spending(settings, ledger, clock))
    with pytest.raises(BudgetExhausted):
        access.sort("getKeys", who("a"), ["k0", "k1", "k2"], Right.KEY_FETCH)
    assert alarms() == [("the daily budget of the caller is used up", Outcome.DENIED)]
    allowed, _ = access.sort("getKeys", who("a"), ["k0", "k1"], Right.KEY_FETCH)
    assert set(allowed) == {"k0", "k1"}


def test_without_a_budget_nothing_is_counted(ledger: Ledger) -> None:
    account = Account.of_caller("/CN=a", UNLIMITED)
    ledger.charge(who("a"), {account: ["x"]}, "open", 10**15)
    assert ledger.used(account, NOW.date()) == Amount()

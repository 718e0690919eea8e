"""What belongs together goes together: one move for a series, whoever asks; one transaction for a request."""

import uuid
from contextlib import contextmanager
from dataclasses import replace

import pytest

from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.broker import Broker, BrokerSettings
from srm_dicom.broker.views import FileState, RequestKind, Wish
from srm_dicom.db.news import Topic
from srm_dicom.demo.site import PROJECT
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_dicom.testing.staging import add_files

MANY, PAGE = 5000, 1000


def test_a_series_is_one_move_whoever_asks(staging, pacs, wait_for):
    pacs.add(make_series(SeriesSpec("CT", 12)))
    (files,) = staging.register()
    wanted = [
        staging.want("/CN=Alice", files[:6]),
        staging.want("/CN=Bob", files[3:9]),
        staging.want("/CN=Alice", files[6:]),
    ]
    with staging.stager():
        for token in wanted:
            wait_for(lambda token=token: staging.is_there(token))
        assert pacs.moves == 1
        again = staging.want("/CN=Carol", files)
        wait_for(lambda: staging.is_there(again))
    assert sorted(item.guid for item in staging.staged()) == sorted(files)


@pytest.fixture
def broker(staging):
    common = staging.common
    access = FileAccess(common.stores.namespace, common.projects, common.audit, common.clock)
    settings = BrokerSettings("localhost:8446", {common.node: {"gsiftp": "gsiftp://localhost:2811"}})
    return Broker(settings, common.stores, access, common.clock)


@pytest.fixture
def counted(staging, monkeypatch):
    """How many transactions were begun."""
    counts = {"transactions": 0}
    database = staging.stores.database
    true_transaction = type(database).transaction

    @contextmanager
    def transaction(self, **options):
        counts["transactions"] += not self._peewee.in_transaction()
        with true_transaction(self, **options):
            yield

    monkeypatch.setattr(type(database), "transaction", transaction)
    return counts


def test_five_thousand_files_are_one_transaction_and_polled_in_pages(staging, pacs, broker, counted):
    pacs.add(make_series(SeriesSpec("CT", 1)))
    ((first,),) = staging.register()
    entry = staging.stores.namespace.find_guid(first)
    paths = [SitePath(f"{entry.path}.{number}") for number in range(MANY)]
    add_files(staging.stores, [replace(entry, path=path, guid=Guid(str(uuid.uuid4()))) for path in paths])
    who = staging.demo.pki.dn(staging.demo.users["researcher"])
    caller = Principal(who, (), limited=False, expires=staging.common.projects[PROJECT].valid_until)
    surls = tuple(f"srm://localhost{path}" for path in paths)
    counted.update(transactions=0)
    token = broker.submit(caller, Wish(RequestKind.GET, surls, ("gsiftp",))).token
    assert counted["transactions"] == 1
    assert staging.stores.requests.counts() == {FileState.QUEUED: MANY}
    counted.update(transactions=0)
    for at in range(0, MANY, PAGE):
        page = broker.status(caller, token, surls[at : at + PAGE])
        assert [file.state for file in page.files] == [FileState.QUEUED] * PAGE
    assert counted == {"transactions": 0}


def test_a_visit_that_is_over_is_told_of(staging, pacs, wait_for, monkeypatch):
    """Whoever waits for work hears that a source has room again, and does not look for that."""
    database, told = staging.stores.database, []
    plain = database.tell
    monkeypatch.setattr(database, "tell", lambda topic: told.append(topic) or plain(topic))
    for study in ("1", "2", "3"):
        pacs.add(make_series(SeriesSpec("CT", 2, study=study)))
    guids = [guid for series in staging.register() for guid in series]
    with staging.stager():
        token = staging.want("/CN=Alice", guids)
        wait_for(lambda: staging.is_there(token))
    assert told.count(Topic.WORK) == pacs.moves == 3

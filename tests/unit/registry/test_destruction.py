"""Keys that have to be destroyed: written down, asked for until enough have confirmed, alarmed until then."""

import json
from types import SimpleNamespace

import pytest

from srm_dicom.audit.log import AuditLog
from srm_dicom.client.destroying import Destruction
from srm_dicom.daemon import gauges
from srm_dicom.db.database import Database
from srm_dicom.registry.destruction import ALARM_AFTER_S, Destroyer, Destructions
from srm_dicom.testing.clock import FakeClock
from srm_dicom.testing.databases import database_url

HALF = b"h" * 32


class Servers:
    """Three key servers, of which some answer."""

    endpoints = ("https://one", "https://two", "https://three")

    def __init__(self):
        self.up, self.down, self.asked = set(), {"one", "two", "three"}, []

    def destroy(self, halves):
        self.asked.append(dict(halves))
        failures = dict.fromkeys(self.down - self.up, "it is down")
        known = bool(self.up)
        return {key: Destruction(2 if known else 3, known, frozenset(self.up), failures) for key in halves}


class Site:
    def __init__(self, directory):
        self.clock, self.servers = FakeClock(), Servers()
        self.audit = AuditLog(directory, "registrar", "localhost", self.clock)
        self.database = Database(database_url(directory, "journal"))
        self.destructions = Destructions(self.database)
        self.destroyer = Destroyer(self.destructions, self.servers, self.audit, self.clock)

    def order(self):
        [order] = self.destructions.orders()
        return order

    def told(self):
        events = (json.loads(line)["event"] for line in self.audit.path.read_text().splitlines())
        return [(event["action"], event["operation"], event["outcome"]) for event in events]


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.audit.close()
    site.database.close()


def test_it_is_done_when_enough_have_confirmed_one_after_the_other(site):
    site.destroyer.order({"key": HALF})
    site.destroyer.step()
    assert (site.order().done, site.order().confirmed) == (False, frozenset())
    site.servers.up = {"one"}
    site.destroyer.step()
    assert (site.order().done, site.order().needed) == (False, 2)
    site.servers.up = {"three"}
    site.destroyer.step()
    assert (site.order().done, site.order().confirmed) == (True, {"one", "three"})
    assert site.told() == [
        ("administrative", "destroy", "allowed"),
        ("administrative", "destroyed", "allowed"),
    ]
    site.servers.up = {"two"}
    site.destroyer.step()
    asked = len(site.servers.asked)
    site.destroyer.step()
    assert len(site.servers.asked) == asked, "all three have confirmed: there is nobody left to ask"


def test_an_alarm_an_hour_until_it_is_done(site):
    site.destroyer.order({"key": HALF})
    for _ in range(3):
        site.destroyer.step()
    assert ("alarm", "destroy", "failed") not in site.told()
    for hour in (1, 2):
        site.clock.advance(ALARM_AFTER_S)
        site.destroyer.step()
        site.destroyer.step()
        assert site.told().count(("alarm", "destroy", "failed")) == hour
    site.servers.up = {"one", "two"}
    site.destroyer.step()
    site.clock.advance(ALARM_AFTER_S)
    site.destroyer.step()
    assert site.told().count(("alarm", "destroy", "failed")) == 2


def test_what_was_ordered_is_known_after_a_crash_and_replayed_for_ever(site):
    site.destroyer.order({"key": HALF})
    again = Destroyer(Destructions(site.database), site.servers, site.audit, site.clock)
    site.servers.up = {"one", "two", "three"}
    again.step()
    assert site.order().done
    again.order({"key": HALF})
    assert site.order().done
    again.replay()
    assert site.servers.asked == [{"key": HALF}] * 2


def test_a_restored_server_that_is_down_at_the_replay_is_asked_on(site):
    """It had confirmed once, and may have the share again."""
    site.destroyer.order({"key": HALF})
    site.servers.up = {"one", "two", "three"}
    site.destroyer.step()
    site.servers.up = {"one", "two"}
    site.destroyer.replay()
    assert (site.order().done, site.order().open) == (True, True)
    site.clock.advance(ALARM_AFTER_S)
    site.servers.asked.clear()
    site.servers.up = {"one", "two", "three"}
    site.destroyer.step()
    assert site.servers.asked == [{"key": HALF}]
    assert not site.order().open
    assert site.told().count(("administrative", "destroyed", "allowed")) == 1
    assert ("alarm", "destroy", "failed") not in site.told()


def test_a_server_in_the_place_of_another_has_confirmed_nothing(site):
    site.destroyer.order({"key": HALF})
    site.servers.up = {"one", "two", "three"}
    site.servers.down = {"four"}
    site.destroyer.step()
    assert site.order().open


def test_a_key_that_is_destroyed_is_measured_as_waiting_no_more(site):
    """Though a server has not confirmed: it may be dead for good."""
    nothing = SimpleNamespace(pending=lambda: 0, open=lambda: 0)
    gauge = gauges.of_registration(nothing, nothing, site.destructions)[-1]

    def waiting():
        (sample,) = gauge.metric().samples
        return sample.value

    site.destroyer.order({"key": HALF, "other": HALF})
    site.destroyer.step()
    assert waiting() == 2
    site.servers.up = {"one", "two"}
    site.destroyer.step()
    assert [order.open for order in site.destructions.orders()] == [True, True]
    assert waiting() == 0

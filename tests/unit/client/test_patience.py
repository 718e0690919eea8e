"""How often a client asks: rarely in a long wait, and soon when little is left."""

import random

from lxml import etree

from srm_dicom.client import srm as module
from srm_dicom.client.delivery import Couriers
from srm_dicom.client.srm import SrmClient
from srm_dicom.client.srm_views import FileStatus, GetRequest, Status
from srm_dicom.errors import SourceUnavailable
from srm_dicom.testing.clock import FakeClock

WAITING = "SRM_REQUEST_QUEUED"
ANSWER = """
<r xmlns="urn:x"><returnStatus><statusCode>{code}</statusCode></returnStatus><arrayOfFileStatuses>
<statusArray><sourceSURL>srm://h/s.tar</sourceSURL><status><statusCode>{code}</statusCode>
<explanation>{text}</explanation></status></statusArray></arrayOfFileStatuses></r>
"""


class Staging(SrmClient):
    """A server that stages at a steady rate, in groups, and says how far it is if it is told to."""

    def __init__(self, seconds, *, tells):
        self._clock = FakeClock()
        self._end_s = self._clock.monotonic_s() + seconds
        self._seconds, self._tells = seconds, tells
        self.polls = 0

    def status(self, token, surls=None):
        self.polls += 1
        left = (self._end_s - self._clock.monotonic_s()) / self._seconds
        text = f"{int((1 - left) * 10) * 20} of 200 files are staged" if self._tells else ""
        code = WAITING if left > 0 else "SRM_FILE_PINNED"
        return GetRequest.read(etree.fromstring(ANSWER.format(code=code, text=text)), "t")

    def late(self):
        first = self.status("t")
        *_, last = self.follow(first, 1e6)
        assert not last.waiting
        return self._clock.monotonic_s() - self._end_s


def test_who_is_told_how_far_it_is_is_sooner_there_than_who_is_not():
    seconds = [random.Random(7).uniform(1, 20) for _ in range(1)] + [0.4, 1.1, 2.3, 4.7, 9.9]
    told = [Staging(each, tells=True) for each in seconds]
    untold = [Staging(each, tells=False) for each in seconds]
    assert sum(each.late() for each in told) < sum(each.late() for each in untold)
    assert max(each.polls for each in told) < 60


def test_a_long_wait_is_not_full_of_polls():
    server = Staging(1200, tells=False)
    assert server.late() <= module.LAST_POLL_S
    assert server.polls < 1200 / module.LAST_POLL_S + 40


def test_how_much_is_done():
    def request(*files):
        return GetRequest("t", Status(WAITING), tuple(FileStatus("s", Status(*file)) for file in files))

    assert request((WAITING, "")).done == 0
    assert request((WAITING, "0 of 7 files are staged")).done == 0
    assert request((WAITING, "3 of 4 files are staged"), ("SRM_FILE_PINNED",)).done == 7 / 8
    assert request((WAITING, "archive does not answer at its DICOM port")).done == 0
    assert request((WAITING, "0 of 0 files are staged")).done == 0


def test_couriers_log_in_beforehand_where_they_will_most_likely_be_sent(monkeypatch):
    seen = []

    class Door:
        def __init__(self, _credential):
            self.closed = False

        def log_in(self, url):
            seen.append(url)
            raise SourceUnavailable("it does not answer")

        def interrupt(self):
            pass

        def close(self):
            pass

    monkeypatch.setattr("srm_dicom.client.delivery.GridFtpClient", Door)
    for door, expected in (("gsiftp://node:2811", {"gsiftp://node:2811"}), ("", set())):
        seen.clear()
        couriers = Couriers(None, {}, 2, door=door)
        couriers.get_ready()
        assert list(couriers.arrived(everything=True)) == [], "nobody waits for it, and nobody is told"
        couriers._pool.shutdown()
        assert set(seen) == expected
        couriers.stop()

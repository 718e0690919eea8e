"""The pace of one caller: a minute's worth at once, then as fast as it fills."""

import pytest

from srm_dicom.errors import Overloaded
from srm_dicom.rights.pace import Pace
from srm_dicom.testing.clock import FakeClock


def test_a_minutes_worth_and_no_more():
    clock = FakeClock()
    pace = Pace(60, clock)
    pace.take("alice", 60)
    with pytest.raises(Overloaded):
        pace.take("alice", 1)
    pace.take("bob", 60)
    clock.advance(10)
    pace.take("alice", 10)
    with pytest.raises(Overloaded):
        pace.take("alice", 1)
    clock.advance(600)
    with pytest.raises(Overloaded):
        pace.take("alice", 61)


def test_no_bound():
    Pace(0, FakeClock()).take("alice", 10**9)

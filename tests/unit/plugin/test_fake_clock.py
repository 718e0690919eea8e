"""The clock of tests."""

from datetime import UTC, datetime, timedelta

import pytest

from srm_dicom.clock import Clock, SystemClock
from srm_dicom.testing.clock import START, FakeClock


def test_it_is_turned_and_never_waits() -> None:
    clock: Clock = FakeClock()
    before_s = clock.monotonic_s()
    clock.sleep(3600)
    assert clock.now() == START + timedelta(hours=1)
    assert clock.monotonic_s() - before_s == 3600


def test_only_the_time_of_day_can_go_back() -> None:
    clock = FakeClock()
    before_s = clock.monotonic_s()
    clock.set(datetime(2020, 1, 1, tzinfo=UTC))
    assert clock.now().year == 2020
    assert clock.monotonic_s() == before_s
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_the_real_one_is_aware() -> None:
    assert SystemClock().now().tzinfo is UTC

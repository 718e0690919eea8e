"""What a PACS bears at a time of the week, and that new limits need no restart."""

import tomllib
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError
from srm_dicom.plugin.api import PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_plugin_dicom.hours import HoursSettings, Load, load_at
from srm_plugin_dicom.plugin import DicomPlugin

CLINIC = """days = ["mon", "tue"]
begins = 07:00:00
ends = 18:00:00
max_visits = 1
max_files_per_s = 5"""
NIGHT = "begins = 22:00:00\nends = 06:00:00\nmax_visits = 0\ndays = ['sun']"


def hours(*texts: str) -> list[HoursSettings]:
    return [msgspec.convert(tomllib.loads(text), HoursSettings) for text in texts]


@pytest.mark.parametrize(
    ("day", "hour", "visits"),
    [
        (2, 7, 1),  # 2 November 2026 is a Monday
        (2, 17, 1),
        (2, 18, 3),
        (4, 12, 3),
        (1, 22, 0),
        (2, 5, 0),
        (2, 6, 3),
        (1, 5, 3),
    ],
)
def test_the_first_hours_that_fit_count(day: int, hour: int, visits: int) -> None:
    at = datetime(2026, 11, day, hour).astimezone()
    assert load_at(Load(3), hours(CLINIC, NIGHT), at).max_visits == visits


def table(visits: int, port: int = 104) -> dict[str, object]:
    source = {"name": "main", "ae_title": "PACS", "host": "localhost", "port": port, "max_visits": visits}
    return {"sources": [source]}


def test_new_limits_hold_at_once(tmp_path: Path) -> None:
    plugin = DicomPlugin(PluginContext("dicom", table(2), tmp_path, SystemClock()))
    host = PluginHost(plugin, name="dicom")
    assert [source.max_visits for source in host.sources()] == [2]
    host.reconfigure(table(5))
    assert [source.max_visits for source in host.sources()] == [5]
    with pytest.raises(ConfigError):
        host.reconfigure({"sources": [{"name": "main"}]})
    assert [source.max_visits for source in host.sources()] == [5]

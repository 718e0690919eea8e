"""``srm-dicom status``: what it says of requests, scratch and sources, while work is under way."""

import json

import pytest
from click.testing import CliRunner

from srm_dicom.cli.admin import main
from srm_dicom.testing.images import SeriesSpec, identities, make_series

SOURCE = 'name = "archive"'
HOURS = f"""{SOURCE}
max_files_per_s = 50
hours = [{{begins = 00:00:00, ends = 00:00:00, max_visits = 2, max_files_per_s = 7.5}}]"""
LIMITS = {"max_visits": 2, "files_per_s": 7.5, "note": "from 00:00 until 00:00"}


@pytest.fixture
def status(staging):
    def run(*options):
        done = CliRunner().invoke(main, ["status", "--config", str(staging.demo.config), *options])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_a_site_at_rest(status):
    assert json.loads(status("--json")) == {
        "files": {},
        "scratch": {"bytes": 0, "high_bytes": 200 * 1024**3, "low_bytes": 160 * 1024**3},
        "sources": [
            {"name": "dicom:archive", "max_visits": 3, "files_per_s": 0.0, "note": "", "files_in_hand": 0}
        ],
    }
    assert status().splitlines() == [
        "scratch      0 bytes of 214748364800",
        "dicom:archive  0 files in hand; bears 3 visits at once",
    ]


def test_what_is_in_flight_and_the_limits_of_the_hour(staging, pacs, status, wait_for):
    images = make_series(SeriesSpec("CT", 3))
    pacs.add(images)
    (files,) = staging.register()
    staging.change_settings(SOURCE, HOURS)
    pacs.faults.slow_s = 5.0
    wanted = staging.want("/CN=Alice", files)
    with staging.stager():
        wait_for(lambda: pacs.moves)
        under_way = json.loads(status("--json"))
        assert under_way["sources"] == [{"name": "dicom:archive", **LIMITS, "files_in_hand": 3}]
        assert under_way["files"] == {"in progress": 3}
        assert status().splitlines()[-1] == (
            "dicom:archive  3 files in hand; bears 2 visits at once, 7.5 files/s (from 00:00 until 00:00)"
        )
        pacs.faults.slow_s = 0.0
        wait_for(lambda: staging.is_there(wanted))
    after = json.loads(status("--json"))
    assert after["sources"] == [{"name": "dicom:archive", **LIMITS, "files_in_hand": 0}]
    assert after["files"] == {"pinned": 3}
    assert after["scratch"]["bytes"] == sum(item.size_bytes for item in staging.staged())
    assert not [one for one in identities(images) if one in status().encode()]

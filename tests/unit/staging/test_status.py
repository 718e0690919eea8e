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
ALWAYS = {
    "first_object_s": 10.0,
    "first_pause_s": 2.0,
    "longest_pause_s": 120.0,
    "kept_visits": 1,
    "user_files": 500,
}
USUAL = {"max_visits": 3, "files_per_s": 0.0}
APART = {"max_visits": 2, "files_per_s": 7.5}
NIGHT = "from 00:00 until 00:00"
SCHEDULE = [
    {"when": "", "max_visits": 3, "files_per_s": 50.0, "holds": False},
    {"when": NIGHT, **APART, "holds": True},
]
SOURCE_NOW = {"name": "dicom:archive", **APART, "note": NIGHT, **ALWAYS, "schedule": SCHEDULE}


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
            {"name": "dicom:archive", **USUAL, "note": "", "files_in_hand": 0, **ALWAYS, "schedule": []}
        ],
        "unusable": {},
    }
    assert status().splitlines() == [
        "scratch      0 bytes of 214748364800",
        "dicom:archive  0 files in hand; bears 3 visits at once",
        "  one user: 500 files in hand; 1 visit kept for others",
        "  patience: 10 s for the first file; pauses of 2 s up to 120 s",
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
        assert under_way["sources"] == [{**SOURCE_NOW, "files_in_hand": 3}]
        assert under_way["files"] == {"in progress": 3}
        assert status().splitlines()[-5:-2] == [
            "dicom:archive  3 files in hand; bears 2 visits at once, 7.5 files/s (from 00:00 until 00:00)",
            "  usually: 3 visits at once, 50 files/s",
            "  from 00:00 until 00:00: 2 visits at once, 7.5 files/s  <- now",
        ]
        pacs.faults.slow_s = 0.0
        wait_for(lambda: staging.is_there(wanted))
    after = json.loads(status("--json"))
    assert after["sources"] == [{**SOURCE_NOW, "files_in_hand": 0}]
    assert after["files"] == {"pinned": 3}
    assert after["scratch"]["bytes"] == sum(item.size_bytes for item in staging.staged())
    assert not [one for one in identities(images) if one in status().encode()]


def test_pauses_patience_and_shares_are_those_of_the_source(staging, status):
    own = (
        "first_object_s = 25.0",
        "first_pause_s = 7.0",
        "longest_pause_s = 70.0",
        "kept_visits = 2",
        "user_files = 60",
    )
    staging.change_settings(SOURCE, "\n".join([SOURCE, *own]))
    assert status().splitlines()[-2:] == [
        "  one user: 60 files in hand; 2 visits kept for others",
        "  patience: 25 s for the first file; pauses of 7 s up to 70 s",
    ]


def test_hours_of_some_days_are_told_with_them(staging, status):
    days = 'days = ["sat", "sun"], begins = 08:00:00, ends = 12:30:00, max_visits = 1'
    staging.change_settings(SOURCE, f"{SOURCE}\nhours = [{{{days}}}]")
    assert "  sat, sun from 08:00 until 12:30: 1 visit at once" in status()


@pytest.mark.parametrize("text", ["max_visits = 'many'", "name = "])
def test_a_file_that_cannot_be_used_is_told_beside_the_rest(staging, pacs, status, text):
    pacs.add(make_series(SeriesSpec("CT", 1)))
    staging.want("/CN=Alice", staging.register()[0])
    staging.change_settings(SOURCE, f"{SOURCE}\n{text}")
    shown = status().splitlines()
    assert shown[:2] == ["queued       1", "scratch      0 bytes of 214748364800"]
    assert shown[2].startswith(
        "plugins.d/dicom.toml cannot be used, a stager that runs goes on with the settings"
    )
    told = json.loads(status("--json"))
    assert (told["files"], told["sources"], list(told["unusable"])) == ({"queued": 1}, [], ["dicom"])

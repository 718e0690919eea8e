"""What a stager that runs takes of new settings, and what it refuses."""

from datetime import UTC, datetime

from srm_dicom.testing.images import SeriesSpec, make_series

SOURCE = 'name = "archive"'
CLOSED = f"""{SOURCE}
hours = [{{begins = 00:00:00, ends = 00:00:00, max_visits = 0}}]"""


def test_a_running_stager_takes_new_limits_and_refuses_a_broken_file(staging, pacs, wait_for):
    pacs.add(make_series(SeriesSpec("CT", 2)) + make_series(SeriesSpec("MR", 2, study="2")))
    first, second = staging.register()
    staging.change_settings(SOURCE, CLOSED)
    staging.process()
    waiting = staging.want("/CN=Alice", first)
    query = "SELECT source FROM request_file WHERE token = ?"
    wait_for(lambda: staging.stores.database.select(query, [waiting])[0].source == "dicom:archive")
    assert pacs.moves == 0, "the source is closed all day"

    staging.change_settings(SOURCE, SOURCE)
    wait_for(lambda: staging.is_there(waiting))
    assert staging.log().count('"event": "settings_taken"') == 1

    staging.change_settings(SOURCE, f'{SOURCE}\nmax_visits = "many"')
    wait_for(lambda: staging.log().count('"event": "settings_not_taken"') == 1)
    staging.change_settings(SOURCE, "name = ")
    wait_for(lambda: staging.log().count('"event": "settings_not_taken"') == 2)
    wanted = staging.want("/CN=Bob", second)
    wait_for(lambda: staging.is_there(wanted))

    staging.plugin_file.unlink()
    wait_for(lambda: staging.log().count('"event": "settings_not_taken"') == 3)
    staging.change_settings(SOURCE, CLOSED)
    wait_for(lambda: staging.log().count('"event": "settings_taken"') == 2)


def test_a_source_has_pauses_of_its_own(staging, pacs, wait_for):
    pacs.add(make_series(SeriesSpec("CT", 2)))
    (guids,) = staging.register()
    pacs.stop()
    staging.change_settings(SOURCE, f"{SOURCE}\nfirst_pause_s = 5000.0\nlongest_pause_s = 3000.0")
    with staging.stager():
        token = staging.want("/CN=Alice", guids)
        wait_for(lambda: staging.stores.requests.files(token)[0].explanation)
    query = "SELECT not_before, attempts FROM request_file WHERE token = ?"
    for row in staging.stores.database.select(query, [token]):
        left_s = row.not_before / 1000 - datetime.now(UTC).timestamp()
        assert 2000 < left_s <= 3000, "the longest of the source, not the stager's"
        assert row.attempts == 1

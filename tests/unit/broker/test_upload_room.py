"""Uploads take room in scratch as staged files do, with what they announce until they have it."""

from dataclasses import replace

import pytest

from srm_dicom.broker.broker import Broker
from srm_dicom.broker.janitor import Janitor, SpaceSettings
from srm_dicom.errors import NoSpace
from srm_dicom.ids import parse_path
from srm_dicom.transfer.written import WrittenFilesOfNode

QUOTA = 1000


@pytest.fixture
def small(site):
    """The site with little room."""
    settings = replace(site.settings, quota_bytes=QUOTA)
    site.broker = Broker(settings, site.stores, site.access, site.clock, site.areas)
    site.written = WrittenFilesOfNode(site.area, site.broker.puts, site.broker.names, site.sealed)
    return site


def test_what_is_announced_is_reserved(small):
    small.put("a", sizes=(600,))
    assert small.stores.lying("node") == (600, 1)
    with pytest.raises(NoSpace):
        small.put("b", sizes=(401,))
    assert small.put("b", sizes=(400,)).files[0].failure is None
    with pytest.raises(NoSpace):
        small.put("c", "d", sizes=(1, 0))
    assert small.put("e").files[0].failure is None, "who announces nothing is not refused before it comes"


def test_a_door_reserves_what_its_client_announces(small):
    view = small.put("a", sizes=(100,))
    path = parse_path(view.files[0].turl.removeprefix("gsiftp://node:2811"))
    with pytest.raises(NoSpace):
        small.written.create(small.who(), path, expected_bytes=1001)
    with small.written.create(small.who(), path, expected_bytes=900):
        assert small.stores.lying("node") == (900, 1)
        with pytest.raises(NoSpace):
            small.written.create(small.who(), parse_path("/vo/data/b"), expected_bytes=200)
    with small.written.create(small.who(), path, expected_bytes=900):
        pass  # again, with the same room


def test_what_is_there_counts_as_it_is(small):
    view = small.put("a")
    small.upload(view, bytes(800))
    assert small.stores.lying("node") == (800, 1)
    assert small.done(view)[0].failure is None
    assert small.stores.lying("node") == (800, 1), "it is staged now, and no upload"
    with pytest.raises(NoSpace):
        small.put("b", sizes=(300,))


def test_who_may_not_write_learns_nothing_of_the_room(small):
    (file,) = small.put("a", by="Stranger", sizes=(5000,)).files
    assert not isinstance(file.failure, NoSpace)


def test_a_put_that_ended_gives_its_room_back(small):
    view = small.put("a", sizes=(QUOTA,))
    small.broker.abort(small.who(), view.token)
    assert small.put("b", sizes=(QUOTA,)).files[0].failure is None


def test_staged_files_make_room_for_uploads(site):
    site.store("old", bytes(700))
    assert site.area.names()
    site.put("a", sizes=(600,))
    space = SpaceSettings(quota_bytes=QUOTA, spare_bytes=0, grace_s=60)
    site.clock.advance(10)
    Janitor("node", site.area, site.stores, space, site.clock).tidy()
    assert site.stores.staged.used_bytes("node") == 0
    assert site.stores.lying("node") == (600, 1)


def bytes_there(site):
    scratch = site.area.incoming("0" * 32).parents[1]
    return sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())


def test_the_bytes_of_what_has_ended_do_not_wait_for_a_sweep(site):
    """Else who writes and removes, or aborts, again and again fills scratch far beyond its quota."""
    site.store("kept", bytes(100))
    for number in range(3):
        site.store("removed", bytes(1000))
        site.store("replaced", bytes(2000 + number), overwrite=True)
        assert site.broker.names.remove_files(site.who(), [parse_path("/vo/data/removed")], "srmRm") == [None]
        aborted = site.put("aborted")
        site.upload(aborted, bytes(4000))
        site.broker.abort(site.who(), aborted.token)
    late = site.put("late", total_s=60)
    site.upload(late, bytes(8000))
    written = site.put("written", total_s=24 * 3600)
    site.upload(written, bytes(16000))
    site.clock.advance(2 * 3600)
    site.janitor.tidy()
    assert bytes_there(site) == 100 + 2002 + 16000
    assert site.done(written)[0].failure is None
    site.janitor.tidy()
    assert [site.read(name) for name in ("kept", "written")] == [bytes(100), bytes(16000)]
    assert bytes_there(site) == 100 + 2002 + 16000
    assert site.stores.leftovers.on_node("node") == []


def test_the_bytes_of_what_is_removed_while_it_becomes_ready_do_not_either(site, monkeypatch):
    publish = site.area.publish

    def removed_meanwhile(files):
        publish(files)
        site.broker.names.remove_files(site.who(), [parse_path("/vo/data/a")], "srmRm")

    monkeypatch.setattr(site.area, "publish", removed_meanwhile)
    site.store("a")
    site.janitor.tidy()
    assert bytes_there(site) == 0

"""How a file comes to be: the saga walked, broken off and walked again, against real rows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from peewee import OperationalError

from srm_dicom.broker.areas import Area, Areas
from srm_dicom.errors import (
    NotAuthorised,
    NotFound,
    NotSupported,
    Overloaded,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath
from srm_dicom.plugin.api import Discovered
from srm_dicom.registry.journal import Arrival, Group
from srm_dicom.registry.registrar import SERVICE, arrivals
from srm_dicom.rights.evaluate import decide
from srm_dicom.rights.project import Release
from srm_dicom.store.namespace import Facts
from srm_dicom.store.requests import FileState
from srm_dicom.store.staged import Staged

NOW = datetime(2026, 11, 21, 12, 17, 30, tzinfo=UTC)
RELEASE = Release("heart", "basic", "v1")
SECRET = "CANARY^ALICE"
PATIENT = "CANARY-4711"


def test_a_group_is_registered_everywhere_under_one_key(house):
    house.arrive(1, 2, 3)
    assert house.registrar.step()
    assert not house.registrar.step()
    assert house.registrar.pending() == 0
    ((key_id, (records, _)),) = house.keys.registered.items()
    assert {record.charter.project for record in records} == {"heart"}
    paths = [SitePath(f"/vo/mdm/site/heart-v1/p/s/{number}.dcm.c4gh") for number in (1, 2, 3)]
    entries = house.stores.namespace.find_many(paths)
    assert {entry.key_id for entry in entries.values()} == {key_id}
    assert all(entry.facts is None and entry.shown_at.day == 1 for entry in entries.values())
    assert len(house.files.records) == len(house.metadata.entries) == 3
    record = house.files.records["00000000-0000-4000-8000-000000000001"]
    assert record.lfn == "/grid/vo/mdm/site/heart-v1/p/s/1.dcm.c4gh"
    assert record.surls == ("srm://se.test:8446/vo/mdm/site/heart-v1/p/s/1.dcm.c4gh",)
    assert house.metadata.schema["PatientName"] == ("text", "nominative")
    assert house.metadata.schema["SliceThickness"] == ("float", "search")


def test_a_saga_that_broke_is_walked_again_with_the_same_key(house):
    house.arrive(1)
    house.files.down = True
    house.registrar.step()
    assert house.registrar.pending() == 1
    assert not house.registrar.step(), "it is left alone for a while"
    house.files.down = False
    house.clock.advance(60)
    house.registrar.step()
    assert house.registrar.pending() == 0
    assert len(house.keys.registered) == 1
    assert house.keys.removed == []


def test_what_has_waited_for_weeks_keeps_nobody_else_waiting(house):
    """A pause doubles with each attempt, and a float can be doubled a thousand times."""
    house.arrive(1, release=Release("ended", "basic", "v1"))
    house.journal._arrival.update(attempts=1023).execute()
    house.arrive(2)
    while house.registrar.step():
        pass
    assert house.entry(2) is not None
    assert house.registrar.pending() == 1


def test_what_the_lost_key_of_the_journal_had_sealed_keeps_nobody_waiting(house, monkeypatch):
    """It is begun again (operate.md); until then the others of its series are registered, and erased."""
    with monkeypatch.context() as patched:
        patched.setattr(house.journal, "_key", b"l" * 32)
        house.arrive(1, 2, 3)
    house.arrive(4)
    house.registrar.step()
    assert house.entry(4) is not None
    assert house.registrar.pending() == 3
    house.erase()
    assert house.entry(4) is None
    house.clock.advance(3600)
    house.arrive(1, 2, 3)
    house.registrar.step()
    assert house.entry(1) is not None
    assert house.registrar.pending() == 0


def test_what_came_from_a_plugin_that_is_no_more_waits_and_breaks_nothing(house):
    """Its file was removed from plugins.d, or renamed; it may come back."""
    house.arrive(1)
    house.journal._arrival.update(plugin="gone").execute()
    assert house.registrar.step()
    assert house.registrar.pending() == 1
    assert not house.registrar.step(), "it is left alone for a while"


def test_what_comes_for_a_project_that_has_ended_is_not_kept(house):
    """Its archive forwards as before, every day, and nobody has a right to what would be registered."""
    house.arrive(1)
    house.registrar.step()
    house.clock.advance(100 * 86400)
    house.arrive(1, 2)
    assert house.registrar.step()
    assert house.registrar.pending() == 0
    assert house.entry(2) is None
    assert house.entry(1) is not None


def test_who_writes_in_an_area_passes_to_it_after_a_registration_too(house):
    areas = Areas([Area(SitePath("/vo/scratch"), "disk", RELEASE)])
    areas.prepare(house.stores.namespace, house.projects, NOW)
    carol = Principal("/CN=Carol", (), limited=False, expires=NOW + timedelta(days=1))

    def passes():
        above = house.stores.namespace.find_many([SitePath("/"), SitePath("/vo")])
        return [decide(entry.acl, entry.owner, carol, "x").allowed for entry in above.values()]

    assert passes() == [True, True]
    house.arrive(1)
    house.registrar.step()
    assert passes() == [True, True]


def test_half_a_key_is_undone_and_made_anew(house):
    house.arrive(1)
    house.keys.down = True
    house.registrar.step()
    assert house.stores.namespace.find(SitePath("/vo")) is None, "nothing has a name before it has a key"
    house.keys.down = False
    house.clock.advance(60)
    house.registrar.step()
    (key_id,) = house.keys.registered
    assert len(house.keys.removed) == 1
    assert house.keys.removed[0] != key_id


def test_a_key_that_another_registrar_has_undone_meanwhile_is_no_key(house, monkeypatch):
    """Who was stopped for longer than its lease must not confirm what the other is about to write."""
    register = house.keys.register

    def slowly(records, acl):
        monkeypatch.setattr(house.keys, "register", register)
        register(records, acl)
        group = Group("memory", RELEASE, "g")
        house.journal.drop_key(group)
        house.journal.intend_key(group, "half", b"h" * 32)

    monkeypatch.setattr(house.keys, "register", slowly)
    house.arrive(1)
    house.registrar.step()
    assert house.entry(1) is None
    house.clock.advance(60)
    house.registrar.step()
    first, second = house.keys.registered
    assert house.keys.removed == [first, "half"]
    assert house.entry(1).key_id == second


def test_files_keep_their_key_when_the_journal_has_forgotten_it(house):
    """It was lost: what is new of the series gets another one, and what is there keeps its own."""
    house.arrive(1)
    house.registrar.step()
    house.journal.drop_key(Group("memory", RELEASE, "g"))
    house.arrive(1, 2)
    house.registrar.step()
    assert house.registrar.pending() == 0
    first, second = house.keys.registered
    assert (house.entry(1).key_id, house.entry(2).key_id) == (first, second)
    assert [record.key_id for record in house.files.records.values()] == [first, second]


def test_files_appear_together_and_not_when_they_came(house):
    house.arrive(1)
    assert not house.registrar.step(house.registrar.settled())
    house.clock.advance(30 * 60)
    assert not house.registrar.step(house.registrar.settled()), "quiet for half an hour, and not yet the hour"
    house.clock.advance(13 * 60)
    assert house.registrar.step(house.registrar.settled())


def test_what_identifies_does_not_lie_in_the_journal(house):
    house.arrive(1)
    stored = b"".join(path.read_bytes() for path in house.path.rglob("*") if path.is_file())
    assert SECRET.encode() not in stored
    assert b"SliceThickness" not in stored


def test_full_registration_is_a_request_of_our_own(make_house):
    house = make_house(level="full")
    house.arrive(1)
    house.registrar.step()
    assert house.stores.requests.counts() == {FileState.QUEUED: 1}
    rows = house.stores.requests.files_of_owner(SERVICE, [SitePath("/vo/mdm/site/heart-v1/p/s/1.dcm.c4gh")])
    assert len(rows) == 1


def test_what_is_full_is_not_fetched_again_when_it_comes_again(make_house):
    """An archive that forwards all that it has once more would have to give all of it back."""
    house = make_house(level="full")
    house.arrive(1)
    house.registrar.step()
    house.stores.namespace.record_facts([(house.entry(1).guid, Facts(10, "00000001", "manifest"), 1)])
    house.arrive(1)
    house.registrar.step()
    assert house.stores.requests.counts() == {FileState.QUEUED: 1}
    house.arrive(1, 2)
    house.registrar.step()
    assert house.stores.requests.counts() == {FileState.QUEUED: 2}


def test_arrivals_that_come_again_change_nothing(house):
    house.arrive(1)
    house.registrar.step()
    before = house.stores.namespace.find(SitePath("/vo/mdm/site/heart-v1/p/s/1.dcm.c4gh"))
    house.arrive(1)
    house.registrar.step()
    assert house.stores.namespace.find(before.path) == before
    assert len(house.keys.registered) == 1


def test_what_is_registered_again_is_fetched_where_it_was_seen_last(house):
    """An archive took the place of another, or the key that seals where a file is was lost (operate.md)."""
    house.arrive(1)
    house.registrar.step()
    before = house.entry(1)
    house.arrive(1, ref=b"elsewhere")
    house.registrar.step()
    assert house.entry(1) == replace(before, plugin_ref=b"elsewhere")


def test_what_comes_again_for_another_patient_keeps_its_name_and_keeps_nobody_waiting(house):
    """As after an archive has merged two patients, or by somebody who would have it so."""
    house.arrive(1)
    house.registrar.step()
    before = house.entry(1), house.metadata.entries[house.entry(1).guid]
    house.arrive(1, 2, patient="q")
    assert house.registrar.step()
    assert house.registrar.pending() == 0
    assert (house.entry(1), house.metadata.entries[house.entry(1).guid]) == before
    assert house.files.records[before[0].guid].lfn.endswith("/p/s/1.dcm.c4gh")
    assert house.stores.namespace.find(SitePath("/vo/mdm/site/heart-v1/q/s/2.dcm.c4gh")) is not None
    house.arrive(1, patient="r")
    house.registrar.step()
    assert house.stores.namespace.find(SitePath("/vo/mdm/site/heart-v1/r")) is None


def test_a_name_that_is_another_files_keeps_nobody_waiting(house):
    """As after a project was given another profile of the same version: other files, and the same names."""
    other = Release("heart", "other", "v1")
    house.arrive(1)
    house.registrar.step()
    before = house.entry(1)
    another = Discovered(Guid("00000000-0000-4000-8000-00000000beef"), ("p", "s", "1.dcm.c4gh"), "g", b"ref")
    house.journal.add([Arrival("memory", other, another)], house.clock.now())
    house.arrive(2, release=other)
    house.registrar.step()
    assert house.registrar.pending() == 0
    assert house.entry(1) == before
    assert house.entry(2).release == other
    assert set(house.files.records) == {before.guid, house.entry(2).guid}


def test_what_waited_when_a_project_got_another_profile_keeps_its_own(house):
    releases = Release("heart", "basic", "v1"), Release("heart", "other", "v1")
    for number, release in enumerate(releases, 1):
        house.arrive(number, release=release)
    while house.registrar.step():
        pass
    assert tuple(house.entry(number).release for number in (1, 2)) == releases


def test_who_tells_of_an_arrival_hears_that_it_cannot_be_written_down_now(house, monkeypatch):
    """An archive sends again what was refused so, and not what broke its association."""

    def locked(*_):
        raise OperationalError("CANARY")

    monkeypatch.setattr(house.journal, "_columns", locked)
    tell = arrivals(house.journal, "memory", [RELEASE], house.clock)[RELEASE]
    with pytest.raises(Overloaded) as caught:
        tell(Discovered(Guid("g"), (), "g", b""))
    assert "CANARY" not in caught.value.message


def test_a_file_that_is_removed_is_forgotten_by_every_catalogue(house):
    house.arrive(1, 2)
    house.registrar.step()
    assert house.remove(1) == [None]
    assert house.entry(1) is None
    house.settle()
    left = {house.entry(2).guid}
    assert set(house.files.records) == set(house.metadata.entries) == left
    assert house.keys.destroyed == {}, "the series has a file left that is sealed to the same key"


def test_the_key_is_destroyed_with_the_last_file_of_its_series(house):
    house.arrive(1, 2)
    house.registrar.step()
    (key_id,) = house.keys.registered
    house.remove(1)
    house.settle()
    house.remove(2)
    house.settle()
    assert set(house.keys.destroyed) == {key_id}
    assert [order.done for order in house.destructions.orders()] == [True]
    assert house.files.records == house.metadata.entries == {}


def test_a_catalogue_that_is_down_is_asked_again(house):
    house.arrive(1)
    house.registrar.step()
    house.remove(1)
    house.files.down = True
    house.settle()
    assert len(house.files.records) == 1
    assert house.keys.destroyed == {}
    house.files.down = False
    house.settle()
    assert len(house.files.records) == 1, "it is left alone for a while"
    house.clock.advance(60)
    house.settle()
    assert house.files.records == {}
    assert len(house.keys.destroyed) == 1


def test_an_order_that_broke_off_is_given_again(house, monkeypatch):
    house.arrive(1)
    house.registrar.step()
    (key_id,) = house.keys.registered
    house.remove(1)

    def cut(_halves):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(house.destroyer, "order", cut)
        with pytest.raises(KeyboardInterrupt):
            house.registrar.step()
    house.settle()
    assert set(house.keys.destroyed) == {key_id}


def test_what_comes_again_is_another_generation_under_another_key(house):
    house.arrive(1)
    house.registrar.step()
    first = house.entry(1)
    house.stores.staged.add([Staged(first.guid, "node", 1, 100)], NOW)
    house.remove(1)
    assert house.stores.staged.find([first.guid]) == {}
    house.settle()
    house.arrive(1)
    house.settle()
    again = house.entry(1)
    assert (again.guid, again.generation) == (first.guid, 2)
    assert again.key_id != first.key_id
    house.remove(1)
    house.arrive(1)
    house.settle()
    assert house.entry(1).generation == 3


def test_what_came_again_before_the_catalogues_were_asked_stays(house):
    house.arrive(1)
    house.registrar.step()
    house.remove(1)
    house.files.down = True
    house.registrar.step()
    house.files.down = False
    house.arrive(1)
    house.registrar.step()
    house.clock.advance(60)
    house.settle()
    guid = house.entry(1).guid
    assert guid in house.files.records
    assert guid in house.metadata.entries
    assert house.keys.destroyed == {}


def test_a_key_that_arrivals_wait_for_is_kept(house):
    house.arrive(1)
    house.registrar.step()
    (key_id,) = house.keys.registered
    house.remove(1)
    house.arrive(2)
    house.settle()
    assert house.entry(2).key_id == key_id
    assert house.keys.destroyed == {}


def test_only_the_right_to_hand_in_removes_and_no_limited_credential(house):
    house.arrive(1)
    house.registrar.step()
    for failed in (house.remove(1, by="Bob"), house.remove(1, limited=True), house.remove(7)):
        assert isinstance(failed[0], NotAuthorised | NotFound)
    assert house.entry(1) is not None


def test_directories_go_when_they_are_empty_and_never_the_release(house):
    house.arrive(1)
    house.registrar.step()
    who = Principal("/CN=Alice", (), limited=False, expires=NOW + timedelta(days=1))
    house.names.remove_directory(who, SitePath("/vo/mdm/site/heart-v1/p"), "srmRmdir", recursive=True)
    house.settle()
    assert house.entry(1) is None
    assert house.files.records == {}
    with pytest.raises(NotAuthorised):
        house.names.remove_directory(who, SitePath("/vo/mdm/site/heart-v1"), "srmRmdir")


def test_nobody_makes_or_changes_names_of_registered_files(house):
    house.arrive(1)
    house.registrar.step()
    who = Principal("/CN=Alice", (), limited=False, expires=NOW + timedelta(days=1))
    with pytest.raises(NotSupported):
        house.names.make_directory(who, SitePath("/vo/mdm/site/heart-v1/p/new"), "srmMkdir")
    with pytest.raises(NotSupported):
        house.names.rename(who, house.name(1), house.name(2), "srmMv")

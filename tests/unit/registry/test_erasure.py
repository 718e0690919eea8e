"""A patient is erased: what belongs to them is found, and goes, whatever happens meanwhile."""

import threading
from datetime import UTC, datetime

import pytest

from srm_dicom.errors import CatalogueUnavailable
from srm_dicom.ids import SitePath
from srm_dicom.plugin.api import Patient
from srm_dicom.rights.project import Release
from srm_dicom.store.staged import Staged

NOW = datetime(2026, 11, 21, 12, 17, 30, tzinfo=UTC)
RELEASE = Release("heart", "basic", "v1")
SECRET = "CANARY^ALICE"
PATIENT = "CANARY-4711"


def test_a_patient_is_found_and_erased_in_every_release_and_nobody_else(house, capsys):
    house.arrive(1, 2)
    house.arrive(3, group="other", patient="q")
    house.arrive(4, group="old", release=Release("heart", "basic", "v0"))
    while house.registrar.step():
        pass
    keys = {house.entry(number).key_id for number in (1, 2)}
    house.stores.staged.add([Staged(house.entry(1).guid, "node", 1, 100)], NOW)
    house.arrive(5)
    who = [Patient(PATIENT, "HOSPITAL")]
    found = house.erasure.find(who)
    old = house.stores.namespace.find(SitePath("/vo/mdm/site/heart-v0/p/s/4.dcm.c4gh"))
    keys.add(old.key_id)
    assert set(found.keys) == keys
    assert {file.guid for file in found.files} == {*(house.entry(n).guid for n in (1, 2)), old.guid}
    assert (found.staged, len(found.arrivals)) == (1, 1)
    erased = house.erase()
    assert erased.done
    assert (erased.files, erased.arrivals, erased.waiting, erased.left) == (3, 1, 0, 0)
    assert {order.key_id for order in erased.orders if order.done} == keys == set(house.keys.destroyed)
    other = house.stores.namespace.find(SitePath("/vo/mdm/site/heart-v1/q/s/3.dcm.c4gh"))
    assert set(house.files.records) == set(house.metadata.entries) == {other.guid}
    assert house.stores.staged.find([file.guid for file in found.files]) == {}
    assert house.registrar.pending() == 0
    for gone in ("heart-v1/p", "heart-v0/p"):
        assert house.stores.namespace.find(SitePath(f"/vo/mdm/site/{gone}")) is None
    assert not house.erasure.find(who).files
    kept = house.audit.path.read_text() + "".join(capsys.readouterr())
    assert '"operation":"erase"' in kept
    assert not [word for word in (PATIENT, SECRET, "HOSPITAL") if word in kept]


def test_who_has_the_same_id_from_somebody_else_is_another_patient(house):
    house.arrive(1)
    house.registrar.step()
    assert not house.erasure.find([Patient(PATIENT), Patient(PATIENT, "CLINIC")]).files


def test_a_patient_is_shown_nowhere():
    assert PATIENT not in f"{Patient(PATIENT)!r}{Patient(PATIENT)}"


def test_a_key_does_not_wait_for_a_catalogue_and_the_registrar_goes_on(house):
    house.arrive(1, 2)
    house.registrar.step()
    house.files.down = True
    erased = house.erase()
    assert (erased.done, erased.waiting, [order.done for order in erased.orders]) == (False, 2, [True])
    assert house.entry(1) is None
    house.files.down = False
    house.clock.advance(60)
    house.settle()
    assert house.files.records == {}


def test_an_erasure_is_not_done_before_the_key_servers_say_so(house):
    house.arrive(1)
    house.registrar.step()
    house.keys.silent = True
    erased = house.erase()
    assert (erased.done, erased.waiting, [order.done for order in erased.orders]) == (False, 0, [False])
    house.keys.silent = False
    house.settle()
    assert [order.done for order in house.destructions.orders()] == [True]


def test_a_key_that_somebody_elses_file_has_too_is_told(house):
    """Objects of one series that name two patients."""
    house.arrive(1)
    house.arrive(2, patient="q")
    house.registrar.step()
    key_id = house.entry(1).key_id
    erased = house.erase()
    assert (erased.done, erased.kept, list(erased.orders)) == (False, [key_id], [])
    assert house.keys.destroyed == {}


def test_a_key_without_a_file_goes_with_the_arrivals_that_it_was_made_for(house):
    house.arrive(1)
    group = house.journal.claim(NOW, NOW, 0.0)
    house.journal.intend_key(group, "key", b"p" * 32)
    erased = house.erase()
    assert (erased.arrivals, erased.files, erased.done) == (1, 0, True)
    assert set(house.keys.destroyed) == {"key"}


def test_what_comes_during_an_erasure_is_told(house, monkeypatch):
    house.arrive(1)
    house.registrar.step()
    step = house.destroyer.step
    monkeypatch.setattr(house.destroyer, "step", lambda: (house.arrive(2), step()))
    erased = house.erase()
    assert (erased.done, erased.left) == (False, 1)


def meanwhile(monkeypatch, asked, do, name="register"):
    """Have something done while what the registrar asks is slow to answer, once."""
    call = getattr(asked, name)

    def slowly(*args):
        monkeypatch.setattr(asked, name, call)
        do()
        return call(*args)

    monkeypatch.setattr(asked, name, slowly)


@pytest.mark.parametrize("slow", ["keys", "files", "metadata"])
def test_what_is_registered_during_an_erasure_goes_as_well(house, monkeypatch, slow):
    house.arrive(1, 2)
    meanwhile(monkeypatch, getattr(house, slow), house.erase)
    for _ in range(3):
        house.settle()
    assert house.entry(1) is house.entry(2) is None
    assert not house.files.records
    assert not house.metadata.entries
    assert house.keys.registered.keys() == house.keys.destroyed.keys()
    assert house.erase().done
    assert house.registrar.pending() == 0


@pytest.mark.parametrize("slow", ["files", "metadata"])
def test_a_file_that_is_removed_while_it_is_registered_is_forgotten(house, monkeypatch, slow):
    house.arrive(1, 2)
    meanwhile(monkeypatch, getattr(house, slow), lambda: (house.remove(1), house.settle()))
    for _ in range(3):
        house.settle()
    assert house.entry(1) is None
    left = {house.entry(2).guid}
    assert set(house.files.records) == set(house.metadata.entries) == left
    assert not house.keys.destroyed


def test_what_comes_again_while_it_is_erased_and_registered_is_registered_anew(house, monkeypatch):
    house.arrive(1)
    meanwhile(monkeypatch, house.metadata, lambda: (house.erase(), house.arrive(1)))
    for _ in range(4):
        house.settle()
    if house.entry(1) is None:
        house.clock.advance(7200)
        house.settle()
    assert set(house.metadata.entries) == set(house.files.records) == {house.entry(1).guid}
    assert house.entry(1).key_id not in house.keys.destroyed


def gone_everywhere(house):
    keys = house.keys.registered.keys() == house.keys.destroyed.keys()
    return keys and not (house.entry(1) or house.files.records or house.metadata.entries)


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "is being registered"])
def test_what_was_told_of_a_file_before_it_was_removed_does_not_bring_it_back(house, monkeypatch, waits):
    """Somebody adds an image once more and then removes it, before the registrar comes to it."""
    house.arrive(1)
    house.registrar.step()
    house.clock.advance(1)
    house.arrive(1)
    house.clock.advance(1)
    if waits:
        house.remove(1)
    else:
        meanwhile(monkeypatch, house.journal, lambda: house.remove(1), "claim")
    for _ in range(3):
        house.clock.advance(60)
        house.settle()
    assert gone_everywhere(house)
    assert house.registrar.pending() == 0


@pytest.mark.parametrize("slow", ["files", "metadata"])
def test_what_comes_after_it_was_removed_is_registered_anew(house, monkeypatch, slow):
    def again():
        house.clock.advance(1)
        house.remove(1)
        house.clock.advance(1)
        house.arrive(1)
        house.clock.advance(1)

    house.arrive(1)
    meanwhile(monkeypatch, getattr(house, slow), again)
    for _ in range(3):
        house.settle()
        house.clock.advance(7200)
    assert set(house.metadata.entries) == set(house.files.records) == {house.entry(1).guid}
    assert house.entry(1).generation == 2
    assert house.entry(1).key_id not in house.keys.destroyed


def test_what_comes_again_before_the_catalogues_have_forgotten_it_waits_for_that(house):
    """It has another key, and a catalogue that has the old one would refuse it for ever."""
    house.arrive(1)
    house.registrar.step()
    house.files.down = True
    house.erase()
    house.arrive(1)
    house.registrar.step()
    house.files.down = False
    for _ in range(3):
        house.clock.advance(600)
        house.settle()
    assert house.registrar.pending() == 0
    entry = house.entry(1)
    assert house.files.records[entry.guid].key_id == entry.key_id
    assert entry.guid in house.metadata.entries
    assert entry.key_id not in house.keys.destroyed


def test_what_became_of_files_until_the_question_was_answered_counts(house):
    """An administrator thinks it over; a file is removed meanwhile, and comes again under another key."""
    house.arrive(1)
    house.registrar.step()
    who = [Patient(PATIENT, "HOSPITAL")]
    found = house.erasure.find(who)
    house.remove(1)
    house.settle()
    house.arrive(1)
    house.settle()
    second = house.entry(1).key_id
    assert second not in found.keys
    assert house.erasure.erase(who, found, "user:root").done
    assert second in house.keys.destroyed
    house.arrive(1)
    house.settle()
    assert house.entry(1).generation == 3


@pytest.mark.parametrize("fails", ["files", "metadata"])
def test_what_was_named_during_an_erasure_goes_although_it_could_not_be_registered(house, monkeypatch, fails):
    def broken(*_):
        raise CatalogueUnavailable("it does not answer")

    house.arrive(1)
    house.registrar.step()
    house.arrive(2)
    with monkeypatch.context() as patched:
        patched.setattr(getattr(house, fails), "register", broken)
        meanwhile(monkeypatch, house.journal, house.erase, "group_key")
        house.registrar.step()
    for _ in range(3):
        house.clock.advance(600)
        house.settle()
    assert house.entry(2) is None
    assert house.registrar.pending() == 0
    assert gone_everywhere(house)


@pytest.mark.parametrize("how", ["erased", "removed"])
def test_what_a_registrar_had_named_that_died_goes_as_well(house, monkeypatch, how):
    """It died at what nobody wanted any more, and could not catch up with that."""

    def dies(*_):
        raise KeyboardInterrupt

    house.arrive(1)
    house.registrar.step()
    house.clock.advance(1)
    house.arrive(1)
    house.clock.advance(1)
    gone = house.erase if how == "erased" else lambda: (house.remove(1), house.unregistering.step())
    with monkeypatch.context() as patched:
        patched.setattr(house.files, "register", dies)
        patched.setattr(house.unregistering, "catch_up", dies)
        meanwhile(monkeypatch, house.journal, gone, "group_key")
        with pytest.raises(KeyboardInterrupt):
            house.registrar.step()
    assert house.entry(1) is not None
    for _ in range(3):
        house.clock.advance(3600)
        house.settle()
    assert house.registrar.pending() == 0
    assert gone_everywhere(house)
    assert not list(house.journal._arrival.select())


def test_what_is_registered_while_the_catalogues_forget_it_is_forgotten_once_more(house, monkeypatch):
    """The registrar has been at it since before the erasure, and is done when that has half gone through."""
    forgetting, registered = threading.Event(), threading.Event()
    unregister = house.files.unregister
    eraser = threading.Thread(target=house.erase)

    def slowly(references):
        forgetting.set()
        assert registered.wait(30)
        unregister(references)

    def erase():
        monkeypatch.setattr(house.files, "unregister", slowly)
        eraser.start()
        assert forgetting.wait(30)

    house.arrive(1)
    house.registrar.step()
    house.arrive(1)
    meanwhile(monkeypatch, house.journal, erase, "group_key")
    house.registrar.step()
    registered.set()
    eraser.join()
    for _ in range(3):
        house.settle()
    assert gone_everywhere(house)

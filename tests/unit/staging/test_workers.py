"""Staging by way of workers: the same files as without, whatever becomes of the workers."""

import os
import random
import signal
import sys
import threading
from collections import Counter
from contextlib import contextmanager, suppress

import pytest

from srm_dicom.broker.states import ACTIVE
from srm_dicom.scratch import workshop as workshop_module
from srm_dicom.scratch.sessions import Session
from srm_dicom.scratch.workshop import Worker, Workshop
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_plugin_dicom.checkpoint import Entity
from srm_plugin_dicom.dimse import Status

MANY = 60


ATTENDED_BYTES = 8 * 1024 * 1024


@pytest.fixture
def open_workshop(staging, monkeypatch, wait_for):
    """Make a workshop of two workers; by default they attend the archive's associations."""
    monkeypatch.setattr(workshop_module, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(workshop_module, "LONGEST_PAUSE_S", 0.1)
    opened = []

    def open_it(**attending):
        command = (sys.executable, "-m", "srm_dicom.daemon.worker")
        rest = {"seal_key": staging.seal_key, "modules": ["srm_plugin_dicom.plugin"]}
        rest |= {"begin": staging.area.begin, "attended_bytes": ATTENDED_BYTES} | attending
        workshop = Workshop(command, 2, room_bytes=16 * 1024 * 1024, **rest)
        opened.append(workshop)
        workshop.start()
        wait_for(lambda: workshop.idle == 2)
        return workshop

    yield open_it
    for workshop in opened:
        workshop.stop()


@pytest.fixture
def workshop(open_workshop):
    return open_workshop()


@pytest.fixture
def seen(monkeypatch):
    """Count what sessions keep, what is handed over to the stager, and what goes by way of its threads."""
    counts = Counter()

    def counted(owner, name):
        plain = getattr(owner, name)

        def call(*arguments):
            counts[name] += 1
            return plain(*arguments)

        monkeypatch.setattr(owner, name, call)

    counted(Session, "_keep")
    counted(Session, "_finish")
    counted(Worker, "make")
    return counts


WAYS = {
    "attended": ({}, ["_keep"]),
    "handed over": ({"attended_bytes": 100}, ["_finish", "make"]),
    "not attended": ({"begin": None}, ["make"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_workers_make_the_same_files(staging, pacs, open_workshop, wait_for, seen, way):
    images = make_series(SeriesSpec("CT", 5)) + make_series(SeriesSpec("MR", 5, study="2"))
    images[0].BurnedInAnnotation = "YES"
    pacs.add(images)
    guids = [guid for series in staging.register() for guid in series]
    manifests, refused = [], []
    attending, counted = WAYS[way]
    for hired in (None, open_workshop(**attending)):
        with staging.stager(workshop=hired):
            token = staging.want("/CN=Alice", guids)
            wait_for(lambda token=token: not staging.states(token) & set(ACTIVE))
        files = staging.stores.requests.files(token)
        refused.append([str(file.failure) for file in files if file.failure])
        entries = staging.stores.namespace.find_guids(guids)
        manifests.append({guid: entry.facts and entry.facts.manifest for guid, entry in entries.items()})
        for item in staging.staged():
            staging.stores.staged.remove(item.guid, staging.common.node)
    assert manifests[0] == manifests[1]
    assert refused[0] == refused[1]
    assert len(refused[0]) == 1
    assert list(manifests[0].values()).count(None) == 1
    assert seen == dict.fromkeys(counted, len(images))
    assert staging.incoming() == []


def test_what_no_move_announced_is_refused_by_a_worker(staging, pacs, workshop, wait_for, seen):
    """Though the archive sends it, before and after what was asked for."""
    images, other = make_series(SeriesSpec("CT", 2)), make_series(SeriesSpec("CT", 1, study="9"))[0]
    pacs.add(images)
    (guids,) = staging.register()
    pacs.faults.recall_s = {str(images[0].StudyInstanceUID): 60.0}
    with staging.stager(workshop=workshop):
        token = staging.want("/CN=Alice", guids)
        wait_for(lambda: pacs.moves)
        entity = Entity(ae_title="PACS")
        entity.add_requested_context(other.SOPClassUID, other.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", staging.demo.ports["moves"], ae_title="MDM1")
        sent = (other, images[0], images[0], images[1], other)
        statuses = [association.send_c_store(each).Status for each in sent]
        association.release()
        assert statuses == [Status.NOT_AUTHORISED, 0, Status.NOT_AUTHORISED, 0, Status.NOT_AUTHORISED]
        wait_for(lambda: staging.is_there(token))
        pacs.faults.recall_s.clear()
    assert seen == {"_keep": 2}


def test_an_association_that_breaks_amid_a_series(staging, pacs, workshop, wait_for):
    """What had come is kept, the rest is asked for again."""
    pacs.add(make_series(SeriesSpec("CT", 10)))
    (guids,) = staging.register()
    pacs.faults.drops_after = 4
    with staging.stager(workshop=workshop):
        token = staging.want("/CN=Alice", guids)
        wait_for(lambda: staging.is_there(token))
    assert pacs.moves == 3
    assert workshop.idle == 2
    assert staging.incoming() == []


@contextmanager
def killing(workshop, seed):
    """Kill a worker now and then."""
    stop, random_ = threading.Event(), random.Random(seed)

    def kill():
        while not stop.wait(random_.uniform(0.005, 0.05)):
            if pids := workshop.pids:
                with suppress(ProcessLookupError):
                    os.kill(random_.choice(pids), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_workers_that_are_killed_lose_no_file(staging, pacs, workshop, wait_for):
    pacs.add(make_series(SeriesSpec("CT", MANY)))
    (guids,) = staging.register()
    with staging.stager(workshop=workshop):
        token = staging.want("/CN=Alice", guids)
        with killing(workshop, 1):
            wait_for(lambda: len(staging.staged()) > MANY // 2)
        wait_for(lambda: staging.is_there(token))
    assert sorted(item.guid for item in staging.staged()) == sorted(guids)

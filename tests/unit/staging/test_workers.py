"""Staging by way of workers: the same files as without, whatever becomes of the workers."""

import os
import random
import signal
import sys
import threading
from contextlib import contextmanager, suppress

import pytest

from srm_dicom.broker.states import ACTIVE
from srm_dicom.scratch import workshop as workshop_module
from srm_dicom.scratch.workshop import Workshop
from srm_dicom.testing.images import SeriesSpec, make_series

MANY = 60


@pytest.fixture
def workshop(staging, monkeypatch, wait_for):
    monkeypatch.setattr(workshop_module, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(workshop_module, "LONGEST_PAUSE_S", 0.1)
    command = (sys.executable, "-m", "srm_dicom.daemon.worker")
    rest = {"seal_key": staging.seal_key, "modules": ["srm_plugin_dicom.plugin"]}
    workshop = Workshop(command, 2, room_bytes=16 * 1024 * 1024, **rest)
    workshop.start()
    wait_for(lambda: workshop.idle == 2)
    yield workshop
    workshop.stop()


def test_workers_make_the_same_files(staging, pacs, workshop, wait_for):
    images = make_series(SeriesSpec("CT", 5)) + make_series(SeriesSpec("MR", 5, study="2"))
    images[0].BurnedInAnnotation = "YES"
    pacs.add(images)
    guids = [guid for series in staging.register() for guid in series]
    manifests, refused = [], []
    for hired in (None, workshop):
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

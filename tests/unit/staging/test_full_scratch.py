"""Scratch on a file system that is really full: nothing half written, and work goes on when there is room."""

import os
import subprocess
from datetime import UTC, datetime

import pytest

from srm_dicom.broker.passing import apply_time
from srm_dicom.broker.views import FileState
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.errors import NoSpace
from srm_dicom.testing.images import SeriesSpec, make_series

MIB = 1024 * 1024
ROOM = 4 * MIB
IMAGE = 512 * 1024


@pytest.fixture
def small_scratch(tmp_path):
    """Let scratch be a file system of its own of `ROOM` bytes, before the site is made."""
    directory = tmp_path / "site" / "outer" / "scratch"
    directory.mkdir(parents=True)
    options = f"size={ROOM},mode=0750"
    try:
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
        subprocess.run(mount, check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system may be mounted here ({type(error).__name__})")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True, timeout=20)


@pytest.fixture
def site(small_scratch, staging, pacs):
    pacs.add(make_series(SeriesSpec("CT", 4, study="1", rows=512, columns=512)))
    pacs.add(make_series(SeriesSpec("CT", 5, study="2", rows=512, columns=512)))
    assert os.statvfs(small_scratch).f_blocks * os.statvfs(small_scratch).f_frsize == ROOM
    return staging


def check_whole(staging):
    """What rows promise is there to the last byte, and nothing else takes room once nobody writes."""
    key = staging.signing_key.public_key()
    ready = set(staging.area.names())
    assert {(item.guid, item.generation) for item in staging.staged()} == {
        (name.guid, name.generation) for name in ready
    }
    for name in ready:
        data = staging.area.path(name).read_bytes()
        digest = Digest()
        digest.update(data)
        Manifest.verify(staging.stores.namespace.find_guid(name.guid).facts.manifest, key).check(digest)
    assert staging.incoming() == []


def failures(staging, token):
    return {type(file.failure) for file in staging.stores.requests.files(token)}


def test_who_finds_no_room_waits_and_goes_on_when_there_is_some(site, wait_for):
    first, second = site.register()
    janitor = site.janitor()
    with site.stager():
        held = site.want("/CN=Alice", first)
        wait_for(lambda: site.is_there(held))
        waiting = site.want("/CN=Bob", second)
        wait_for(lambda: NoSpace in failures(site, waiting))
        janitor.tidy()
        assert site.is_there(held), "what is pinned is not evicted"
        assert FileState.FAILED not in site.states(waiting)
        assert len(site.staged()) * IMAGE < ROOM
        assert len(site.staged()) > len(first), "what fits is ready"
        site.release(held)

        def evicted_and_there():
            janitor.tidy()
            return site.is_there(waiting)

        wait_for(evicted_and_there)
    assert {item.guid for item in site.staged()} > set(second), "no more went than had to"
    check_whole(site)


def test_who_may_not_wait_is_told_that_there_was_no_room(site, wait_for):
    first, second = site.register()
    with site.stager():
        held = site.want("/CN=Alice", first)
        wait_for(lambda: site.is_there(held))
        hurried = site.want("/CN=Bob", second, total_s=5)
        wait_for(lambda: NoSpace in failures(site, hurried))

        def over():
            apply_time(site.stores, datetime.now(UTC))
            return not site.states(hurried) & {FileState.QUEUED, FileState.IN_PROGRESS}

        wait_for(over)
        assert site.is_there(held)
    late = [file for file in site.stores.requests.files(hurried) if file.state is not FileState.PINNED]
    assert late
    assert {type(file.failure) for file in late} == {NoSpace}
    check_whole(site)

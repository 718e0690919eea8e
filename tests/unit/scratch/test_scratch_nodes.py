"""What a stager may rely on, whether its node is a directory here or a machine elsewhere."""

import ctypes
import errno
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.broker.stager import PASSING
from srm_dicom.crypto.siv import Sealer
from srm_dicom.errors import ConfigError, NoSpace, Overloaded, TooLarge
from srm_dicom.scratch import area
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.slot import FileSlot, SlotSettings
from srm_dicom.web.limits import Limits

CONTENT = random.Random(1).randbytes(3_000_000)
SIZES = [0, 1, 262_143, 262_144, 262_145, 3_000_000]


def wait_for(condition, seconds=10.0):
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("size_bytes", SIZES)
def test_what_is_published_is_what_was_written(node, outer, name, put, size_bytes):
    file_id = put(node, CONTENT[:size_bytes])
    assert not outer.ready(), "a file has no name before it is published"
    node.publish([(name(), file_id)])
    assert outer.area.path(name()).read_bytes() == CONTENT[:size_bytes]
    assert outer.incoming() == []


def test_a_group_becomes_ready_together_and_replaces_what_was_there(node, outer, name, put):
    node.publish([(name("a"), put(node, b"old"))])
    names = [name(text) for text in "abcdefgh"]
    node.publish([(one, put(node, str(one).encode())) for one in names])
    assert outer.ready() == set(names)
    assert all(outer.area.path(one).read_bytes() == str(one).encode() for one in names)


def test_a_discarded_file_leaves_nothing(node, outer):
    for size_bytes in SIZES:
        incoming = node.begin()
        incoming.write(CONTENT[:size_bytes])
        incoming.discard()
    wait_for(lambda: outer.incoming() == [])
    assert not outer.ready()


@pytest.mark.parametrize("size_bytes", [1, 3_000_000])
def test_a_full_disk_is_told_when_a_file_is_written(node, outer, full_disk, put, size_bytes):
    with pytest.raises(NoSpace):
        put(node, CONTENT[:size_bytes])
    assert not outer.ready()


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_full_disk_is_told_when_a_group_is_published(node, outer, name, put, monkeypatch, step):
    files = [(name(text), put(node, b"x")) for text in "abc"]
    done = []

    def breaks(true):
        def call(*args):
            done.append(args)
            if len(done) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return true(*args)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(os, step, breaks(getattr(os, step)))
        with pytest.raises(NoSpace):
            node.publish(files)
    assert outer.incoming() == [], "what could not be published is dropped at once"
    assert len(outer.ready()) == (0 if step == "fsync" else 1)
    outer.age()
    outer.area.sweep([], _long_ago())
    assert not outer.ready()


@pytest.mark.parametrize("fails_at", [None, 1, 2])
def test_a_large_group_is_synced_as_a_whole(node, outer, name, put, monkeypatch, fails_at):
    """Before and after it has its names; what the disk has lost is told as with a few files."""
    files = [(name(text), put(node, b"x")) for text in "abcdefg"]
    true, done = area._syncfs, []
    if true is None:
        pytest.skip("this kernel does not tell what syncfs has lost")

    def syncfs(descriptor):
        done.append(len(outer.ready()))
        if len(done) == fails_at:
            ctypes.set_errno(errno.ENOSPC)
            return -1
        return true(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(area, "_syncfs", syncfs)
        with pytest.raises(NoSpace) if fails_at else nullcontext():
            node.publish(files)
    assert done == [0, 7][:fails_at]
    assert outer.incoming() == []


def test_a_file_that_is_gone_fails_its_group_and_may_be_tried_again(node, outer, name, put):
    file_id = put(node, b"x")
    with pytest.raises(Overloaded):
        node.publish([(name("a"), file_id), (name("b"), "0" * 32)])
    assert not outer.ready()


def test_a_slot_seals_the_same_bytes_into_any_node(node, outer, name, tmp_path):
    public_key = X25519PrivateKey.from_private_bytes(b"k" * 32).public_key().public_bytes_raw()
    outcomes = []
    for scratch in (node, ScratchArea(tmp_path / "other")):
        sealer = Sealer(b"s" * 32, name().guid, public_key)
        settings = SlotSettings(tmp_path, spool_above_bytes=1000)
        slot = FileSlot(
            name().guid, sealer, scratch.begin, settings, lambda _, filled: outcomes.append(filled)
        )
        slot.write(CONTENT)
        slot.commit()
        scratch.publish([(name(), outcomes[-1].incoming.id)])
    sealed = outer.area.path(name()).read_bytes()
    assert sealed == ScratchArea(tmp_path / "other").path(name()).read_bytes()
    assert len(sealed) == outcomes[0].size_bytes == outcomes[1].size_bytes
    assert outcomes[0].blake3 == outcomes[1].blake3
    assert CONTENT[:32] not in sealed


def test_many_files_at_once(node, outer, name, put):
    names = [name(str(number)) for number in range(60)]
    with ThreadPoolExecutor(12) as pool:
        ids = list(pool.map(lambda one: put(node, str(one).encode() * 10_000), names))
    node.publish(list(zip(names, ids, strict=True)))
    assert all(outer.area.path(one).read_bytes() == str(one).encode() * 10_000 for one in names)


# --- over the network only -----------------------------------------------------------------------


def test_a_cut_connection_leaves_nothing(outer):
    node = outer.remote()
    incoming = node.begin()
    incoming.write(CONTENT)
    wait_for(lambda: len(outer.incoming()) == 1)
    incoming.discard()
    wait_for(lambda: outer.incoming() == [])


def test_a_killed_stager_leaves_nothing(outer):
    stager = outer.stager
    script = f"""
        import os, pathlib, signal
        from srm_dicom.client.scratch import RemoteScratch
        from srm_dicom.identity.credential import Credential
        paths = map(pathlib.Path, {[str(stager.certificate), str(stager.key), str(stager.trust)]!r})
        incoming = RemoteScratch({outer.url!r}, Credential(*paths)).begin()
        incoming.write(b"x" * 1_000_000)
        print("written", flush=True)
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"written\n"
    wait_for(lambda: len(outer.incoming()) == 1)
    child.communicate(b"x", timeout=30)
    wait_for(lambda: outer.incoming() == [])


def test_memory_is_bounded(outer, name, put):
    node = outer.remote()
    put(node, b"connected, and trust loaded")
    tracemalloc.start()
    try:
        incoming = node.begin()
        for _ in range(1000):
            incoming.write(CONTENT[:65_536])
        incoming.finish()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    node.publish([(name(), incoming.id)])
    assert outer.area.has(name(), 65_536_000)
    assert peak_bytes < 6_000_000, "both sides together, for a file ten times as large"


def test_a_node_that_is_down_may_come_back(outer, name, put):
    node = outer.remote(timeout_s=5.0)
    node.publish([(name("a"), put(node, b"before"))])
    outer.stop()
    with pytest.raises(Overloaded):
        put(node, CONTENT)
    with pytest.raises(Overloaded):
        node.publish([(name("b"), "0" * 32)])
    outer.start()
    node.publish([(name("b"), put(node, b"after"))])
    assert outer.ready() == {name("a"), name("b")}


def test_a_node_that_stops_in_the_middle_of_a_file(outer):
    incoming = outer.remote(timeout_s=5.0).begin()
    incoming.write(CONTENT)
    outer.stop()

    def go_on():
        incoming.write(CONTENT)
        incoming.finish()

    with pytest.raises(Overloaded):
        go_on()
    incoming.discard()
    wait_for(lambda: outer.incoming() == [])


def test_a_file_beyond_the_nodes_bound_is_refused_for_good(outer, put):
    outer.stop()
    outer.start(Limits(body_bytes=1_000_000))
    with pytest.raises(TooLarge):
        put(outer.remote(), CONTENT)
    wait_for(lambda: outer.incoming() == [])


def test_connections_are_bounded(outer):
    node = outer.remote(connections=1, timeout_s=0.3)
    first, second = node.begin(), node.begin()
    first.write(CONTENT)
    with pytest.raises(Overloaded):
        second.write(CONTENT)
    second.discard()
    first.finish()
    third = node.begin()
    third.write(CONTENT)
    third.finish()


def test_what_a_node_answers_is_tried_again():
    assert {NoSpace, Overloaded} <= set(PASSING)


def test_another_kind_of_url_is_refused(outer):
    with pytest.raises(ConfigError):
        type(outer.remote())("httpg://localhost:1", outer.stager)


# --- sweeping ------------------------------------------------------------------------------------


def _long_ago():
    return datetime.now(UTC) - timedelta(hours=1)


def test_a_sweep_drops_the_old_and_unknown_only(outer, name, put):
    area = outer.area
    area.publish([(name(text), put(area, b"x")) for text in ("known", "stray")])
    half = area.begin()
    half.write(b"half")
    outer.age()
    area.publish([(name("young"), put(area, b"x"))])
    writing = put(area, b"being written now")
    assert area.sweep([name("known")], _long_ago()) == 2
    assert outer.ready() == {name("known"), name("young")}
    assert [path.name for path in outer.incoming()] == [writing]


def test_a_sweep_beside_a_busy_stager_takes_nothing_from_it(outer, name, put):
    area, stop = outer.area, threading.Event()

    def sweep():
        while not stop.is_set():
            area.sweep([], _long_ago())

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        names = [name(str(number)) for number in range(100)]
        for one in names:
            area.publish([(one, put(area, b"x"))])
    finally:
        stop.set()
        sweeper.join()
    assert outer.ready() == set(names)

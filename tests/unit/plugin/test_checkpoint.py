"""An answer is for who waits for it: pynetdicom's reactor does not take it on its way into a pause."""

import threading
import time

import pytest
from pynetdicom import evt

from srm_dicom.testing.pacs import PacsSimulator
from srm_plugin_dicom.checkpoint import Checkpoint, Entity


class Reactor(threading.Thread):
    """Passes a checkpoint again and again, slowly, and takes what lies there."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.checkpoint: threading.Event = threading.Event()
        self.checkpoint.set()
        self.lies_there, self.over = False, False
        self.taken = 0

    def run(self) -> None:
        while not self.over:
            self.checkpoint.wait()
            time.sleep(0.02)
            self.taken += self.lies_there


def taken(reactor: Reactor) -> int:
    """Return how often something was taken that came after a pause had begun."""
    reactor.start()
    for _ in range(5):
        time.sleep(0.005)
        reactor.checkpoint.clear()
        reactor.lies_there = True
        time.sleep(0.05)
        reactor.lies_there = False
        reactor.checkpoint.set()
    reactor.over = True
    reactor.join(5)
    return reactor.taken


def test_nobody_is_on_the_way_past_it() -> None:
    reactor = Reactor()
    reactor.checkpoint = Checkpoint(reactor)
    assert taken(reactor) == 0
    assert taken(Reactor()) > 0, "the test does not show what the checkpoint is for"


def test_a_thread_that_is_over_is_not_waited_for() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    began_s = time.monotonic()
    Checkpoint(thread).clear()
    assert time.monotonic() - began_s < 0.9


@pytest.mark.parametrize("times", [30])
def test_associations_have_it_and_end(times: int) -> None:
    with PacsSimulator() as pacs:
        entity = Entity(ae_title="MDM1")
        entity.add_requested_context("1.2.840.10008.1.1")
        ended = threading.Event()
        association = entity.associate(
            pacs.host,
            pacs.port,
            ae_title=pacs.ae_title,
            evt_handlers=[(evt.EVT_CONN_CLOSE, lambda _: ended.set())],
        )
        assert isinstance(association._reactor_checkpoint, Checkpoint)
        assert [association.send_c_echo().Status for _ in range(times)] == [0] * times
        association.release()
        assert ended.wait(5)
        association.join(5)
        assert not association.is_alive()

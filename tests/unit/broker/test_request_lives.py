"""Random lives of requests: whatever two users do, in whatever order, a model in memory agrees.

The model knows names, files and the states of files of requests, and nothing of rows, zones or bytes. After
every step each request is looked at as its owner and as the other user; at the end the disk holds the
contents that have names, and no others. ``MDM_LIVES_RUNS`` says how many runs of `STEPS` there are.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from srm_dicom.broker.puts import WRITING
from srm_dicom.broker.states import Event, after, before
from srm_dicom.broker.views import FileState, RequestKind, Wish
from srm_dicom.errors import MdmError, NotAuthorised
from srm_dicom.ids import SitePath, parse_path

RUNS = int(os.environ.get("MDM_LIVES_RUNS", "8"))
STEPS = 30
TOP = "/vo/data"
NAMES = ("a", "b", "d/c")
USERS = ("Alice", "Bob")

user = st.sampled_from(USERS)
name = st.sampled_from(NAMES)
kind = st.sampled_from((RequestKind.GET, RequestKind.BRING_ONLINE))
names = st.lists(name, min_size=1, max_size=3, unique=True)
number = st.integers(0, 99)
pin = st.sampled_from((50, 500))
time = st.sampled_from((40, 400))


@dataclass
class File:
    """What is stored under a name."""

    content: bytes
    staged: bool = True


@dataclass
class Asked:
    """One file of a request; `file` is what a get waits for."""

    name: str
    state: FileState
    deadline: datetime
    pin_s: int = 0
    file: File | None = None
    until: datetime | None = None
    content: bytes | None = None

    def hear(self, event: Event) -> bool:
        """Let an event happen if it can."""
        if self.state not in before(event):
            return False
        self.state = after(self.state, event)
        return True


@dataclass
class Requested:
    """A request as its owner believes it to be."""

    view: Any
    owner: str
    files: list[Asked] = field(default_factory=list)


class Lives(RuleBasedStateMachine):
    """The site and the model beside each other; `make_site` is given by the test."""

    make_site: Any

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.site = self.make_site(Path(self.directory.name))
        self.broker = self.site.broker
        self.broker.names.make_directory(self.site.who("Alice"), path("d"), "srmMkdir")
        self.stored: dict[str, File] = {}
        self.requests: list[Requested] = []

    def teardown(self) -> None:
        try:
            self.site.work()
            contents = sorted(file.content for file in self.stored.values())
            assert sorted(self.site.on_disk().values()) == contents
        finally:
            self.site.stores.database.close()
            self.directory.cleanup()

    # --- what users do ---------------------------------------------------------------------------

    @rule(
        by=user,
        wanted=names,
        kind=kind,
        s=time,
        p=pin,
    )
    def get(self, by: str, wanted: list[str], kind: RequestKind, s: int, p: int) -> None:
        wish = Wish(kind, tuple(map(self.site.surl, wanted)), total_s=s, pin_s=p)
        made = Requested(self.broker.submit(self.site.who(by), wish), by)
        for one in wanted:
            file = self.stored.get(one)
            state = FileState.QUEUED if file else FileState.FAILED
            asked = Asked(one, state, self.now + timedelta(seconds=s), p, file)
            made.files.append(asked)
            if file and file.staged:
                self.publish(asked)
        self.requests.append(made)

    @rule(by=user, wanted=names, overwrite=st.booleans(), s=time)
    def put(self, by: str, wanted: list[str], overwrite: bool, s: int) -> None:
        made = Requested(self.site.put(*wanted, by=by, overwrite=overwrite, total_s=s), by)
        for one in wanted:
            free = self.written(one) is None and (overwrite or one not in self.stored)
            state = FileState.SPACE_AVAILABLE if free else FileState.FAILED
            made.files.append(Asked(one, state, self.now + timedelta(seconds=s + 15)))
        self.requests.append(made)

    @rule(n=number, index=st.integers(0, 2), content=st.binary(min_size=2, max_size=9))
    def upload(self, n: int, index: int, content: bytes) -> None:
        made = self.one(n)
        if made is None or index >= len(made.files) or not made.view.files[index].turl:
            return
        asked = made.files[index]
        if asked.state is FileState.SPACE_AVAILABLE:
            self.site.upload(made.view, content, by=made.owner, index=index)
            asked.content = content
            asked.deadline = max(asked.deadline, self.now + WRITING)

    @rule(n=number)
    def put_done(self, n: int) -> None:
        made = self.one(n)
        if made is None or made.view.kind is not RequestKind.PUT:
            return
        complete = [f for f in made.files if f.state is FileState.SPACE_AVAILABLE and f.content is not None]
        views = self.broker.puts.done(self.site.who(made.owner), made.view.token, None)
        assert [view.failure is None for view in views] == [file in complete for file in made.files]
        for file in complete:
            file.state = FileState.STORED
            self.lose(file.name)
            self.stored[file.name] = File(file.content or b"")

    @rule(n=number)
    def release(self, n: int) -> None:
        made = self.one(n)
        if made is not None and made.view.kind is not RequestKind.PUT:
            self.broker.release(self.site.who(made.owner), made.view.token, None)
            self.tell(made.files, Event.RELEASE)

    @rule(by=user, wanted=names)
    def release_names(self, by: str, wanted: list[str]) -> None:
        views = self.broker.release(self.site.who(by), None, [self.site.surl(one) for one in wanted])
        mine = [file for made in self.requests if made.owner == by for file in made.files]
        done = {file.name for file in mine if file.name in wanted and file.hear(Event.RELEASE)}
        assert [view.failure is None for view in views] == [one in done for one in wanted]

    @rule(n=number)
    def abort(self, n: int) -> None:
        if made := self.one(n):
            self.broker.abort(self.site.who(made.owner), made.view.token)
            self.tell(made.files, Event.ABORT)

    @rule(n=number, wanted=name)
    def abort_file(self, n: int, wanted: str) -> None:
        if made := self.one(n):
            self.broker.abort_files(self.site.who(made.owner), made.view.token, [self.site.surl(wanted)])
            self.tell([file for file in made.files if file.name == wanted], Event.ABORT)

    @rule(n=number, event=st.sampled_from((Event.SUSPEND, Event.RESUME)))
    def suspend_or_resume(self, n: int, event: Event) -> None:
        made = self.one(n)
        if made is None:
            return
        act = self.broker.suspend if event is Event.SUSPEND else self.broker.resume
        assert succeeds(act, self.site.who(made.owner), made.view.token) == self.tell(made.files, event)
        for file in made.files:
            if file.state is FileState.QUEUED and file.file is not None and file.file.staged:
                self.publish(file)

    @rule(n=number, p=pin)
    def extend(self, n: int, p: int) -> None:
        made = self.one(n)
        if made is None:
            return
        surls = [self.site.surl(file.name) for file in made.files]
        self.broker.extend(self.site.who(made.owner), made.view.token, surls, p)
        until = self.now + timedelta(seconds=p)
        for file in made.files:
            file.pin_s = max(file.pin_s, p)
            file.until = max(file.until, until) if file.until else None
            if file.state is FileState.SPACE_AVAILABLE:
                file.deadline = max(file.deadline, until)

    @rule(by=user, gone=name)
    def remove(self, by: str, gone: str) -> None:
        [failure] = self.broker.names.remove_files(self.site.who(by), [path(gone)], "srmRm")
        written = self.written(gone)
        assert (failure is None) == (written is not None or gone in self.stored)
        if written is not None:
            written.hear(Event.ABORT)
        self.lose(gone)

    @rule(by=user, source=name, to=name)
    def move(self, by: str, source: str, to: str) -> None:
        free = to not in self.stored and self.written(to) is None
        moved = succeeds(self.broker.names.rename, self.site.who(by), path(source), path(to), "srmMv")
        assert moved == (source in self.stored and (free or source == to))
        if moved:
            self.stored[to] = self.stored.pop(source)

    # --- what happens by itself --------------------------------------------------------------------

    @rule(seconds=st.sampled_from((1, 30, 60, 600)))
    def time_passes(self, seconds: int) -> None:
        self.site.clock.advance(seconds)

    @rule()
    def stage(self) -> None:
        self.site.stage()
        for file in self.all_files():
            if file.state is FileState.QUEUED and file.file is not None:
                file.file.staged = True
                self.publish(file)

    @rule()
    def evict(self) -> None:
        self.site.evict()
        held = [file.file for file in self.all_files() if file.state is FileState.PINNED]
        for file in self.stored.values():
            file.staged = any(file is one for one in held) and file.staged

    # --- what is always true -------------------------------------------------------------------------

    @invariant()
    def requests_are_as_their_owners_believe(self) -> None:
        self.let_time_pass()
        for made in self.requests:
            seen = self.broker.status(self.site.who(made.owner), made.view.token, None)
            assert seen.states == tuple(file.state for file in made.files)
            for told, file in zip(seen.files, made.files, strict=True):
                if file.state is FileState.PINNED and file.until is not None:
                    assert abs(told.pin_left_s - (file.until - self.now).total_seconds()) < 1

    @invariant()
    def requests_are_nobody_elses(self) -> None:
        for made in self.requests[-1:]:
            (other,) = set(USERS) - {made.owner}
            with pytest.raises(NotAuthorised):
                self.broker.abort(self.site.who(other), made.view.token)

    @invariant()
    def names_are_those_that_were_stored_or_are_being_written(self) -> None:
        found = self.site.stores.namespace.find_many([path(one) for one in NAMES])
        assert set(found) == {path(one) for one in self.stored}
        written = self.site.stores.uploads.of_paths([path(one) for one in NAMES])
        assert set(written) == {path(one) for one in NAMES if self.written(one)}

    # --- the model ---------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        return self.site.clock.now()  # type: ignore[no-any-return]

    def one(self, n: int) -> Requested | None:
        return self.requests[n % len(self.requests)] if self.requests else None

    def all_files(self) -> list[Asked]:
        return [file for made in self.requests for file in made.files]

    def written(self, wanted: str) -> Asked | None:
        """Return the file of a put that has a name now."""
        writing = (f for f in self.all_files() if f.name == wanted and f.state is FileState.SPACE_AVAILABLE)
        return next(writing, None)

    def publish(self, asked: Asked) -> None:
        asked.hear(Event.PUBLISH)
        asked.until = self.now + timedelta(seconds=asked.pin_s)

    def lose(self, gone: str) -> None:
        """A file has lost its name: whoever asked for it hears that."""
        lost = self.stored.pop(gone, None)
        if lost is not None:
            self.tell([file for file in self.all_files() if file.file is lost], Event.ABORT)

    def tell(self, files: list[Asked], event: Event) -> bool:
        return sum(file.hear(event) for file in files) > 0

    def let_time_pass(self) -> None:
        for file in self.all_files():
            if file.deadline <= self.now:
                _ = file.hear(Event.FAIL) or file.hear(Event.TIME_OUT)
            if file.until is not None and file.until <= self.now:
                file.hear(Event.EXPIRE)


def path(text: str) -> SitePath:
    return parse_path(f"{TOP}/{text}")


def succeeds(act: Any, *arguments: Any) -> bool:
    try:
        act(*arguments)
    except MdmError:
        return False
    return True


def test_a_model_in_memory_agrees(make_site: Any) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        type("Given", (Lives,), {"make_site": make_site}),
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

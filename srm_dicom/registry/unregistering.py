"""The end of a registered file: the catalogues forget it, and its key is destroyed with the last that has it.

The name is gone when this begins, and the right to it; what follows is walked again until all of it has been
done. Only what the registrar wrote is undone: the archive that has the object hears nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from itertools import groupby

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.names import forget
from srm_dicom.clock import Clock
from srm_dicom.errors import MdmError, Overloaded
from srm_dicom.ids import Guid
from srm_dicom.registry.destruction import Destroyer
from srm_dicom.registry.journal import Arrival, Journal
from srm_dicom.registry.policy import Places
from srm_dicom.registry.saga import Catalogues
from srm_dicom.store.namespace import Entry
from srm_dicom.store.stores import Stores
from srm_dicom.store.unregistrations import Unregistration
from srm_dicom.telemetry import logger

AT_ONCE = 500
PAUSE_S = 30.0

log = logger("registry")


class Unregistering:
    """What `Registrar.step` does before anything else, so that what is gone goes before it comes again."""

    def __init__(
        self,
        places: Places,
        stores: Stores,
        journal: Journal,
        catalogues: Catalogues,
        destroyer: Destroyer,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._places = places
        self._stores = stores
        self._journal = journal
        self._catalogues = catalogues
        self._destroyer = destroyer
        self._audit = audit
        self._clock = clock

    def step(self) -> None:
        """Have what is due forgotten; where a catalogue does not answer, again after a while."""
        due = self._stores.unregistrations.due(self._clock.now(), AT_ONCE)
        by_project = sorted(due, key=lambda each: each.release.project)
        for project, chosen in groupby(by_project, key=lambda each: each.release.project):
            files = list(chosen)
            try:
                self._forget(project, files)
            except MdmError as error:
                log.warning("unregistration_postponed", reason=error.message, count=len(files))
                until = self._clock.now() + timedelta(seconds=PAUSE_S)
                for file in files:
                    self._stores.unregistrations.put_off(file.guid, until)

    def remove(self, files: Sequence[Entry]) -> list[Entry]:
        """Take files their names, and have the catalogues forget them; returns them as they were at last."""
        guids = {file.guid for file in files}
        with self._stores.database.transaction():
            there = self._stores.namespace.find_many([file.path for file in files])
            removed = [entry for entry in there.values() if entry.guid in guids]
            self._take_names(removed)
            self._stores.unregistrations.add(removed, self._clock.now())
        return removed

    def wait_for(self, arrivals: Sequence[Arrival]) -> None:
        """Refuse to register what the catalogues have still to forget.

        Another process may be at that just now, and would have them forget the new file; and they may know
        the old one under a key that it has no longer.

        Raises:
            Overloaded: it is not forgotten yet.
        """
        if self._stores.unregistrations.waiting([each.found.guid for each in arrivals]):
            raise Overloaded("the catalogues have still to forget files of the group")

    def catch_up(self, arrivals: Sequence[Arrival]) -> None:
        """Have files forgotten that lost their names, or were erased, while the saga was under way with them.

        It may have written of them to a catalogue after that had forgotten them, or have broken off before it
        had. The journal has them until they are registered, but for those that were erased and what was told
        before a file was removed.
        """
        guids = [each.found.guid for each in arrivals]
        self._drop_overtaken(guids)
        waiting, named = self._journal.known(guids), self._named(arrivals)
        lost = [entry for guid, entry in named.items() if guid not in waiting]
        gone = [guid for guid in guids if guid not in named]
        if not (lost or gone):
            return
        with self._stores.database.transaction():
            self._take_names(lost)
            self._stores.unregistrations.again(lost)
            self._stores.unregistrations.reopen(gone)
        if lost:
            log.info("removed_while_registered", count=len(lost))

    def _named(self, arrivals: Sequence[Arrival]) -> dict[Guid, Entry]:
        """Return the files that have the names under which these arrivals are registered."""
        named = self._stores.namespace.find_guids([each.found.guid for each in arrivals])
        paths = {each.found.guid: self._places.path(each.release, each.found.path) for each in arrivals}
        return {guid: entry for guid, entry in named.items() if entry.path == paths[guid]}

    def _take_names(self, files: Sequence[Entry]) -> None:
        for file in files:
            self._stores.namespace.remove(file.path)
        forget(self._stores, files)

    def _forget(self, project: str, files: Sequence[Unregistration]) -> None:
        """Undo the registration of files of one project, in the order in which it was made, backwards."""
        again = self._stores.namespace.find_guids([file.guid for file in files])
        gone = [file for file in files if file.guid not in again]
        guids = [file.guid for file in gone]
        self._drop_overtaken(guids)  # before its key is looked at: nothing of it waits for that any more
        if guids:
            collection = self._places.collection(project)
            for server in self._catalogues.metadata:
                server.remove(collection, guids)
            self._catalogues.files.unregister([f"guid:{guid}" for guid in guids])
            self._audit.record(
                Event(
                    action=Action.ADMINISTRATIVE,
                    outcome=Outcome.ALLOWED,
                    operation="unregister",
                    project=project,
                    objects=tuple(guids),
                )
            )
        for key_id, public_key in {file.key_id: file.public_key for file in gone if file.key_id}.items():
            self.retire(key_id, public_key)
        for file in files:
            self._stores.unregistrations.done(file)
        log.info("unregistered", count=len(gone))

    def _drop_overtaken(self, guids: Sequence[Guid]) -> None:
        """Have the journal forget what it was told of files before they were removed."""
        self._journal.drop_older(self._stores.unregistrations.removed_ms(guids))

    def retire(self, key_id: str, public_key: bytes) -> None:
        """Order the end of a key that no file has any more; its group gets another one if it comes again.

        The journal forgets the key first. For one that it has forgotten already the order is given again:
        that may have broken off in between.
        """
        if self._journal.retire_key(key_id, partial(self._stores.namespace.has_key, key_id)):
            self._destroyer.order({key_id: public_key})

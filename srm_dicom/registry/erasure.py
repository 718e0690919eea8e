"""Erasing a patient: which keys, names and arrivals are a patient's, and the end of all of them.

Nothing here knows who a patient is. The plugins of the inner zone derive the patient's directory in each
release from the identity that they are given, and forget it; everything else follows from the directory.
Names go first, and with them the right to read, then what is staged; what the catalogues know and the keys
go as they do after any removal, and the registrar goes on with it where a server does not answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.ids import Guid, SitePath
from srm_dicom.plugin.api import Patient
from srm_dicom.plugin.host import PluginHost
from srm_dicom.registry.destruction import Destroyer, Order
from srm_dicom.registry.journal import Arrival, Group, Journal
from srm_dicom.registry.policy import Places
from srm_dicom.registry.unregistering import Unregistering
from srm_dicom.rights.project import Release
from srm_dicom.store.namespace import Entry
from srm_dicom.store.stores import Stores

AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Belongings:
    """What is a patient's.

    Attributes:
        directories: by release, as far as there are any.
        files: registered ones.
        arrivals: that are still to be registered.
        staged: how many of the files are in scratch.
    """

    directories: Mapping[Release, Sequence[SitePath]]
    files: Sequence[Entry]
    arrivals: Sequence[Arrival]
    staged: int

    @property
    def keys(self) -> dict[str, list[Entry]]:
        """The sealed files, by the id of their key."""
        keys: dict[str, list[Entry]] = {}
        for file in self.files:
            if file.key_id:
                keys.setdefault(file.key_id, []).append(file)
        return keys


@dataclass(frozen=True, slots=True)
class Erased:
    """How far it got.

    Attributes:
        arrivals: dropped before they were registered.
        files: whose names are gone, and their copies in scratch.
        waiting: of these, how many a catalogue has still to forget.
        orders: the keys that are destroyed or shall be, as the key servers have confirmed.
        kept: keys that stay, because files of others in the same series have them too.
        left: files and arrivals that have come meanwhile.
    """

    arrivals: int
    files: int
    waiting: int
    orders: Sequence[Order]
    kept: Sequence[str]
    left: int

    @property
    def done(self) -> bool:
        """Tell whether nothing is left of the patient that could be opened or found."""
        return not (self.waiting or self.kept or self.left) and all(order.done for order in self.orders)


class Erasure:
    """Finds what is a patient's, and undoes it."""

    def __init__(
        self,
        places: Places,
        stores: Stores,
        plugins: Mapping[str, PluginHost],
        journal: Journal,
        unregistering: Unregistering,
        destroyer: Destroyer,
        audit: AuditLog,
    ) -> None:
        self._places = places
        self._stores = stores
        self._plugins = plugins
        self._journal = journal
        self._unregistering = unregistering
        self._destroyer = destroyer
        self._audit = audit

    def find(self, patients: Sequence[Patient]) -> Belongings:
        """Return what is some patients', in every release that was ever registered or waits to be."""
        waiting = list(self._journal.waiting())
        releases = {arrival.release: None for arrival in waiting}
        for entry in self._stores.namespace.children(self._places.root()):
            if entry.release is not None:
                releases[entry.release] = None
        paths = {
            (name, release): set(self._paths(host, patients, release))
            for name, host in self._plugins.items()
            for release in releases
        }
        arrivals = [
            arrival
            for arrival in waiting
            if any(
                arrival.found.path[: len(path)] == path
                for path in paths.get((arrival.plugin, arrival.release), ())
            )
        ]
        directories: dict[Release, list[SitePath]] = {}
        for (_, release), some in paths.items():
            there = self._stores.namespace.find_many([self._places.path(release, path) for path in some])
            if there:
                directories.setdefault(release, []).extend(there)
        files = [
            entry
            for some in directories.values()
            for directory in some
            for entry in self._below(directory)
            if not entry.is_directory
        ]
        staged = self._stores.staged.find([file.guid for file in files if file.guid])
        return Belongings(directories, files, arrivals, len(staged))

    def erase(self, patients: Sequence[Patient], found: Belongings, by: str) -> Erased:
        """Undo what was found; whoever calls it has seen that it is meant.

        Args:
            patients: whose it is.
            found: by `find`.
            by: who wants it, for the audit.
        """
        guids = [file.guid for file in found.files if file.guid]
        self._note(by, [*guids, *(arrival.found.guid for arrival in found.arrivals)])
        keys = _halves(found.files) | self._drop(found.arrivals)
        for start in range(0, len(found.files), AT_ONCE):
            keys |= _halves(self._unregistering.remove(found.files[start : start + AT_ONCE]))
        for directories in found.directories.values():
            for directory in directories:
                self._remove_empty(directory)
        for _ in range(0, len(guids), AT_ONCE):
            self._unregistering.step()
        ordered = {order.key_id for order in self._destroyer.orders(list(keys))}
        for key_id in keys.keys() - ordered:  # a key does not wait for a catalogue
            self._unregistering.retire(key_id, keys[key_id])
        self._destroyer.step()
        orders = list(self._destroyer.orders(list(keys)))
        again = self.find(patients)
        return Erased(
            arrivals=len(found.arrivals),
            files=len(found.files),
            waiting=self._stores.unregistrations.waiting(guids),
            orders=orders,
            kept=sorted(set(keys) - {order.key_id for order in orders}),
            left=len(again.files) + len(again.arrivals),
        )

    @staticmethod
    def _paths(host: PluginHost, patients: Sequence[Patient], release: Release) -> Iterator[tuple[str, ...]]:
        for patient in patients:
            path = host.patient_path(patient, release)
            if path:
                yield path

    def _below(self, directory: SitePath) -> Iterator[Entry]:
        for entry in self._stores.namespace.children(directory):
            yield entry
            if entry.is_directory:
                yield from self._below(entry.path)

    def _note(self, by: str, guids: Sequence[Guid]) -> None:
        """Write down what is about to go, before it does."""
        for start in range(0, len(guids), AT_ONCE):
            self._audit.record(
                Event(
                    action=Action.ADMINISTRATIVE,
                    outcome=Outcome.ALLOWED,
                    dn=by,
                    operation="erase",
                    objects=tuple(guids[start : start + AT_ONCE]),
                )
            )

    def _drop(self, arrivals: Sequence[Arrival]) -> dict[str, bytes]:
        """Forget arrivals; returns the keys that were made for them, with their public halves."""
        groups = {Group(one.plugin, one.release, one.found.group) for one in arrivals}
        made = [key for key in map(self._journal.group_key, groups) if key is not None]
        self._journal.drop([arrival.found.guid for arrival in arrivals])
        return {key.key_id: key.public_key for key in made}

    def _remove_empty(self, directory: SitePath) -> None:
        """Remove a patient's directories, as far as nothing has come into them."""
        with self._stores.database.transaction():
            below = [entry.path for entry in self._below(directory) if entry.is_directory]
            for path in (*sorted(below, reverse=True), directory):
                if not self._stores.namespace.children(path, count=1):
                    self._stores.namespace.remove(path)


def _halves(files: Sequence[Entry]) -> dict[str, bytes]:
    """Return the public halves of the keys that files are sealed to, by key id."""
    return {file.key_id: file.public_key for file in files if file.key_id}

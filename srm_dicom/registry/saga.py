"""The saga of a group: key, then names, then metadata; each step may be walked again.

The key comes first because nothing may be sealed without one, metadata last because whatever can be
found must work. A step that fails leaves the arrivals in the journal; walking the whole saga again
changes nothing that was already right.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.client.files import FileCatalogueClient, FileRecord
from srm_dicom.client.keys import KeyServers
from srm_dicom.client.metadata import AttributeSpec, MetadataClient, MetadataEntry
from srm_dicom.clock import Clock, coarse
from srm_dicom.crypto.keyrecord import issue, key_id_of
from srm_dicom.errors import AlreadyExists, ConfigError, InternalError, Overloaded
from srm_dicom.ids import Guid, parent
from srm_dicom.registry.journal import Arrival, Group, GroupKey, Journal
from srm_dicom.registry.policy import Places, shared_acl
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.project import Project
from srm_dicom.store.namespace import Entry, Kind, Namespace
from srm_dicom.telemetry import logger

log = logger("registrar")


@dataclass(frozen=True, slots=True)
class Catalogues:
    """The catalogues that a registration goes to, over their wires."""

    keys: KeyServers
    files: FileCatalogueClient
    metadata: Sequence[MetadataClient]
    threshold: int


class Saga:
    """Registers groups of arrivals."""

    def __init__(
        self,
        places: Places,
        projects: Mapping[str, Project],
        journal: Journal,
        namespace: Namespace,
        catalogues: Catalogues,
        signing_key: Ed25519PrivateKey,
        clock: Clock,
        *,
        generation: Callable[[Guid], int] = lambda _guid: 1,
    ) -> None:
        """Take the parts; `generation` tells which one of a file is registered now."""
        self._places = places
        self._projects = projects
        self._journal = journal
        self._namespace = namespace
        self._catalogues = catalogues
        self._signing_key = signing_key
        self._clock = clock
        self._generation = generation

    def register(self, group: Group, arrivals: Sequence[Arrival], *, sealed: bool) -> list[Entry]:
        """Walk the saga for files of one group; returns those that have no other name, as they are now.

        Raises:
            KeyServerUnavailable, CatalogueUnavailable: a catalogue did not answer; walk again later.
            ConfigError: the project is not configured, or has ended.
            Overloaded: the key was undone meanwhile; walk again later.
        """
        project = self._project(group)
        arrivals = self._own(arrivals)
        if not arrivals:
            return []
        key = self._key(group, project) if sealed else None
        entries = [self._entry(arrival, key, project) for arrival in arrivals]
        self._name(group, project, entries)
        named = self._namespace.find_guids([_guid(entry) for entry in entries])
        entries = [named.get(_guid(entry), entry) for entry in entries]  # what was there has its own key
        self._catalogue(entries)
        self._describe(project, entries, arrivals)
        return entries

    def has_ended(self, group: Group) -> bool:
        """Tell whether the project that a group is for grants nothing any more."""
        project = self._projects.get(group.release.project)
        return project is not None and not project.valid(self._clock.now())

    def _own(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Leave out what has another name: an archive merges patients, and sends their objects again.

        A file keeps the name under which copies of it are known. To give it another one is the work of who
        removes it and registers it anew. So is a name that another file has, as of another profile.
        """
        paths = {each.found.guid: self._places.path(each.release, each.found.path) for each in arrivals}
        known = self._namespace.find_guids(list(paths))
        there = self._namespace.find_many(list(paths.values()))
        foreign = {
            guid
            for guid, path in paths.items()
            if (guid in known and known[guid].path != path) or (path in there and there[path].guid != guid)
        }
        if foreign:
            log.warning("known_by_another_name", count=len(foreign))
        return [each for each in arrivals if each.found.guid not in foreign]

    # --- key -------------------------------------------------------------------------------------

    def _project(self, group: Group) -> Project:
        project = self._projects.get(group.release.project)
        if project is None or not project.valid(self._clock.now()):
            raise ConfigError("the project is not configured, or has ended")
        return project

    def _key(self, group: Group, project: Project) -> GroupKey:
        """Return the group's key, made now if there is none; half a key is undone first."""
        known = self._journal.group_key(group)
        if known is not None and known.confirmed:
            return known
        if known is not None:
            self._catalogues.keys.remove(known.key_id)
            self._journal.drop_key(group)
        private = X25519PrivateKey.generate()
        public_key = private.public_key().public_bytes_raw()
        key_id = key_id_of(public_key)
        self._journal.intend_key(group, key_id, public_key)
        records = issue(
            private.private_bytes_raw(),
            k=self._catalogues.threshold,
            n=len(self._catalogues.keys.endpoints),
            valid_until=project.valid_until,
            signing_key=self._signing_key,
            random_bytes=secrets.token_bytes,
            project=project.id,
        )
        self._catalogues.keys.register(records, project.key_acl())
        if not self._journal.confirm_key(group, key_id):
            self._catalogues.keys.remove(key_id)
            raise Overloaded("another registrar, or an erasure, has undone the key meanwhile")
        return GroupKey(key_id, public_key, confirmed=True)

    # --- names -----------------------------------------------------------------------------------

    def _entry(self, arrival: Arrival, key: GroupKey | None, project: Project) -> Entry:
        return Entry(
            path=self._places.path(arrival.release, arrival.found.path),
            kind=Kind.FILE,
            owner="",
            acl=project.file_acl(),
            shown_at=coarse(self._clock.now()),
            guid=arrival.found.guid,
            release=arrival.release,
            generation=self._generation(arrival.found.guid),
            key_id=key.key_id if key else "",
            public_key=key.public_key if key else b"",
            plugin=arrival.plugin,
            plugin_ref=arrival.found.plugin_ref,
        )

    def _name(self, group: Group, project: Project, entries: Sequence[Entry]) -> None:
        shown_at = coarse(self._clock.now())
        self._share(shared_acl(self._projects.values()), shown_at)
        top = self._places.path(group.release, ())
        for directory in (top, *sorted({parent(entry.path) for entry in entries})):
            self._namespace.make_directory(directory, project.directory_acl(), shown_at, group.release)
        for entry in entries:
            self._add(entry)

    def _share(self, acl: Acl, shown_at: datetime) -> None:
        """Make the directories that all projects share, and let members of each of today's pass."""
        directory = self._places.root()
        self._namespace.make_directory(directory, acl, shown_at)
        while True:
            there = self._namespace.find(directory)
            if there is not None and there.acl != acl:
                self._namespace.set_acl(directory, acl)
            if directory == "/":
                return
            directory = parent(directory)

    def _add(self, entry: Entry) -> None:
        try:
            self._namespace.add_file(entry)
        except AlreadyExists:
            there = self._namespace.find(entry.path)
            if there is None or there.guid != entry.guid:
                raise
            if (there.plugin, there.plugin_ref) != (entry.plugin, entry.plugin_ref):
                self._namespace.relocate(_guid(entry), entry.plugin, entry.plugin_ref)

    def _catalogue(self, entries: Sequence[Entry]) -> None:
        self._catalogues.files.register([self._record(entry) for entry in entries])

    def _record(self, entry: Entry) -> FileRecord:
        return FileRecord(
            lfn=self._places.lfn(entry.path),
            guid=_guid(entry),
            surls=(self._places.surl(entry.path),),
            public_key=entry.public_key.hex(),
            key_id=entry.key_id,
            acl=str(entry.acl),
        )

    # --- metadata --------------------------------------------------------------------------------

    def _describe(self, project: Project, entries: Sequence[Entry], arrivals: Sequence[Arrival]) -> None:
        collection = self._places.collection(project.id)
        rows = [self._described(entry, arrival) for entry, arrival in zip(entries, arrivals, strict=True)]
        for server in self._catalogues.metadata:
            server.set_acl(collection, project.metadata_acl())
            server.set_valid_until(collection, project.valid_until)
            server.register(collection, _schema(arrivals), rows)

    def _described(self, entry: Entry, arrival: Arrival) -> MetadataEntry:
        return MetadataEntry(
            guid=_guid(entry),
            lfn=f"lfn:{self._places.lfn(entry.path)}",
            surl=self._places.surl(entry.path),
            attributes={**arrival.found.attributes, **arrival.found.nominative},
        )


def _guid(entry: Entry) -> Guid:
    if entry.guid is None:
        raise InternalError("a registered file has no GUID")
    return entry.guid


def _schema(arrivals: Sequence[Arrival]) -> list[AttributeSpec]:
    """Return the attributes of all arrivals: what identifies is of the nominative group."""
    specs: dict[str, AttributeSpec] = {}
    for arrival in arrivals:
        for name, value in arrival.found.attributes.items():
            specs[name] = AttributeSpec(name, _type(value))
        for name in arrival.found.nominative:
            specs[name] = AttributeSpec(name, "text", "nominative")
    return [specs[name] for name in sorted(specs)]


def _type(value: str | float) -> str:
    if isinstance(value, int):
        return "int"
    return "float" if isinstance(value, float) else "text"

"""From complete to ready: a group of slots becomes durable and known in one step.

Sync and rename first, while the audit log gets how the files were made, then one transaction that says so:
the namespace learns size, checksum and signed manifest, the doors learn where the file is, and everybody who
waits is pinned. Bytes other than those registered are a new generation, never served as the old file. What
has lost its name since the visit began is not announced. Whatever happens between the two steps leaves files
that nobody was told of; the node's janitor drops them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.broker.states import Event, after, before
from srm_dicom.broker.views import FileState
from srm_dicom.clock import Clock
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.db.news import Topic
from srm_dicom.errors import InternalError
from srm_dicom.ids import Guid
from srm_dicom.scratch.area import StagedName
from srm_dicom.scratch.node import Incoming, ScratchNode
from srm_dicom.scratch.slot import Filled
from srm_dicom.store.namespace import Entry, Facts
from srm_dicom.store.staged import Staged
from srm_dicom.store.stores import Stores


@dataclass(frozen=True, slots=True)
class _Ready:
    filled: Filled
    generation: int
    facts: Facts

    @property
    def name(self) -> StagedName:
        return StagedName(self.filled.guid, self.generation)


class Publisher:
    """Publishes into the scratch area of one node."""

    def __init__(
        self,
        node: str,
        scratch: ScratchNode,
        stores: Stores,
        signing_key: Ed25519PrivateKey,
        clock: Clock,
    ) -> None:
        self._node = node
        self._scratch = scratch
        self._stores = stores
        self._signing_key = signing_key
        self._clock = clock

    def begin(self) -> Incoming:
        """Open a new file in the node's scratch area."""
        return self._scratch.begin()

    def publish(
        self,
        files: Sequence[Filled],
        entries: Mapping[Guid, Entry],
        recording: AbstractContextManager[None],
    ) -> None:
        """Make a group of complete files ready.

        Args:
            files: which.
            entries: their names.
            recording: writes into the audit log how they were made, and is left when that is durable.

        Raises:
            NoSpace, Overloaded, InternalError: the node is full or does not answer, or the audit log cannot
                be written; none of the group is announced.
        """
        ready = [self._ready(filled, entries[filled.guid]) for filled in files]
        with recording:
            self._scratch.publish([(item.name, item.filled.incoming.id) for item in ready])
        with self._stores.database.transaction():
            self._announce(ready, entries)
        self._stores.database.tell(Topic.READY)

    def _ready(self, filled: Filled, entry: Entry) -> _Ready:
        """Return a file as it will be announced; the same bytes have the same manifest, to the letter."""
        facts = self._facts(filled, entry, entry.generation)
        if entry.facts is None or facts == entry.facts:
            return _Ready(filled, entry.generation, entry.facts or facts)
        if Manifest.verify(entry.facts.manifest, self._signing_key.public_key()).blake3 == filled.blake3:
            return _Ready(filled, entry.generation, entry.facts)
        return _Ready(filled, entry.generation + 1, self._facts(filled, entry, entry.generation + 1))

    def _facts(self, filled: Filled, entry: Entry, generation: int) -> Facts:
        if entry.release is None:
            raise InternalError("a file without a release cannot be published")
        manifest = Manifest(
            guid=filled.guid,
            generation=generation,
            size_bytes=filled.size_bytes,
            adler32=filled.adler32,
            blake3=filled.blake3,
            release=entry.release,
            public_key=entry.public_key,
            header_blake3=filled.header_blake3,
        )
        return Facts(filled.size_bytes, filled.adler32, manifest.sign(self._signing_key))

    def _announce(self, ready: Sequence[_Ready], entries: Mapping[Guid, Entry]) -> None:
        ready = self._still(ready, entries)
        news = [item for item in ready if item.facts is not entries[item.filled.guid].facts]
        self._stores.namespace.record_facts(
            [(item.filled.guid, item.facts, item.generation) for item in news]
        )
        now = self._clock.now()
        self._stores.staged.add(
            [Staged(item.filled.guid, self._node, item.generation, item.filled.size_bytes) for item in ready],
            now,
        )
        guids = [item.filled.guid for item in ready]
        self._stores.requests.pin(guids, before(Event.PUBLISH), after(FileState.QUEUED, Event.PUBLISH), now)

    def _still(self, ready: Sequence[_Ready], entries: Mapping[Guid, Entry]) -> list[_Ready]:
        """Return what its name means still: a file that was removed meanwhile may be registered again."""
        then = {item.filled.guid: entries[item.filled.guid].generation for item in ready}
        now = self._stores.namespace.generations(list(then))
        lost = {guid for guid, generation in then.items() if now.get(guid) != generation}
        # A new generation's name may be another's by now.
        left = [one for one in ready if one.filled.guid in lost and one.generation == then[one.filled.guid]]
        self._stores.leftovers.leave(self._node, [str(one.name) for one in left])
        return [item for item in ready if item.filled.guid not in lost]

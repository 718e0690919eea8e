"""A PACS made of pynetdicom, in threads of this process: for tests and the demo.

It holds objects as they are (any transfer syntax), answers C-ECHO, C-STORE, C-FIND at three levels,
C-MOVE and C-GET with lists of UIDs, and forwards what it stores to an AE if told so, as an archive does.
`faults` makes it behave as badly as real ones do.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from pydicom.dataset import Dataset, FileDataset
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import ThreadedAssociationServer

from srm_plugin_dicom.checkpoint import Entity

ECHO = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
_UNIQUE = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
_ABOVE = {"STUDY": (), "SERIES": ("StudyInstanceUID",), "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID")}


@dataclass
class Faults:
    """What it does wrong; set a field at any time.

    Attributes:
        moves_nothing: a C-MOVE sends nothing and reports success (dcmqrscp does, for unknown UIDs).
        lost: SOP instances that are never sent.
        wrong_instance: sends another object of its store in place of each that was asked for.
        instead: for a SOP instance, the object that is sent under its name, whatever that says of itself.
        slow_s: pause before each object of a C-MOVE.
        recall_s: for a study, how long it takes to fetch it from its own archive before it sends of it.
        drops_after: breaks off the association of a C-MOVE or C-GET after so many objects.
        refuses_find, refuses_move: status to answer in place of doing it.
        one_series: status to answer to a C-MOVE of several series in place of doing it; 0 claims success.
        refuses_store: status to answer to a C-STORE in place of holding the object.
        drops_stored: holds the object of a C-STORE and breaks off in place of an answer.
        ignores_cancel: goes on with a C-MOVE or C-GET that is cancelled.
        ignores_keys: matching keys of a C-FIND that it does not look at.
        tells_little: answers C-FIND with the mandatory keys only.
    """

    moves_nothing: bool = False
    lost: frozenset[str] = frozenset()
    wrong_instance: bool = False
    instead: dict[str, FileDataset] = field(default_factory=dict)
    slow_s: float = 0.0
    recall_s: dict[str, float] = field(default_factory=dict)
    drops_after: int | None = None
    refuses_find: int = 0
    refuses_move: int = 0
    one_series: int | None = None
    refuses_store: int = 0
    drops_stored: bool = False
    ignores_cancel: bool = False
    ignores_keys: frozenset[str] = frozenset()
    tells_little: bool = False


class Misnamed(Dataset):
    """An object that goes by the name of another: only its command says so, and not its data set."""

    def __init__(self, dataset: FileDataset, named: Dataset) -> None:
        super().__init__(dataset)
        self.file_meta = dataset.file_meta
        self._named = named

    SOPClassUID = property(lambda self: self._named.SOPClassUID)
    SOPInstanceUID = property(lambda self: self._named.SOPInstanceUID)


class PacsSimulator:
    """A PACS; `start` it, give it objects, point a plugin at `port`.

    Attributes:
        destinations: AE titles that a C-MOVE may name, with their host and port; may be changed.
        forward_to: AE title, host and port that new objects are copied to.
        moves, gets, stores: how many C-MOVEs, C-GETs and C-STOREs were asked of it.
        cancelled: how many C-MOVEs and C-GETs were left half done because that was asked for.
        forwarded: SOP instances whose copy was acknowledged.
    """

    def __init__(self, ae_title: str = "PACS", *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.ae_title = ae_title
        self.host = host
        self.port = port
        self.destinations: dict[str, tuple[str, int]] = {}
        self.forward_to: tuple[str, str, int] | None = None
        self.faults = Faults()
        self.moves = 0
        self.gets = 0
        self.stores = 0
        self.cancelled = 0
        self.forwarded: set[str] = set()
        self._objects: dict[str, Dataset] = {}
        self._told: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()
        self._server: ThreadedAssociationServer | None = None
        self._outbox: queue.Queue[Dataset | None] = queue.Queue()
        self._forwarder: threading.Thread | None = None

    def __enter__(self) -> PacsSimulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Open the port; after `stop` the same one again."""
        entity = Entity(ae_title=self.ae_title)
        entity.maximum_associations = 32
        entity.maximum_pdu_size = 0
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(
                str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES, scu_role=True, scp_role=True
            )
        for model in (ECHO, FIND, MOVE, GET):
            entity.add_supported_context(model)
        server = entity.start_server((self.host, self.port), block=False, evt_handlers=self._handlers())
        if not isinstance(server, ThreadedAssociationServer):
            raise TypeError("pynetdicom gave no server")
        self._server = server
        self.port = server.server_address[1]
        self._forwarder = threading.Thread(target=self._forward, name="pacs-forwarder", daemon=True)
        self._forwarder.start()

    def stop(self) -> None:
        """Close the port: from outside, the PACS is down."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None
        if self._forwarder is not None:
            self._outbox.put(None)
            self._forwarder.join(10)
            self._forwarder = None

    def add(self, datasets: Iterable[FileDataset], *, forward: bool = False) -> None:
        """Hold objects; with `forward`, copy each to `forward_to` as if it had just been stored."""
        for dataset in datasets:
            self._hold(dataset, forward=forward)

    def remove(self, instance: str) -> None:
        """Lose an object."""
        with self._lock:
            del self._objects[instance]

    @property
    def instances(self) -> tuple[str, ...]:
        """SOP instance UIDs of what it holds."""
        with self._lock:
            return tuple(self._objects)

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_C_ECHO, lambda _event: 0x0000),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_C_MOVE, self._on_move),
            (evt.EVT_C_GET, self._on_get),
        ]

    def _hold(self, dataset: Dataset, *, forward: bool) -> None:
        instance = str(dataset.SOPInstanceUID)
        told = {keyword: str(dataset.get(keyword) or "") for keyword in ("PatientID", *_UNIQUE.values())}
        with self._lock:
            self._objects[instance], self._told[instance] = dataset, told
        if forward:
            self._outbox.put(dataset)

    def _on_store(self, event: evt.Event) -> int:
        self.stores += 1
        if self.faults.refuses_store:
            return self.faults.refuses_store
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        self._hold(dataset, forward=self.forward_to is not None)
        if self.faults.drops_stored:
            event.assoc.abort()
        return 0x0000

    def held(self, instance: str) -> Dataset:
        """Return an object that it holds."""
        with self._lock:
            return self._objects[instance]

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        if self.faults.refuses_find:
            yield self.faults.refuses_find, None
            return
        wanted = event.identifier
        level = str(wanted.QueryRetrieveLevel)
        seen = set()
        for dataset in self._matching(wanted):
            key = str(dataset.get(_UNIQUE[level]))
            if event.is_cancelled:
                yield 0xFE00, None
                return
            if key not in seen:
                seen.add(key)
                yield 0xFF00, self._describe(dataset, level, wanted)

    def _matching(self, wanted: Dataset) -> list[Dataset]:
        with self._lock:
            objects = [(each, self._told[instance]) for instance, each in self._objects.items()]
        keys = {
            element.keyword: str(element.value)
            for element in wanted
            if not element.is_empty
            and element.VM == 1
            and element.keyword not in {"QueryRetrieveLevel", "SpecificCharacterSet"}
            and element.keyword not in self.faults.ignores_keys
        }
        return [
            each
            for each, told in objects
            if all(_agrees(told if key in told else each, key, value) for key, value in keys.items())
        ]

    def _describe(self, dataset: Dataset, level: str, wanted: Dataset) -> Dataset:
        answer = Dataset()
        answer.QueryRetrieveLevel = level
        answer.RetrieveAETitle = self.ae_title
        mandatory = {_UNIQUE[level], *_ABOVE[level], "InstanceNumber", "Modality", "PatientID", "StudyDate"}
        for element in wanted:
            if element.keyword in dataset and (element.keyword in mandatory or not self.faults.tells_little):
                answer.add(dataset[element.keyword])
        if "ModalitiesInStudy" in wanted and not self.faults.tells_little:
            answer.ModalitiesInStudy = self._modalities(str(dataset.get("StudyInstanceUID")))
        return answer

    def _modalities(self, study: str) -> list[str]:
        with self._lock:
            members = [each for each in self._objects.values() if each.get("StudyInstanceUID") == study]
        return sorted({str(each.get("Modality")) for each in members})

    def _on_move(self, event: evt.Event) -> Iterator[Any]:
        self.moves += 1
        faults = self.faults
        destination = self.destinations.get(event.move_destination or "")
        if destination is None:
            yield None, None
            return
        several = faults.one_series is not None and event.identifier["SeriesInstanceUID"].VM > 1
        status = faults.one_series if several else faults.refuses_move
        if status:
            yield (*destination, {"contexts": [build_context(ECHO)]})
            yield 1
            yield status, None
            return
        datasets = [] if faults.moves_nothing or several else self._asked_for(event.identifier)
        yield (*destination, {"contexts": _contexts(datasets) or [build_context(ECHO)]})
        yield len(datasets)
        yield from self._send_back(event, datasets)

    def _on_get(self, event: evt.Event) -> Iterator[Any]:
        self.gets += 1
        if self.faults.refuses_move:
            yield 1
            yield self.faults.refuses_move, None
            return
        datasets = [] if self.faults.moves_nothing else self._asked_for(event.identifier)
        yield len(datasets)
        yield from self._send_back(event, datasets)

    def _send_back(self, event: evt.Event, datasets: list[Dataset]) -> Iterator[Any]:
        faults = self.faults
        for study in {str(dataset.StudyInstanceUID) for dataset in datasets}:
            self._recall(study)
        for count, dataset in enumerate(datasets):
            if faults.drops_after is not None and count >= faults.drops_after:
                event.assoc.abort()
                return
            time.sleep(faults.slow_s)
            if event.is_cancelled and not faults.ignores_cancel:
                self.cancelled += 1
                yield 0xFE00, None
                return
            instead = faults.instead.get(str(dataset.SOPInstanceUID))
            if instead is not None:
                yield 0xFF00, Misnamed(instead, dataset)
            else:
                yield 0xFF00, self._another(dataset) if faults.wrong_instance else dataset

    def _recall(self, study: str) -> None:
        """Wait for a study as long as `Faults.recall_s` says, which may be emptied meanwhile."""
        since_s, recall_s = time.monotonic(), self.faults.recall_s
        while time.monotonic() - since_s < recall_s.get(study, 0.0):
            time.sleep(0.05)

    def _asked_for(self, identifier: Dataset) -> list[Dataset]:
        keys = {
            keyword: _values(identifier.get(keyword))
            for keyword in ("PatientID", *_UNIQUE.values())
            if identifier.get(keyword)
        }
        with self._lock:
            return [
                dataset
                for instance, dataset in self._objects.items()
                if instance not in self.faults.lost
                and all(self._told[instance][keyword] in values for keyword, values in keys.items())
            ]

    def _another(self, dataset: Dataset) -> Dataset:
        with self._lock:
            return next(
                (
                    each
                    for each in self._objects.values()
                    if each.SOPClassUID == dataset.SOPClassUID
                    and each.SOPInstanceUID != dataset.SOPInstanceUID
                ),
                dataset,
            )

    def _forward(self) -> None:
        while (first := self._outbox.get()) is not None:
            batch = [first]
            while not self._outbox.empty():
                dataset = self._outbox.get()
                if dataset is None:
                    self._outbox.put(None)
                    break
                batch.append(dataset)
            self._send(batch)

    def _send(self, datasets: list[Dataset]) -> None:
        if self.forward_to is None:
            return
        title, host, port = self.forward_to
        entity = Entity(ae_title=self.ae_title)
        association = entity.associate(host, port, contexts=_contexts(datasets), ae_title=title)
        if not association.is_established:
            return
        for dataset in datasets:
            status = association.send_c_store(dataset)
            if status and status.Status == 0x0000:
                self.forwarded.add(str(dataset.SOPInstanceUID))
        association.release()


def _contexts(datasets: Iterable[Dataset]) -> list[PresentationContext]:
    pairs = {(str(each.SOPClassUID), str(each.file_meta.TransferSyntaxUID)) for each in datasets}
    return [build_context(abstract, transfer) for abstract, transfer in sorted(pairs)]


def _agrees(dataset: Dataset | Mapping[str, str], keyword: str, wanted: str) -> bool:
    if keyword == "ModalitiesInStudy":
        keyword = "Modality"
    value = str(dataset.get(keyword) or "")
    first, dash, last = wanted.partition("-")
    if keyword.endswith("Date") and dash:
        return (first or "0") <= value <= (last or "9")
    return fnmatchcase(value, wanted)


def _values(value: Any) -> frozenset[str]:
    several: Mapping[str, str] | Iterable[Any] = [value] if isinstance(value, str) else value
    return frozenset(map(str, several))

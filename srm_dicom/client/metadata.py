"""The metadata catalogue, over its wire: one server, or every server at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Literal, TypeVar

from srm_dicom.client.amga import AmgaChannel
from srm_dicom.errors import AlreadyExists, CatalogueUnavailable, MdmError, NotFound
from srm_dicom.identity.credential import Credential
from srm_dicom.ids import Guid, SitePath, parent
from srm_dicom.rights.acl import Acl
from srm_dicom.wire import query

T = TypeVar("T")
Value = str | int | float | None
LFN, SURL = "LFN", "SURL"
"""Attributes that every registered entry has, beside its own."""

EVERYTHING = f"{query.ENTRY_NAME} is not null"
_NAMES = (LFN, SURL)
_SAMPLE = 50
_UPLOAD_ENTRIES = 5000
_REMOVE_ENTRIES = 400
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class AttributeSpec:
    """An attribute of a collection; types are AMGA's: int, float, varchar(n), text, timestamp."""

    name: str
    type: str
    group: Literal["search", "nominative"] = "search"


@dataclass(frozen=True, slots=True)
class MetadataEntry:
    """What is to be known of one file; the collection's schema says which attribute is nominative."""

    guid: Guid
    lfn: str
    surl: str
    attributes: Mapping[str, Value] = field(default_factory=dict)


Found = dict[str, Value]
"""One file that matches: ``guid``, ``lfn``, ``surl``, ``collection`` and the attributes asked for."""


class MetadataClient:
    """One metadata server. A lock lets threads share it, one call at a time.

    Args:
        endpoint: ``host:port``.
        credential: what to show, and whom to trust.
        timeout_s: for one call.
    """

    def __init__(self, endpoint: str, credential: Credential, *, timeout_s: float = 30.0) -> None:
        self.endpoint = endpoint
        self._channel = AmgaChannel(endpoint, credential, timeout_s=timeout_s)

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        self._channel.close()

    def whoami(self) -> str:
        """Return the caller's name as the server sees it."""
        return self._channel.call("whoami")[0]

    def register(
        self, collection: SitePath, schema: Sequence[AttributeSpec], entries: Iterable[MetadataEntry]
    ) -> None:
        """Write entries, making the collection and its attributes where they are missing.

        An entry that exists gets the new values, so the call may be repeated. Control characters in
        values become blanks: a value is one line.

        Raises:
            MdmError: as the server says; entries are written in batches, each wholly or not at all.
        """
        self._make(collection)
        self._add_attributes(collection, [AttributeSpec(name, "text") for name in _NAMES] + list(schema))
        names = [*_NAMES, *(spec.name for spec in schema)]
        for batch in _batches(entries, _UPLOAD_ENTRIES):
            puts = [["put", entry.guid, *_texts(entry, names)] for entry in batch]
            self._channel.batch([["upload", collection, *names], *puts, ["commit"]])

    def search(self, condition: str, attributes: Sequence[str] = (), limit: int | None = None) -> list[Found]:
        """Find files in every collection that the caller may search.

        Args:
            condition: in the grammar of `srm_dicom.wire.query`; empty finds everything.
            attributes: what to show of each file.
            limit: files at most, unless the condition has a limit of its own.

        Raises:
            InvalidRequest: the condition does not follow the grammar.
            NotFound: no collection has all attributes of the condition.
        """
        bounded = limit is not None and query.parse(condition).limit is None
        text = f"{condition} limit {limit}" if bounded else condition
        rows = self._channel.call("findall", *_NAMES, *attributes, text)
        shown = len(_NAMES) + len(attributes)
        types, values = rows[:shown], rows[shown:]
        width = shown + 2
        return [
            _found(values[start : start + width], types, attributes) for start in range(0, len(values), width)
        ]

    def attributes(self, collection: SitePath) -> list[str]:
        """Return the names of a collection's attributes that the caller may learn of."""
        return list(self._channel.call("listattr", collection)[::2])

    def remove(self, collection: SitePath, guids: Iterable[Guid]) -> None:
        """Remove entries; one that is not there is no error."""
        for batch in _batches(guids, _REMOVE_ENTRIES):
            with suppress(NotFound):
                self._channel.call("rm", *(f"{collection}/{guid}" for guid in batch))

    def letters(self, collection: SitePath) -> frozenset[str]:
        """Return the letters that the caller has on a collection: ``r`` search, ``n`` nominative."""
        return frozenset(self._channel.call("myrights", collection)[0])

    def acl(self, collection: SitePath) -> Acl:
        """Return the ACL of a collection."""
        return Acl.stored("\n".join(self._channel.call("acl_show", collection)))

    def has(self, collection: SitePath) -> bool:
        """Tell whether there is a collection."""
        try:
            self._channel.call("getvalidity", collection)
        except NotFound:
            return False
        return True

    def set_acl(self, collection: SitePath, acl: Acl) -> None:
        """Replace the ACL of a collection, which is made when it is missing."""
        self._make(collection)
        self._channel.call("setacl", collection, ",".join(map(str, acl.entries)))

    def set_valid_until(self, collection: SitePath, end: datetime) -> None:
        """Say when a collection ends; it is made when it is missing."""
        self._make(collection)
        self._channel.call("setvalidity", collection, end.isoformat())

    def _make(self, collection: SitePath) -> None:
        missing: list[SitePath] = []
        path = collection
        while path != "/" and not self.has(path):
            missing.append(path)
            path = parent(path)
        for path in reversed(missing):
            try:
                self._channel.call("createdir", path, "plain")
            except AlreadyExists:
                continue

    def _add_attributes(self, collection: SitePath, schema: Sequence[AttributeSpec]) -> None:
        known = set(self.attributes(collection))
        for group, verb in (("search", "addattr"), ("nominative", "addnominative")):
            new = [spec for spec in schema if spec.group == group and spec.name not in known]
            if new:
                self._channel.call(
                    verb, collection, *(word for spec in new for word in (spec.name, spec.type))
                )


@dataclass(frozen=True, slots=True)
class Findings:
    """What all servers together know: `failures` are those that did not answer, and why."""

    found: list[Found]
    failures: dict[str, MdmError]


class MetadataServers:
    """Several metadata servers, asked at once.

    Args:
        endpoints: ``host:port`` of each.
        credential: what to show, and whom to trust.
        timeout_s: after which a server is a failure and the answer does without it.
    """

    def __init__(self, endpoints: Sequence[str], credential: Credential, *, timeout_s: float = 30.0) -> None:
        self._endpoints = tuple(dict.fromkeys(endpoints))
        self._credential = credential
        self._timeout_s = timeout_s

    def find(self, condition: str, attributes: Sequence[str] = (), limit: int | None = None) -> Findings:
        """Ask every server; a file that several know is told once, in the order of the servers.

        A server that has no such attribute has nothing to add; only if that is so of all of them it
        is an error.

        Raises:
            InvalidRequest: the condition does not follow the grammar.
            NotFound: no server has all attributes of the condition.
            CatalogueUnavailable: there is no server to ask.
        """
        query.parse(condition)
        if not self._endpoints:
            raise CatalogueUnavailable("no metadata server is configured")
        answers = self._ask_all(condition, attributes, limit)
        failures = {end: answer for end, answer in answers.items() if isinstance(answer, MdmError)}
        absent = [answer for answer in failures.values() if isinstance(answer, NotFound)]
        if len(absent) == len(answers):
            raise absent[0]
        found: dict[Value, Found] = {}
        for answer in answers.values():
            for one in [] if isinstance(answer, MdmError) else answer:
                found.setdefault(one["guid"], one)
        real = {end: error for end, error in failures.items() if not isinstance(error, NotFound)}
        return Findings(list(found.values())[:limit], real)

    def likely(self, words: Iterable[str]) -> list[str]:
        """Return names of attributes that are spelled much like some words; none if nobody tells."""
        known: set[str] = set()
        for endpoint in self._endpoints:
            client = MetadataClient(endpoint, self._credential, timeout_s=self._timeout_s)
            with closing(client), suppress(MdmError):
                found = client.search(EVERYTHING, limit=_SAMPLE)
                for collection in {str(one["collection"]) for one in found}:
                    known.update(client.attributes(SitePath(collection)))
        by_folded = {name.casefold(): name for name in known}
        close = (get_close_matches(w.casefold(), by_folded, n=1) for w in words if w not in known)
        return sorted({by_folded[name] for names in close for name in names})

    def _ask_all(
        self, condition: str, attributes: Sequence[str], limit: int | None
    ) -> dict[str, list[Found] | MdmError]:
        pool = ThreadPoolExecutor(max_workers=len(self._endpoints), thread_name_prefix="metadata")
        try:
            asked = {
                endpoint: pool.submit(self._ask, endpoint, condition, attributes, limit)
                for endpoint in self._endpoints
            }
            wait(asked.values(), timeout=self._timeout_s)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return {endpoint: _outcome(endpoint, future) for endpoint, future in asked.items()}

    def _ask(
        self, endpoint: str, condition: str, attributes: Sequence[str], limit: int | None
    ) -> list[Found]:
        client = MetadataClient(endpoint, self._credential, timeout_s=self._timeout_s)
        try:
            return client.search(condition, attributes, limit)
        finally:
            client.close()


def _outcome(endpoint: str, future: Future[list[Found]]) -> list[Found] | MdmError:
    if not future.done():
        return CatalogueUnavailable(f"{endpoint} did not answer in time")
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, MdmError):
        return error
    raise error


def _found(row: Sequence[str], types: Sequence[str], attributes: Sequence[str]) -> Found:
    values = [_typed(text, type_name) for text, type_name in zip(row[2:], types, strict=True)]
    names: Found = {"guid": row[1], "lfn": values[0], "surl": values[1], "collection": row[0]}
    return names | dict(zip(attributes, values[len(_NAMES) :], strict=True))


def _typed(text: str, type_name: str) -> Value:
    if not text:
        return None
    bare = type_name.partition("(")[0]
    if bare in ("int", "integer", "smallint", "bigint"):
        return int(text)
    return float(text) if bare in ("float", "double", "real", "numeric", "decimal") else text


def _texts(entry: MetadataEntry, names: Sequence[str]) -> Iterator[str]:
    values = {LFN: entry.lfn, SURL: entry.surl, **entry.attributes}
    for name in names:
        value = values.get(name)
        yield "" if value is None else _CONTROL.sub(" ", str(value))


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

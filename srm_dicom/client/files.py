"""The file catalogue, over its wire."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from srm_dicom.client.http import HttpClient
from srm_dicom.errors import CatalogueUnavailable, MdmError
from srm_dicom.identity.credential import Credential
from srm_dicom.ids import SitePath
from srm_dicom.rights.acl import Acl
from srm_dicom.web.problems import STATUS
from srm_dicom.wire import names as wire
from srm_dicom.wire.names import FileRecord, Outcome

__all__ = ["FileCatalogueClient", "FileRecord", "Outcome"]

Records = list[FileRecord]
Outcomes = list[Outcome]
T = TypeVar("T", bound=wire.Message)
I = TypeVar("I")  # noqa: E741 - an item
_LEAVES = {leaf.__name__: leaf for leaf in STATUS}


class FileCatalogueClient:
    """One file catalogue. A lock lets threads share it, one call at a time.

    A reference is an LFN (``lfn:/grid/...`` or the bare path), a GUID (``guid:...``) or a SURL.

    Args:
        url: ``https://host:port``.
        credential: what to show, and whom to trust.
        timeout_s: for one call.
    """

    def __init__(self, url: str, credential: Credential, *, timeout_s: float = 30.0) -> None:
        self._http = HttpClient(url, credential, timeout_s=timeout_s)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        self._http.close()

    # --- looking ---------------------------------------------------------------------------------

    def lookup(self, reference: str) -> FileRecord:
        """Return what a reference names.

        Raises:
            NotFound: nothing, or nothing that the caller may learn of.
            NotAuthorised: the caller may list the directory and not see this.
        """
        return self.lookup_many([reference])[0]

    def lookup_many(self, references: Iterable[str]) -> Records:
        """Return what references name, in their order.

        Raises:
            MdmError: as for `lookup`, of the first that is refused.
        """
        return [_found(item) for item in self.lookup_each(references)]

    def lookup_each(self, references: Iterable[str]) -> Iterator[wire.Item]:
        """Yield for each reference a record, or why there is none."""
        for batch in _batches(references):
            yield from self._call("lookup", wire.Lookup(tuple(batch)), wire.Items).items

    def list(self, reference: str) -> Records:
        """Return the names of a directory, or the one file that the reference names.

        Raises:
            NotFound, NotAuthorised: as for `lookup`.
        """
        return list(self._pages("list", reference))

    def tree(self, reference: str) -> Records:
        """Return every file below a directory that the caller may see, or the file itself.

        Raises:
            NotFound, NotAuthorised: as for `lookup`.
        """
        return list(self._pages("tree", reference))

    # --- changing --------------------------------------------------------------------------------

    def register(self, records: Iterable[FileRecord]) -> Outcomes:
        """Register files, making directories on the way; it may be repeated.

        Raises:
            MdmError: why the first refused one was; the others are registered all the same.
        """
        return self._changed("register", (wire.Register(tuple(batch)) for batch in _batches(records)))

    def unregister(self, references: Iterable[str]) -> Outcomes:
        """Remove files with their replicas; one that is not there is no error.

        Raises:
            MdmError: why the first refused one was.
        """
        return self._changed("unregister", _references(references))

    def remove(self, references: Iterable[str]) -> Outcomes:
        """Remove files and empty directories.

        Raises:
            MdmError: why the first refused one was.
        """
        return self._changed("remove", _references(references))

    def make_directory(self, path: str, acl: Acl | None = None, *, parents: bool = False) -> None:
        """Make a directory; without an ACL it inherits the defaults of the one above."""
        text = None if acl is None else str(acl)
        self._call("mkdir", wire.MakeDirectory(path, text, parents), wire.Done)

    def rename(self, source: str, target: str) -> None:
        """Give a file or a directory another path."""
        self._call("rename", wire.Rename(source, target), wire.Done)

    def acl(self, reference: str) -> Acl:
        """Return the ACL of a name that the caller owns."""
        return Acl.stored(self._call("getacl", wire.Reference(reference), wire.AclText).acl)

    def set_acl(self, references: Iterable[str], acl: Acl) -> Outcomes:
        """Replace the ACL of names.

        Raises:
            MdmError: why the first refused one was.
        """
        requests = (wire.SetAcl(tuple(batch), str(acl)) for batch in _batches(references))
        return self._changed("setacl", requests)

    def set_comment(self, reference: str, comment: str) -> None:
        """Replace the comment of a name."""
        self._call("setcomment", wire.SetComment(reference, comment), wire.Done)

    def delete_comment(self, reference: str) -> None:
        """Remove the comment of a name."""
        self._call("delcomment", wire.Reference(reference), wire.Done)

    def add_replica(self, reference: str, surl: str) -> None:
        """Add a location to a file; one that is there already is no error."""
        self._call("addreplica", wire.Replica(reference, surl), wire.Done)

    def remove_replica(self, reference: str, surl: str) -> None:
        """Remove a location of a file."""
        self._call("delreplica", wire.Replica(reference, surl), wire.Done)

    # --- the wire --------------------------------------------------------------------------------

    def _pages(self, call: str, reference: str) -> Iterator[FileRecord]:
        after, more = "", True
        while more:
            page = self._call(call, wire.Listing(reference, SitePath(after)), wire.Page)
            yield from page.records
            after, more = page.records[-1].lfn if page.records else "", page.more

    def _changed(self, call: str, requests: Iterable[wire.Message]) -> Outcomes:
        outcomes = [
            outcome for request in requests for outcome in self._call(call, request, wire.Outcomes).outcomes
        ]
        for outcome in outcomes:
            if outcome.status == "refused":
                raise _leaf(outcome.error, outcome.detail)
        return outcomes

    def _call(self, call: str, request: wire.Message, answer: type[T]) -> T:
        headers = [("Content-Type", "application/json")]
        with self._lock:
            response = self._http.request(
                "POST", f"/v1/{call}", msgspec.json.encode(request), headers, repeatable=True
            )
        response.raise_for_problem()
        try:
            return msgspec.json.decode(response.body, type=answer)
        except msgspec.DecodeError as error:
            raise CatalogueUnavailable("the file catalogue does not speak the protocol") from error


def _references(references: Iterable[str]) -> Iterator[wire.References]:
    return (wire.References(tuple(batch)) for batch in _batches(references))


def _found(item: wire.Item) -> FileRecord:
    if item.record is None:
        raise _leaf(item.error, item.detail)
    return item.record


def _leaf(error: str, detail: str) -> MdmError:
    return _LEAVES.get(error, CatalogueUnavailable)(detail)


def _batches(items: Iterable[I]) -> Iterator[Sequence[I]]:
    everything = list(items)
    return (everything[start : start + wire.MAX_ITEMS] for start in range(0, len(everything), wire.MAX_ITEMS))

"""What users upload, on its way into the archive that the site names for it.

An archive is asked before it is given anything: it must know the patient, and must not hold another object
under the same SOP Instance UID. One that it holds already with the same content is not sent again, so
whatever broke off may simply be repeated. The object is in memory only, within the budget of arriving ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from srm_dicom.clock import Clock
from srm_dicom.errors import (
    NotDelivered,
    Overloaded,
    SourceRefused,
    SourceUnavailable,
    TooLarge,
)
from srm_plugin_dicom.archive import Archive, Asking, Wanted
from srm_plugin_dicom.moves import ArrivedObject, MemoryBudget
from srm_plugin_dicom.selector import Level
from srm_plugin_dicom.sending import Sender
from srm_plugin_dicom.stores import ObjectInfo
from srm_plugin_dicom.uploaded import Uploaded, read_upload, same_content

_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientBirthDate")


class UploadDesk:
    """Takes uploads for one archive."""

    def __init__(
        self,
        archive: Archive,
        sender: Sender,
        budget: MemoryBudget,
        clock: Clock,
        *,
        max_object_bytes: int,
        upload_s: float,
    ) -> None:
        """Take the archive, as it is asked and as it is given objects; `upload_s` is for all that."""
        self._archive = archive
        self._sender = sender
        self._budget = budget
        self._clock = clock
        self._max_object_bytes = max_object_bytes
        self._upload_s = upload_s
        self._in_hand: set[str] = set()
        self._lock = threading.Lock()

    @property
    def source(self) -> str:
        """Name of the archive, where the objects can be fetched."""
        return self._archive.name

    def take(self, chunks: Iterable[bytes]) -> dict[str, str]:
        """Put an object into the archive; returns its header once the archive has it.

        Raises:
            InvalidRequest, TooLarge: it is nothing that an archive of patients takes.
            SourceRefused: the archive does not know the patient, holds something else under the SOP Instance
                UID (AlreadyExists would have gfal2 remove a name and try again), or does not take the object.
            SourceUnavailable, Overloaded: not now.
        """
        with self._held(chunks) as file:
            upload = read_upload(file, self._max_object_bytes)
            with self._alone(upload.sop_instance):
                self._put(upload, self._clock.monotonic_s() + self._upload_s)
            return upload.header

    def check(self) -> str:
        """Have the archive agree to take images; returns what that shows, and gives it none."""
        return self._sender.check()

    def close(self) -> None:
        """Give back what is held for the next object."""
        self._sender.close()

    def _put(self, upload: Uploaded, end_s: float) -> None:
        with self._archive.session() as session:
            known = _knows_patient(session, upload)
            there = _find(session, upload) if known else None
        if not known:
            raise SourceRefused(
                f"{self.source} knows no such patient",
                advice="PatientID, its issuer and the date of birth have to agree with the archive's.",
            )
        if there is None:
            self._sender.send(upload, end_s)
        elif not self._is_same(there, upload, end_s):
            raise SourceRefused(f"{self.source} has another object under this SOP Instance UID")

    def _is_same(self, there: Wanted, upload: Uploaded, end_s: float) -> bool:
        found: list[bool] = []

        def compare(info: ObjectInfo, data: ArrivedObject) -> None:
            syntax = info.transfer_syntax
            with self._budget.whole(data) as held:
                found.append(same_content(upload.data, upload.transfer_syntax, memoryview(held), syntax))

        try:
            self._archive.fetch([there], compare, end_s - self._clock.monotonic_s())
        except NotDelivered:
            raise SourceUnavailable(f"{self.source} was late to send an object") from None
        if not found:
            raise SourceUnavailable(f"{self.source} tells of an object and does not send it")
        return found[0]

    @contextmanager
    def _held(self, chunks: Iterable[bytes]) -> Iterator[bytearray]:
        """Give the whole file, for as long as the context lives."""
        file, held_bytes = bytearray(), 0
        try:
            for chunk in chunks:
                if held_bytes + len(chunk) > self._max_object_bytes:
                    raise TooLarge("an object is larger than max_object_bytes")
                self._budget.take(len(chunk))
                held_bytes += len(chunk)
                file += chunk
            yield file
        finally:
            self._budget.give(held_bytes)

    @contextmanager
    def _alone(self, instance: str) -> Iterator[None]:
        """Let nobody else put the same object meanwhile: an archive may keep either and say success."""
        with self._lock:
            if instance in self._in_hand:
                raise Overloaded("the same object is being stored")
            self._in_hand.add(instance)
        try:
            yield
        finally:
            with self._lock:
                self._in_hand.remove(instance)


def _knows_patient(session: Asking, upload: Uploaded) -> bool:
    """Tell whether the archive has a study of the patient; who has none yet is nobody it knows.

    An issuer or a date of birth that either side does not tell contradicts nothing.
    """
    keys = dict.fromkeys(_PATIENT, "") | {"PatientID": upload.header["PatientID"], "StudyInstanceUID": ""}
    own = [upload.header.get(keyword, "") for keyword in _PATIENT]
    for answer in session.find(Level.STUDY, keys):
        theirs = [answer.get(keyword, "").strip() for keyword in _PATIENT]
        if theirs[0] == own[0] and all(not a or not b or a == b for a, b in zip(own, theirs, strict=True)):
            return True
    return False


def _find(session: Asking, upload: Uploaded) -> Wanted | None:
    """Return where the archive has an object of the same SOP Instance UID, if it tells of one.

    It is asked for in its own series first, as every archive can be, and then anywhere, which some refuse
    or do not understand (PS3.4, C.4.1.3.2.2: relational queries are optional).
    """
    unique = {"StudyInstanceUID": "", "SeriesInstanceUID": "", "SOPInstanceUID": upload.sop_instance}
    own = {keyword: upload.header[keyword] for keyword in unique}
    for keys in (own, unique):
        try:
            answers = session.find(Level.IMAGE, keys)
        except SourceRefused:
            if keys is own:
                raise
            return None
        for answer in answers:
            if answer.get("SOPInstanceUID", "").strip() == upload.sop_instance:
                told = own | {key: value.strip() for key, value in answer.items() if key in own and value}
                return Wanted(told["StudyInstanceUID"], told["SeriesInstanceUID"], (upload.sop_instance,))
    return None

"""The SCU that asks a PACS whether it is there (C-ECHO) and what it has (C-FIND), by pynetdicom.

A socket to a PACS has TCP_NODELAY, and TCP_QUICKACK again after every PDU, or an answer takes 40 ms more.
And no error or log line has anything that the PACS said but a status number.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association

from srm_dicom.errors import SourceRefused, SourceUnavailable
from srm_plugin_dicom.checkpoint import Entity
from srm_plugin_dicom.header import keep_values_out_of_logs, texts
from srm_plugin_dicom.selector import Level, sound
from srm_plugin_dicom.tls import TlsCredential, client_context

ECHO = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_OUT_OF_RESOURCES = frozenset({0xA700, 0xA701, 0xA702})
PARTLY = 0xB000


@dataclass(frozen=True, slots=True)
class PacsSettings:
    """Where a PACS is and how patient we are with it; `name` is the site's word for it."""

    name: str
    ae_title: str
    host: str
    port: int
    connect_s: float = 10.0
    answer_s: float = 60.0
    tls: TlsCredential | None = None


_LOOK_EVERY_S = 0.01

MAX_HEARD_BYTES, _MAX_PDU_BYTES = 1 << 30, 1 << 20
"""Of all that an archive says on one association for questions, and of one PDU, which is to have 16 KiB."""


class PacsSession:
    """One association with a PACS."""

    def __init__(self, name: str, association: Association) -> None:
        self._name = name
        self._association = association

    def echo(self) -> None:
        """Ask whether it is there (C-ECHO)."""
        self._expect_success(self._association.send_c_echo())

    def find(self, level: Level, keys: Mapping[str, str]) -> list[dict[str, str]]:
        """Return the answers of one C-FIND, each a mapping from keyword to text; not filtered."""
        found = []
        for status, identifier in self._association.send_c_find(_identifier(level, keys), FIND):
            if identifier is None:
                self._expect_success(status)
            else:
                found.append(texts(identifier))
        return sound(found)

    def _expect_success(self, status: Dataset) -> None:
        code = self._code(status)
        if code:
            raise refusal(self._name, code)

    def _code(self, status: Dataset) -> int:
        if "Status" not in status:
            raise SourceUnavailable(f"{self._name} broke off or did not answer in time")
        return int(status.Status)


class Pacs:
    """A PACS, as seen by the AE `own_title`."""

    def __init__(self, settings: PacsSettings, own_title: str) -> None:
        self.settings = settings
        self._own_title = own_title
        keep_values_out_of_logs()

    @property
    def name(self) -> str:
        """The site's word for it."""
        return self.settings.name

    def echo(self) -> None:
        """Ask whether it is there (C-ECHO).

        Raises:
            SourceUnavailable, SourceRefused: it is not, or not for us.
        """
        with self.session() as session:
            session.echo()

    @contextmanager
    def session(self) -> Iterator[PacsSession]:
        """Open an association; released at the end, aborted when left by an exception.

        Raises:
            SourceUnavailable, SourceRefused: it does not answer, or not to us.
        """
        association = self._associate()
        try:
            yield PacsSession(self.name, association)
        except BaseException:
            association.abort()
            raise
        association.release()

    def _associate(self) -> Association:
        entity = Entity(ae_title=self._own_title)
        entity.connection_timeout = entity.acse_timeout = self.settings.connect_s
        entity.dimse_timeout = entity.network_timeout = self.settings.answer_s
        for model in (ECHO, FIND):
            entity.add_requested_context(model)
        tls = self.settings.tls
        try:
            association = entity.associate(
                self.settings.host,
                self.settings.port,
                ae_title=self.settings.ae_title,
                evt_handlers=[(evt.EVT_CONN_OPEN, _tune), (evt.EVT_PDU_RECV, _acknowledge_at_once)],
                tls_args=(client_context(tls), tls.name or self.settings.host) if tls else None,
            )
        except socket.gaierror:
            raise SourceUnavailable(f"the address of {self.name} cannot be found") from None
        if association.is_established:
            # pynetdicom looks for news every millisecond, and each look takes the interpreter from the
            # thread that receives: with this pause a series is staged in 0.85 of the time.
            association.dul._run_loop_delay = _LOOK_EVERY_S  # noqa: SLF001 - it has no other place
            return association
        if association.is_rejected:
            raise SourceRefused(f"{self.name} rejected the association of {self._own_title}")
        raise SourceUnavailable(f"{self.name} does not answer at its DICOM port")


class AskedByDimse:
    """The half of an `archive.Archive` that is the same however the images come."""

    def __init__(self, pacs: Pacs) -> None:
        self._pacs = pacs

    @property
    def name(self) -> str:
        """The site's word for it."""
        return self._pacs.name

    def echo(self) -> None:
        """Ask whether it is there (C-ECHO)."""
        self._pacs.echo()

    def session(self) -> AbstractContextManager[PacsSession]:
        """Open an association for questions."""
        return self._pacs.session()

    def close(self) -> None:
        """Give back what is held; by default nothing is."""


def images(study: str, series: Sequence[str], instances: Sequence[str]) -> bytes:
    """Return the identifier that names images of one study (PS3.4, C.4.2.2.1), implicit little endian.

    Several series are a list too, which the standard has for the lowest level alone (see `moving`).

    Written by hand: pydicom takes as long for the names of a hundred images as one image takes here.
    """
    return b"".join(
        (
            _element(0x0008, 0x0018, "\\".join(instances), b"\0"),
            _element(0x0008, 0x0052, Level.IMAGE.value, b" "),
            _element(0x0020, 0x000D, study, b"\0"),
            _element(0x0020, 0x000E, "\\".join(series), b"\0"),
        )
    )


def asking_for_images(study: str, series: str) -> bytes:
    """Return the identifier that asks which images a series has, and of which SOP classes; as `images`."""
    return b"".join(
        (
            _element(0x0008, 0x0016, "", b""),
            _element(0x0008, 0x0018, "", b""),
            _element(0x0008, 0x0052, Level.IMAGE.value, b" "),
            _element(0x0020, 0x000D, study, b"\0"),
            _element(0x0020, 0x000E, series, b"\0"),
        )
    )


def _element(group: int, number: int, value: str, padding: bytes) -> bytes:
    encoded = value.encode("ascii")
    encoded += padding * (len(encoded) & 1)
    return struct.pack("<HHL", group, number, len(encoded)) + encoded


def refusal(name: str, status: int) -> SourceUnavailable | SourceRefused:
    """Return what the status of a response that is no success means."""
    kind = SourceUnavailable if status in _OUT_OF_RESOURCES else SourceRefused
    return kind(f"{name} refused with status 0x{status:04X}")


class _Bounded:
    """Receives for an association: pynetdicom holds a PDU, and a message of many, however long they are."""

    def __init__(self, receive: Callable[[int], bytearray]) -> None:
        self._receive = receive
        self._left_bytes = MAX_HEARD_BYTES

    def __call__(self, size_bytes: int) -> bytearray:
        self._left_bytes -= size_bytes
        if size_bytes > _MAX_PDU_BYTES or self._left_bytes < 0:
            raise OSError("an archive says more than anybody asked for")
        return self._receive(size_bytes)


def _tune(event: evt.Event) -> None:
    _set(event, socket.TCP_NODELAY)
    wrapper = event.assoc.dul.socket
    if wrapper is not None:
        wrapper.recv = _Bounded(wrapper.recv)  # type: ignore[method-assign, assignment]


def _acknowledge_at_once(event: evt.Event) -> None:
    if _QUICKACK is not None:
        _set(event, _QUICKACK)


def _set(event: evt.Event, option: int) -> None:
    wrapper = event.assoc.dul.socket
    if wrapper is not None and wrapper.socket is not None:
        wrapper.socket.setsockopt(socket.IPPROTO_TCP, option, 1)


def _identifier(level: Level, keys: Mapping[str, str]) -> Dataset:
    identifier = Dataset()
    if not all(value.isascii() for value in keys.values()):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = level.value
    for keyword, value in keys.items():
        setattr(identifier, keyword, value or None)
    return identifier

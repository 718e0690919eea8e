"""Does what a GridFTP session asks of its door: names, data connections, files out.

Files in are `storing`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain

from srm_dicom.clock import Clock
from srm_dicom.errors import (
    InvalidRequest,
    IsADirectory,
    MdmError,
    NotADirectory,
    NotFound,
    Overloaded,
    TooLarge,
)
from srm_dicom.identity.gate import Gate
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath
from srm_dicom.telemetry import logger
from srm_dicom.transfer.channel import DataChannel, Guard
from srm_dicom.transfer.dataport import DataPort
from srm_dicom.transfer.files import FileInfo, OpenedFile, ServedFiles, WrittenFiles
from srm_dicom.transfer.pieces import joined
from srm_dicom.transfer.security import DataSecurity
from srm_dicom.transfer.storing import Line, Storing
from srm_dicom.transfer.streams import send_blocks, send_pieces, send_stream
from srm_dicom.transfer.stripelink import StripeNodes
from srm_dicom.transfer.stripes import Connecting, Stripes
from srm_dicom.transfer.summing import sum_of
from srm_dicom.turns import Turns
from srm_dicom.wire.gridftp import actions
from srm_dicom.wire.gridftp.addresses import family_reply
from srm_dicom.wire.gridftp.dialogue import Parameters
from srm_dicom.wire.gridftp.replies import Reply
from srm_dicom.wire.gridftp.session import ServerSession
from srm_dicom.wire.gridftp.stripes import Begin

log = logger("transfer")

_COMPLETE = Reply.of(226, "Transfer Complete.")
_READ_ONLY = Reply.of(
    502,
    "GridFTP-Error-String: Permission denied",
    "This door is read-only: files come to be by registration at the site.",
)
_TURN_S = 600.0
_LOOK_EVERY_S = 0.25
MAX_LISTED = 100_000
"""Entries of one listing."""


class Performer:
    """Performs the actions of one session.

    Args:
        writing: None at a door that only sends.
        gate: knows the peers of data connections that are other users.
        sums: turns of those who have files read for their checksums.
        nodes: the site's other transfer nodes, if there are any.
    """

    def __init__(  # noqa: PLR0913 - a session has this many sides
        self,
        session: ServerSession,
        files: ServedFiles,
        writing: WrittenFiles | None,
        port: DataPort,
        gate: Gate,
        clock: Clock,
        line: Line,
        *,
        sums: Turns,
        nodes: StripeNodes | None = None,
    ) -> None:
        self._session = session
        self._files = files
        self._writing = writing
        self._port = port
        self._gate = gate
        self._clock = clock
        self._line = line
        self._guard = line.guard
        self._sums = sums
        self._security: DataSecurity | None = None
        self._stripes = Stripes(nodes, port, self._begin, clock)

    def close(self) -> None:
        """Leave the other transfer nodes."""
        self._stripes.close()

    def perform(self, action: actions.Action) -> None:
        """Perform an action and reply.

        Raises:
            MdmError: it is refused.
            CannotConnect: no data connection came to be.
            OSError: a data connection was lost.
        """
        match action:
            case actions.Listen() if action.family not in ("", self._port.protocol):
                self._session.reply(family_reply(self._port.protocol))
            case actions.Listen():
                self._stripes.forget()
                self._render_ports(partial(action.render, self._port.listen()))
            case actions.ListenStriped():
                self._render_ports(partial(action.render, self._stripes.listen(self._guard)))
            case actions.Target():
                self._stripes.aim(action.addresses, striped=action.striped)
                self._session.reply(action.done)
            case actions.Describe():
                self._session.reply(action.render(self._files.stat(self._principal, action.path)))
            case actions.ListDirectory():
                self._list(action)
            case actions.Retrieve():
                self._retrieve(action)
            case actions.Checksum():
                self._session.reply(Reply.of(213, self._checksum(action)))
            case _ if self._writing is None:
                self._session.reply(_READ_ONLY)
            case _:
                self._session.reply(self._change(action, self._writing))

    def _change(self, action: actions.Change, writing: WrittenFiles) -> Reply:
        match action:
            case actions.Store():
                storing = Storing(writing, self._port, self._stripes, self._clock, self._line)
                return storing.store(self._principal, action, self._parameters, self._secure())
            case actions.MakeDirectory():
                writing.mkdir(self._principal, action.path)
                return Reply.of(257, f'"{action.path}" directory created.')
            case actions.Remove():
                writing.remove(self._principal, action.path, directory=action.directory)
            case actions.Rename():
                writing.rename(self._principal, action.source, action.target)
        return Reply.of(250, "OK.")

    @property
    def _principal(self) -> Principal:
        return self._session.dialogue.principal

    @property
    def _parameters(self) -> Parameters:
        return self._session.dialogue.parameters

    def _render_ports(self, render: Callable[[], Reply]) -> None:
        try:
            self._session.reply(render())
        except MdmError:
            self._port.close()
            raise

    def _list(self, action: actions.ListDirectory) -> None:
        info = self._files.stat(self._principal, action.path)
        first: list[str] = []
        entries: Iterable[FileInfo] = [info]
        if info.is_directory:
            first = [action.itself(info)] if action.itself else []
            entries = self._files.listdir(self._principal, action.path)
            if action.deep:
                entries = self._walk(entries)
        elif action.itself:
            raise NotADirectory("MLSD and MLSR take a directory")
        lines = chain(first, map(action.entry, entries))
        pieces = joined(f"{line}\r\n".encode() for line in lines)
        if self._parameters.mode == "E":
            self._transfer(lambda channels: send_pieces(channels, pieces, self._guard))
        else:
            self._transfer(lambda channels: _send_pieces(channels[0], pieces, self._guard))

    def _walk(self, entries: Iterable[FileInfo]) -> Iterator[FileInfo]:
        """Yield entries and all below them.

        Raises:
            TooLarge: there are more than a listing may have.
        """
        levels, count = [iter(entries)], 0
        while levels:
            self._guard()
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
                continue
            count += 1
            if count > MAX_LISTED:
                raise TooLarge(f"a listing has at most {MAX_LISTED} entries: list the directories one by one")
            yield entry
            if entry.is_directory:
                with suppress(NotFound):  # gone, or forbidden, since it was listed
                    levels.append(iter(self._files.listdir(self._principal, SitePath(entry.path))))

    def _retrieve(self, action: actions.Retrieve) -> None:
        begun_s = self._clock.monotonic_s()
        with self._files.open(self._principal, action.path) as file:
            ranges = action.section.to_send(file.size_bytes, action.restart)
            size_bytes = sum(end - start for start, end in ranges)
            file.charge(size_bytes)
            self._send(action, file, ranges)
        log.info(
            "file_sent",
            dn=self._principal.dn,
            path=action.path,
            bytes=size_bytes,
            seconds=round(self._clock.monotonic_s() - begun_s, 3),
        )

    def _send(self, action: actions.Retrieve, file: OpenedFile, ranges: list[tuple[int, int]]) -> None:
        parameters, base = self._parameters, action.section.offset
        if self._stripes.sends(parameters):
            how = Connecting(parameters, self._secure(), self._line.tell, self._guard)
            self._stripes.send(action.path, file, ranges, base, how)
            self._session.reply(_COMPLETE)
        elif parameters.mode == "E":
            self._transfer(lambda channels: send_blocks(channels, file, ranges, base, self._guard))
        else:
            self._transfer(lambda channels: send_stream(channels[0], file, ranges, self._guard))

    def _checksum(self, action: actions.Checksum) -> str:
        info = self._files.stat(self._principal, action.path)
        if info.is_directory:
            raise IsADirectory("a directory has no checksum")
        whole = action.section.offset == 0 and action.section.length in (None, info.size_bytes)
        if action.algorithm == "ADLER32" and whole and info.adler32:
            return info.adler32
        with self._files.open(self._principal, action.path) as file, self._turn():
            return sum_of(file, action.algorithm, action.section, self._guard)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until the disks may be kept busy for the caller, for as long as the caller waits.

        Raises:
            Overloaded: that is too long.
        """
        holder, until_s = self._principal.dn, self._clock.monotonic_s() + _TURN_S
        while not self._sums.take(holder, _LOOK_EVERY_S):
            self._guard()
            if self._clock.monotonic_s() > until_s:
                raise Overloaded(
                    "too many checksums are being computed", advice="Ask for ADLER32 of all of it."
                )
        try:
            yield
        finally:
            self._sums.release(holder)

    def _transfer(self, send: Callable[[list[DataChannel]], None]) -> None:
        """Open connections, send, and keep them (MODE E) or close them."""
        parameters = self._parameters
        channels = self._port.open(parameters, self._secure(), self._session.reply, self._guard)
        try:
            send(channels)
        except BaseException:
            _close(channels)
            raise
        if parameters.mode == "E":
            self._port.keep(channels, parameters)
        else:
            _close(channels)
        self._line.tell(_COMPLETE)

    def _secure(self) -> DataSecurity:
        acceptor = self._session.dialogue.acceptor
        if acceptor is None:
            raise InvalidRequest("nobody has logged in")
        if self._security is None:
            self._security = DataSecurity(acceptor.delegated, acceptor.end_entity, self._gate, self._clock)
        return self._security

    def _begin(self) -> Begin:
        """Say to other transfer nodes whose session this is."""
        acceptor, principal = self._session.dialogue.acceptor, self._principal
        delegated = acceptor.delegated if acceptor is not None else None
        return Begin(
            principal.dn,
            principal.fqans,
            principal.limited,
            principal.emergency,
            principal.expires,
            self._port.peer,
            acceptor.end_entity if acceptor is not None else b"",
            delegated.pem() if delegated is not None else b"",
        )


def _send_pieces(channel: DataChannel, pieces: Iterable[bytes], guard: Guard) -> None:
    for piece in pieces:
        channel.send(piece, guard)


def _close(channels: list[DataChannel]) -> None:
    for channel in channels:
        channel.close()

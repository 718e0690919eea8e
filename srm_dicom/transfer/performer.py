"""Does what a GridFTP session asks of its door: looks names up, opens data connections, sends files."""

from __future__ import annotations

from collections.abc import Callable

from srm_dicom.clock import Clock
from srm_dicom.errors import InvalidRequest, IsADirectory, MdmError, NotADirectory
from srm_dicom.identity.principal import Principal
from srm_dicom.telemetry import logger
from srm_dicom.transfer.channel import DataChannel, Guard
from srm_dicom.transfer.dataport import DataPort
from srm_dicom.transfer.files import FileInfo, OpenedFile, ServedFiles
from srm_dicom.transfer.security import DataSecurity
from srm_dicom.transfer.streams import send_block, send_blocks, send_stream
from srm_dicom.transfer.summing import sum_of
from srm_dicom.wire.gridftp import actions
from srm_dicom.wire.gridftp.dialogue import Parameters
from srm_dicom.wire.gridftp.replies import Reply
from srm_dicom.wire.gridftp.session import ServerSession

log = logger("transfer")

_COMPLETE = Reply.of(226, "Transfer Complete.")


class Performer:
    """Performs the actions of one session.

    Args:
        tell: sends a preliminary reply at once.
        guard: called again and again while something takes long.
    """

    def __init__(
        self,
        session: ServerSession,
        files: ServedFiles,
        port: DataPort,
        clock: Clock,
        tell: Callable[[Reply], None],
        guard: Guard,
    ) -> None:
        self._session = session
        self._files = files
        self._port = port
        self._clock = clock
        self._tell = tell
        self._guard = guard
        self._security: DataSecurity | None = None

    def perform(self, action: actions.Action) -> None:
        """Perform an action and reply.

        Raises:
            MdmError: it is refused.
            CannotConnect: no data connection came to be.
            OSError: a data connection was lost.
        """
        match action:
            case actions.Listen():
                self._listen(action)
            case actions.Target():
                self._port.aim(action.addresses)
                self._session.reply(action.done)
            case actions.Describe():
                self._session.reply(action.render(self._files.stat(self._principal, action.path)))
            case actions.ListDirectory():
                self._list(action)
            case actions.Retrieve():
                self._retrieve(action)
            case actions.Checksum():
                self._session.reply(Reply.of(213, self._checksum(action)))

    @property
    def _principal(self) -> Principal:
        return self._session.dialogue.principal

    @property
    def _parameters(self) -> Parameters:
        return self._session.dialogue.parameters

    def _listen(self, action: actions.Listen) -> None:
        try:
            self._session.reply(action.render(self._port.listen(action.family)))
        except MdmError:
            self._port.close()
            raise

    def _list(self, action: actions.ListDirectory) -> None:
        info = self._files.stat(self._principal, action.path)
        lines: list[str] = []
        entries: list[FileInfo] = [info]
        if info.is_directory:
            lines = [action.itself(info)] if action.itself else []
            entries = list(self._files.listdir(self._principal, action.path))
        elif action.itself:
            raise NotADirectory("MLSD takes a directory")
        lines += map(action.entry, entries)
        data = "".join(f"{line}\r\n" for line in lines).encode()
        if self._parameters.mode == "E":
            self._transfer(lambda channels: send_block(channels, data, self._guard))
        else:
            self._transfer(lambda channels: channels[0].send(data, self._guard))

    def _retrieve(self, action: actions.Retrieve) -> None:
        begun_s = self._clock.monotonic_s()
        with self._files.open(self._principal, action.path) as file:
            ranges = action.section.to_send(file.size_bytes, action.restart)
            size_bytes = sum(end - start for start, end in ranges)
            file.charge(size_bytes)
            self._transfer(lambda channels: self._send(channels, file, ranges, action.section.offset))
        log.info(
            "file_sent",
            dn=self._principal.dn,
            path=action.path,
            bytes=size_bytes,
            seconds=round(self._clock.monotonic_s() - begun_s, 3),
        )

    def _send(
        self, channels: list[DataChannel], file: OpenedFile, ranges: list[tuple[int, int]], base: int
    ) -> None:
        if self._parameters.mode == "E":
            send_blocks(channels, file, ranges, base, self._guard)
        else:
            send_stream(channels[0], file, ranges, self._guard)

    def _checksum(self, action: actions.Checksum) -> str:
        info = self._files.stat(self._principal, action.path)
        if info.is_directory:
            raise IsADirectory("a directory has no checksum")
        whole = action.section.offset == 0 and action.section.length in (None, info.size_bytes)
        if action.algorithm == "ADLER32" and whole and info.adler32:
            return info.adler32
        with self._files.open(self._principal, action.path) as file:
            return sum_of(file, action.algorithm, action.section, self._guard)

    def _transfer(self, send: Callable[[list[DataChannel]], None]) -> None:
        """Open connections, send, and keep them (MODE E) or close them."""
        parameters = self._parameters
        channels = self._port.open(parameters, self._secure(), self._tell, self._guard)
        try:
            send(channels)
        except BaseException:
            _close(channels)
            raise
        if parameters.mode == "E":
            self._port.keep(channels, parameters)
        else:
            _close(channels)
        self._session.reply(_COMPLETE)

    def _secure(self) -> DataSecurity:
        acceptor = self._session.dialogue.acceptor
        if acceptor is None:
            raise InvalidRequest("nobody has logged in")
        if self._security is None:
            self._security = DataSecurity(acceptor.delegated, acceptor.end_entity, self._clock)
        return self._security


def _close(channels: list[DataChannel]) -> None:
    for channel in channels:
        channel.close()

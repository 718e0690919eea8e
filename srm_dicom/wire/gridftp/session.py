"""The server's half of the control channel: bytes in, actions and bytes out, commands strictly in order.

    session.receive_data(data)
    while (action := session.next_action()) is not None:
        ...perform it..., session.reply(reply)
    sock.sendall(session.data_to_send())

Once the login is complete, commands come protected (ENC, MIC, CONF) and replies go protected the same
way, every line by itself. A command in clear after that did not come from the client: the session ends.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from srm_dicom.errors import MdmError, NotAuthenticated, TooLarge
from srm_dicom.wire.gridftp.actions import Action
from srm_dicom.wire.gridftp.dialogue import SECURE, Dialogue, Stage
from srm_dicom.wire.gridftp.lines import MAX_WAITING_BYTES, LineReader
from srm_dicom.wire.gridftp.replies import Reply
from srm_dicom.wire.gridftp.verbs import TABLE, Verb

PROTECTIONS = {"MIC": 631, "ENC": 632, "CONF": 633}
"""How a command may be protected, and the code of its replies (RFC 2228, 3)."""

MAX_COMMAND_BYTES = 8 * 1024
_COMMAND_BYTES = 100
"""What a command that waits costs at least, about."""
_ENOUGH_BYTES = 64 * 1024
"""Of replies: what follows is answered when they have been sent. A HELP of six bytes has a long one."""

_UNKNOWN = Reply.of(500, "Command not understood.")


@dataclass(frozen=True, slots=True)
class Command:
    """One command and how it was protected; `verb` is empty for a line that is none."""

    verb: str
    argument: str
    protection: str = ""


def parse_command(line: bytes, protection: str = "") -> Command:
    """Read a line without its line end; a line that is no command has an empty verb."""
    verb, _, argument = line.rstrip(b"\r\n\0").decode("utf-8", "replace").partition(" ")
    if not (3 <= len(verb) <= 8 and verb.isascii() and verb.isalpha()):
        return Command("", "", protection)
    return Command(verb.upper(), argument, protection)


class ServerSession:
    """One control connection; `dialogue` is its state.

    Args:
        dialogue: a fresh one.
        refuse: the door's table from the error tree to replies.
        greeting: text of the 220 reply.
        lines: with the bounds on what a client may send.
        table: the verbs.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        refuse: Callable[[MdmError], Reply],
        *,
        greeting: str,
        lines: LineReader,
        table: Mapping[str, Verb] = TABLE,
    ) -> None:
        self.dialogue = dialogue
        self._refuse = refuse
        self._table = table
        self._lines = lines
        self._decoded: deque[Command] = deque()
        self._protection = ""
        self._outgoing = bytearray()
        self.reply(Reply.of(220, greeting))

    @property
    def closed(self) -> bool:
        """Tell whether the connection is to be closed when `data_to_send` has been sent."""
        return self.dialogue.stage is Stage.CLOSED

    @property
    def full(self) -> bool:
        """Tell whether enough commands wait, so that the caller stops reading."""
        waiting = sum(_COMMAND_BYTES + len(command.argument) for command in self._decoded)
        return self._lines.full or waiting >= MAX_WAITING_BYTES

    @property
    def waits(self) -> bool:
        """Tell whether commands wait to be answered, so that the caller goes on before it reads."""
        return bool(self._decoded) or self._lines.waits

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the client; a line beyond the bound ends the session."""
        try:
            self._lines.feed(data)
        except TooLarge as error:
            self._end(Reply.of(500, error.message))

    def next_action(self) -> Action | None:
        """Answer commands until one needs the door, enough is to be sent, or none is complete (None).

        The caller answers an action with `reply`, preliminary replies first, before it asks again.
        """
        while not self.closed and len(self._outgoing) < _ENOUGH_BYTES:
            command = self._take()
            if command is None:
                return None
            answer = self._answer(command)
            if not isinstance(answer, Reply):
                return answer
            self.reply(answer)
        return None

    def abort_waits(self) -> bool:
        """Tell whether the client has sent ABOR behind the command that is being performed."""
        while self.dialogue.stage is Stage.OPEN:
            line = self._lines.next_line()
            if line is None:
                break
            command = self._decode(line)
            if command is not None:
                self._decoded.append(command)
        return any(command.verb == "ABOR" for command in self._decoded)

    def reply(self, reply: Reply) -> None:
        """Queue a reply, protected as the command was."""
        lines = reply.encode()
        if self._protection and self.dialogue.acceptor is not None:
            channel = self.dialogue.acceptor.channel
            lines = self._protected([base64.b64encode(channel.wrap(line)) for line in lines])
        self._outgoing += b"".join(lines)

    def close(self, reply: Reply) -> None:
        """End the session from the door's side: idle, expired, overloaded."""
        self._end(reply)

    def data_to_send(self) -> bytes:
        """Return what is to be sent now, and forget it."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def _protected(self, lines: list[bytes]) -> list[bytes]:
        code = b"%d" % PROTECTIONS[self._protection]
        *inner, last = lines
        return [*(code + b"-" + line + b"\r\n" for line in inner), code + b" " + last + b"\r\n"]

    def _take(self) -> Command | None:
        if self._decoded:
            return self._decoded.popleft()
        line = self._lines.next_line()
        return None if line is None else self._decode(line)

    def _decode(self, line: bytes) -> Command | None:
        """Unprotect a line; None when that ended the session."""
        command = parse_command(line)
        if self.dialogue.stage not in SECURE or self.dialogue.acceptor is None:
            return command
        if command.verb not in PROTECTIONS:
            self._end(Reply.of(533, "Commands are to be protected after the login."))
            return None
        try:
            token = base64.b64decode(command.argument, validate=True)
        except ValueError:  # binascii.Error is one; characters beyond ASCII are another
            self._end(Reply.of(501, "The token is not base64."))
            return None
        try:
            plain = self.dialogue.acceptor.channel.unwrap(token)
        except NotAuthenticated:
            self.dialogue.close()  # the TLS session is broken: nothing can be said any more
            return None
        if len(plain) > MAX_COMMAND_BYTES:
            return Command("", "", command.verb)
        return parse_command(plain, command.verb)

    def _answer(self, command: Command) -> Reply | Action:
        self._protection = command.protection or self._protection
        verb = self._table.get(command.verb)
        if verb is None:
            return _UNKNOWN
        if self.dialogue.stage not in verb.stages:
            return self._out_of_order()
        try:
            return verb.handler(self.dialogue, command.argument)
        except MdmError as error:
            return self._refuse(error)

    def _out_of_order(self) -> Reply:
        if self.dialogue.stage in (Stage.GREETED, Stage.TOKENS):
            return Reply.of(530, "Log in first: AUTH GSSAPI.")
        if self.dialogue.stage is Stage.OPEN:
            return Reply.of(503, "You are logged in already.")
        return Reply.of(530, "Log in first: USER and PASS.")

    def _end(self, reply: Reply) -> None:
        if not self.closed:
            self.reply(reply)
            self.dialogue.close()

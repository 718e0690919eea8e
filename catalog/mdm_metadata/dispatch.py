"""From the words of a command to the bytes of its reply: look up, run, audit, answer.

The audit event is durable before the answer is sent. It has the collections and the rule that decided
and never a word of the command but its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mdm_metadata.access import Access
from mdm_metadata.codes import CODES
from mdm_metadata.commands import COMMANDS, Command, Session, Upload
from mdm_metadata.settings import MetadataSettings
from mdm_metadata.tree import Collections
from srm_dicom.audit.doors import DoorLog
from srm_dicom.audit.event import Action, Event, Outcome, printable
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.errors import MdmError, NotAuthorised, NotFound
from srm_dicom.identity.principal import BREAK_GLASS, Principal
from srm_dicom.rights.declare import OpenAccess, Right
from srm_dicom.rights.enumeration import Guesses, Patience
from srm_dicom.wire import amga

_MAX_OBJECTS = 200
_ACTIONS: Mapping[Right, Action] = {
    Right.METADATA_SEARCH: Action.QUERY,
    Right.METADATA_NOMINATIVE: Action.QUERY,
    Right.METADATA_WRITE: Action.DECISION,
    Right.METADATA_ADMIN: Action.ADMINISTRATIVE,
}
_CHANGE_RIGHTS = frozenset({"acl_add", "acl_remove", "setacl", "setvalidity"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply and what may be logged of it.

    Attributes:
        data: for the wire; empty when no reply is due.
        verb: the command's name, empty for one that does not exist.
    """

    data: bytes
    verb: str
    code: amga.Code
    rows: int = 0


class Dispatcher:
    """Answers the commands of every session of one server."""

    def __init__(
        self, collections: Collections, settings: MetadataSettings, audit: AuditLog, clock: Clock
    ) -> None:
        self._collections = collections
        self._settings = settings
        self._audit = audit
        self._clock = clock
        self._guesses = Guesses(Patience(settings.misses_per_minute), clock)
        self.door = DoorLog(audit, "metadata", clock)

    def session(self, principal: Principal) -> Session:
        """Begin a caller's conversation."""
        return Session(
            self._collections,
            self._settings,
            self._clock,
            principal.dn,
            self._access(principal),
            principal.expires,
        )

    def answer(self, session: Session, principal: Principal, words: Sequence[str]) -> Answer:
        """Run one command.

        Raises:
            MdmError: the audit log does not take the event; nothing may be answered then but that.
        """
        command = COMMANDS.get(words[0].lower()) if words else None
        if command is None:
            return _refusal("", amga.Refused(amga.Code.ILLEGAL_COMMAND, "no such command"))
        session.access = self._access(principal)
        try:
            self._guesses.admit(principal.dn)
            rows = list(_run(command, session, words[1:]))
        except (amga.Refused, MdmError) as error:
            self._note(principal, error)
            self._record(command, session, principal, _outcome(error))
            answer = _refusal(command.name, error)
            return Answer(b"", command.name, answer.code) if command.silent else answer
        self._record(command, session, principal, Outcome.ALLOWED)
        data = b"" if command.silent else amga.reply(amga.Code.OK, rows=rows)
        return Answer(data, command.name, amga.Code.OK, len(rows))

    def _access(self, principal: Principal) -> Access:
        is_registrar = self._is_registrar(principal)
        return Access(self._collections, principal, self._clock, is_registrar=is_registrar)

    def _is_registrar(self, principal: Principal) -> bool:
        return principal.dn in self._settings.registrars

    def _note(self, principal: Principal, error: amga.Refused | MdmError) -> None:
        """Count an answer that a caller may have guessed for."""
        absent = isinstance(error, NotFound) or (
            isinstance(error, amga.Refused) and error.code is amga.Code.NO_SUCH_ATTRIBUTE
        )
        if absent and not self._is_registrar(principal):
            self._guesses.missed(principal.dn)

    def _record(self, command: Command, session: Session, principal: Principal, outcome: Outcome) -> None:
        seen = session.access.seen
        if isinstance(command.right, OpenAccess) or (outcome is Outcome.ALLOWED and not seen.rules):
            return
        self._audit.record(
            Event.by(
                principal,
                Action.RIGHTS_CHANGED if command.name in _CHANGE_RIGHTS else _ACTIONS[command.right],
                outcome,
                operation=command.name,
                objects=tuple(dict.fromkeys(seen.paths))[:_MAX_OBJECTS],
                rule=printable(_rule(seen.rules)),
            )
        )


def _rule(rules: Sequence[str]) -> str:
    """Return the rule of an event: the last that decided, but that the glass was broken is never left out."""
    if BREAK_GLASS in rules:
        return BREAK_GLASS
    return rules[-1] if rules else "nothing that exists for this caller"


def _run(command: Command, session: Session, args: Sequence[str]) -> Iterable[str]:
    if command.accepts(len(args)):
        return command.run(session, args)
    misused = amga.Refused(amga.Code.ILLEGAL_COMMAND, command.usage)
    if command.silent:
        session.upload = Upload(None, (), failure=misused)
    raise misused


def refusal(error: amga.Refused | MdmError) -> bytes:
    """Return the reply to a command that was refused."""
    code = error.code if isinstance(error, amga.Refused) else CODES[type(error)]
    return amga.reply(code, error.text if isinstance(error, amga.Refused) else error.message)


def _refusal(verb: str, error: amga.Refused | MdmError) -> Answer:
    code = error.code if isinstance(error, amga.Refused) else CODES[type(error)]
    return Answer(refusal(error), verb, code)


def _outcome(error: amga.Refused | MdmError) -> Outcome:
    denied = isinstance(error, amga.Refused | NotAuthorised | NotFound)
    return Outcome.DENIED if denied else Outcome.FAILED

"""From the words of a command to the bytes of its reply: look up, run, audit, answer.

The audit event is durable before the answer is sent. It has the collections and the rule that decided
and never a word of the command but its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mdm_metadata.access import Access
from mdm_metadata.codes import CODES
from mdm_metadata.commands import COMMANDS, Command, Session, Upload
from mdm_metadata.settings import MetadataSettings
from mdm_metadata.tree import Collections
from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.errors import MdmError, NotAuthorised, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.declare import OpenAccess
from srm_dicom.wire import amga

_MAX_OBJECTS = 200
_MAX_RULE_CHARS = 400


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
            rows = list(_run(command, session, words[1:]))
        except (amga.Refused, MdmError) as error:
            self._record(command, session, principal, _outcome(error))
            answer = _refusal(command.name, error)
            return Answer(b"", command.name, answer.code) if command.silent else answer
        self._record(command, session, principal, Outcome.ALLOWED)
        data = b"" if command.silent else amga.reply(amga.Code.OK, rows=rows)
        return Answer(data, command.name, amga.Code.OK, len(rows))

    def _access(self, principal: Principal) -> Access:
        is_registrar = principal.dn in self._settings.registrars
        return Access(self._collections, principal, self._clock, is_registrar=is_registrar)

    def _record(self, command: Command, session: Session, principal: Principal, outcome: Outcome) -> None:
        seen = session.access.seen
        if isinstance(command.right, OpenAccess) or (outcome is Outcome.ALLOWED and not seen.rules):
            return
        rule = f"{command.name}: {seen.rules[-1] if seen.rules else 'nothing that exists for this caller'}"
        ascii_rule = rule.encode("ascii", "backslashreplace").decode()[:_MAX_RULE_CHARS]
        objects = tuple(dict.fromkeys(seen.paths))[:_MAX_OBJECTS]
        self._audit.record(Event.by(principal, Action.DECISION, outcome, objects=objects, rule=ascii_rule))


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

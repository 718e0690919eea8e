"""May they: the key right, decided on this server's own ACLs and audited before anything happens.

Default deny. An id that does not exist and a key that the caller has no right to give the same answer,
unless the caller may create keys. A limited proxy, as batch jobs carry it, may fetch and nothing else,
and only keys that let jobs in: Hydra's ``x`` beside ``g``. Who guesses ids, or fetches too fast, is told
to come back later; it is audited too, within the bound of a door's refusals, and so is whose records or
orders are refused for what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from mdm_keys.store import Key, KeyStore
from srm_dicom.audit.doors import DoorLog
from srm_dicom.audit.event import Action, Event, Outcome, printable
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import SystemClock
from srm_dicom.errors import MdmError, NotAuthorised, NotFound, Overloaded, RequestExpired
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.declare import Right
from srm_dicom.rights.enumeration import Guesses, Patience
from srm_dicom.rights.evaluate import Decision, decide
from srm_dicom.wire.hydra.contract import LETTERS

Spend = Callable[[Principal, Collection[Key], str], None]
"""Charges keys to a caller and their projects for an operation; raises `BudgetExhausted`."""

_JOBS = "x"
_TOLD = 20
"""Ids in the event of a call that a limit has refused, which may be as large as it likes."""

_UNKNOWN = Decision(allowed=False, rule="no such key")
_OVER = Decision(allowed=False, rule="the key was for a time that is over")
_NO_PROJECTS: Mapping[str, str] = {}

_ACTIONS: Mapping[Right, Action] = {
    Right.KEY_FETCH: Action.KEY_RELEASED,
    Right.KEY_ADMIN: Action.RIGHTS_CHANGED,
}
_LOOKS = ("getPermission", "listAttributes", "describeKeys")
"""Operations that change nothing and release nothing, whatever right they take."""


class Access:
    """Sorts the keys of one call into those that the caller may have and those that it may not."""

    def __init__(
        self,
        store: KeyStore,
        audit: AuditLog,
        creators: frozenset[str],
        guesses: Guesses | None = None,
        spend: Spend | None = None,
        door: DoorLog | None = None,
    ) -> None:
        """Decide with the ACLs of `store`.

        Args:
            store: the keys.
            audit: every decision is in it before anything happens.
            creators: DNs and FQANs that may make keys.
            guesses: counts the ids that callers try in vain.
            spend: charges keys that are about to be released to the caller's daily budget and the projects'.
            door: takes down who is told to come back later.
        """
        self._store = store
        self._audit = audit
        self._creators = creators
        self._guesses = guesses or Guesses(Patience(), SystemClock())
        self._spend = spend
        self._door = door or DoorLog(audit, "keys", SystemClock())

    def creator(self, principal: Principal) -> Decision:
        """Tell whether a caller may make keys."""
        if principal.limited:
            return Decision(allowed=False, rule="a limited proxy may only fetch")
        named = self._creators & {principal.dn, *principal.fqans}
        rule = f"creator {min(named)}" if named else "the caller is not among the creators"
        return Decision(bool(named), rule)

    def require_creator(
        self,
        operation: str,
        principal: Principal,
        ids: Sequence[str],
        projects: Mapping[str, str] = _NO_PROJECTS,
    ) -> None:
        """Refuse a caller who may not make keys.

        Args:
            operation: what it calls.
            principal: who it is.
            ids: of the keys.
            projects: of those keys whose project is known.

        Raises:
            NotAuthorised: that is so.
        """
        decision = self.creator(principal)
        ruled = _ruled((key_id, decision, projects.get(key_id, "")) for key_id in ids)
        self._record(operation, principal, Action.ADMINISTRATIVE, ruled or {(decision, ""): []})
        if not decision.allowed:
            raise NotAuthorised("the caller may not make keys here")

    def sort(
        self,
        operation: str,
        principal: Principal,
        ids: Sequence[str],
        right: Right,
        now: datetime | None = None,
    ) -> tuple[dict[str, Key], dict[str, MdmError]]:
        """Return the keys that the caller has a right to, and an error for each of the others.

        Args:
            operation: what it calls.
            principal: who it is.
            ids: of the keys.
            right: that it takes.
            now: refuses keys whose time is over then; None asks for no time.

        Raises:
            Overloaded: the caller has guessed too many ids.
            BudgetExhausted: the caller may fetch no more keys today, or nobody may of a project; none is
                released then.
        """
        action = Action.QUERY if operation in _LOOKS else _ACTIONS.get(right, Action.ADMINISTRATIVE)
        with self._limited(operation, principal, action, ids):
            self._guesses.admit(principal.dn)
        keys = self._store.find(ids)
        decisions = self._decisions(keys.values(), principal, right)
        allowed = {key_id: keys[key_id] for key_id, decision in decisions.items() if decision.allowed}
        over = [key_id for key_id, key in allowed.items() if now is not None and key.is_over(now)]
        for key_id in over:
            decisions[key_id] = _OVER
            del allowed[key_id]
        if action is Action.KEY_RELEASED and allowed and self._spend is not None:
            with self._limited(operation, principal, action, list(allowed)):
                self._spend(principal, allowed.values(), operation)
        ruled = _ruled((key.id, decisions[key.id], key.project) for key in keys.values())
        if len(keys) < len(ids):
            ruled[_UNKNOWN, ""] = [key_id for key_id in ids if key_id not in keys]
        self._record(operation, principal, action, ruled)
        refused = [key_id for key_id in ids if key_id not in allowed]
        self._missed(principal, len(refused) - len(over))
        errors = {key_id: self._refusal(key_id, keys, principal) for key_id in refused}
        return allowed, errors | {key_id: RequestExpired(_OVER.rule) for key_id in over}

    def require(
        self,
        operation: str,
        principal: Principal,
        ids: Sequence[str],
        right: Right,
        now: datetime | None = None,
    ) -> dict[str, Key]:
        """Return all these keys, or refuse the call for the first that the caller has no right to.

        Raises:
            NotAuthorised: no right to one of them, or no such key.
            NotFound: no such key; told to creators only.
            RequestExpired: the time of one of them is over.
            Overloaded, BudgetExhausted: as for `sort`.
        """
        allowed, refused = self.sort(operation, principal, ids, right, now)
        for error in refused.values():
            raise error
        return allowed

    def require_letters(
        self, operation: str, principal: Principal, ids: Sequence[str], letters: frozenset[str]
    ) -> None:
        """Refuse a caller who does not have every one of these permissions on every key.

        Raises:
            NotAuthorised: that is so, or there is no such key.
            Overloaded: as for `sort`.
        """
        with self._limited(operation, principal, Action.QUERY, ids):
            self._guesses.admit(principal.dn)
        keys = self._store.find(ids)
        lacking = Decision(allowed=False, rule=f"the caller does not have {''.join(sorted(letters))}")
        refused = [
            (key_id, lacking, keys[key_id].project) if key_id in keys else (key_id, _UNKNOWN, "")
            for key_id in ids
            if key_id not in keys or not letters <= self.letters(keys[key_id], principal)
        ]
        if refused:
            self._record(operation, principal, Action.QUERY, _ruled(refused))
            self._missed(principal, len(refused))
            raise NotAuthorised("no such key, or the caller does not have these permissions")

    def turned_away(
        self, operation: str, principal: Principal, error: MdmError, ids: Sequence[str] = ()
    ) -> None:
        """Take down that a record or an order was refused for what it is, whoever brought it."""
        self._door.denied(
            Event.by(
                principal,
                Action.ADMINISTRATIVE,
                Outcome.DENIED,
                operation=operation,
                objects=tuple(ids[:_TOLD]),
                rule=printable(error.message),
            )
        )

    @contextmanager
    def _limited(
        self, operation: str, principal: Principal, action: Action, ids: Sequence[str]
    ) -> Iterator[None]:
        """Run a block that may tell the caller to come back later, and take it down when it does."""
        try:
            yield
        except Overloaded as error:
            rule = printable(f"{error.message}: {len(ids)} keys")
            told = tuple(ids[:_TOLD])
            self._door.denied(
                Event.by(principal, action, Outcome.DENIED, operation=operation, objects=told, rule=rule)
            )
            raise

    def _missed(self, principal: Principal, count: int) -> None:
        """Count ids that were asked for in vain; who makes keys may ask for any."""
        if count and not self.creator(principal).allowed:
            self._guesses.missed(principal.dn, count)

    def _decisions(self, keys: Collection[Key], principal: Principal, right: Right) -> dict[str, Decision]:
        """Decide about keys; those of a project have one owner and one ACL, which is asked once."""
        made: dict[tuple[int, str, str], Decision] = {}
        decisions = {}
        for key in keys:
            alike = (id(key.acl), key.owner, key.group)
            if alike not in made:
                made[alike] = self.decide(key, principal, right)
            decisions[key.id] = made[alike]
        return decisions

    @staticmethod
    def decide(key: Key, principal: Principal, right: Right) -> Decision:
        """Decide about one key."""
        acl = key.effective_acl()
        if principal.limited and right is not Right.KEY_FETCH:
            return Decision(allowed=False, rule="a limited proxy may only fetch")
        if principal.limited and not decide(acl, key.owner, principal, _JOBS).allowed:
            return Decision(allowed=False, rule="the key is not for jobs: a limited proxy may not fetch it")
        return decide(acl, key.owner, principal, right.value.partition(":")[2])

    @classmethod
    def letters(cls, key: Key, principal: Principal) -> frozenset[str]:
        """Return every permission that a caller has on a key."""
        if principal.limited:
            return frozenset("g" if cls.decide(key, principal, Right.KEY_FETCH).allowed else "")
        acl = key.effective_acl()
        return frozenset(letter for letter in LETTERS if decide(acl, key.owner, principal, letter).allowed)

    def _refusal(self, key_id: str, keys: Mapping[str, Key], principal: Principal) -> MdmError:
        if key_id not in keys and self.creator(principal).allowed:
            return NotFound("no such key")
        return NotAuthorised("no such key, or the caller has no right to it")

    def _record(
        self,
        operation: str,
        principal: Principal,
        action: Action,
        ruled: Mapping[tuple[Decision, str], Sequence[str]],
    ) -> None:
        """Write one event a decision and project, all together."""
        events = [
            Event.by(
                principal,
                action,
                Outcome.ALLOWED if decision.allowed else Outcome.DENIED,
                operation=operation,
                project=project,
                objects=tuple(ids),
                rule=printable(decision.rule),
            )
            for (decision, project), ids in ruled.items()
        ]
        self._audit.record(*events)


def _ruled(decisions: Iterable[tuple[str, Decision, str]]) -> dict[tuple[Decision, str], list[str]]:
    """Return the ids of keys by what was decided about them and by their project, in a fixed order."""
    ruled: dict[tuple[Decision, str], list[str]] = {}
    for key_id, decision, project in decisions:
        ruled.setdefault((decision, project), []).append(key_id)
    return dict(sorted(ruled.items()))

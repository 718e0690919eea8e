"""May they: the key right, decided on this server's own ACLs and audited before anything happens.

Default deny. An id that does not exist and a key that the caller has no right to give the same answer,
unless the caller may create keys. A limited proxy may fetch and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mdm_keys.store import Key, KeyStore
from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.errors import MdmError, NotAuthorised, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.declare import Right
from srm_dicom.rights.evaluate import Decision, decide
from srm_dicom.wire.hydra.contract import LETTERS

_ACTIONS: Mapping[Right, Action] = {
    Right.KEY_FETCH: Action.KEY_RELEASED,
    Right.KEY_ADMIN: Action.RIGHTS_CHANGED,
}


class Access:
    """Sorts the keys of one call into those that the caller may have and those that it may not."""

    def __init__(self, store: KeyStore, audit: AuditLog, creators: frozenset[str]) -> None:
        """Decide with the ACLs of `store`; `creators` are the DNs and FQANs that may make keys."""
        self._store = store
        self._audit = audit
        self._creators = creators

    def creator(self, principal: Principal) -> Decision:
        """Tell whether a caller may make keys."""
        if principal.limited:
            return Decision(allowed=False, rule="a limited proxy may only fetch")
        named = self._creators & {principal.dn, *principal.fqans}
        rule = f"creator {min(named)}" if named else "the caller is not among the creators"
        return Decision(bool(named), rule)

    def require_creator(self, operation: str, principal: Principal, ids: Sequence[str]) -> None:
        """Refuse a caller who may not make keys.

        Raises:
            NotAuthorised: that is so.
        """
        decision = self.creator(principal)
        self._record(operation, principal, Action.ADMINISTRATIVE, decision, ids)
        if not decision.allowed:
            raise NotAuthorised("the caller may not make keys here")

    def sort(
        self, operation: str, principal: Principal, ids: Sequence[str], right: Right
    ) -> tuple[dict[str, Key], dict[str, MdmError]]:
        """Return the keys that the caller has a right to, and an error for each of the others."""
        keys = self._store.find(ids)
        decisions = {key.id: self.decide(key, principal, right) for key in keys.values()}
        allowed = {key_id: keys[key_id] for key_id, decision in decisions.items() if decision.allowed}
        action = _ACTIONS.get(right, Action.ADMINISTRATIVE)
        for decision in sorted(set(decisions.values()), key=lambda one: one.rule):
            ruled = [key_id for key_id, its_decision in decisions.items() if its_decision == decision]
            self._record(operation, principal, action, decision, ruled)
        unknown = [key_id for key_id in ids if key_id not in keys]
        if unknown:
            self._record(operation, principal, action, Decision(allowed=False, rule="no such key"), unknown)
        refused = (key_id for key_id in ids if key_id not in allowed)
        return allowed, {key_id: self._refusal(key_id, keys, principal) for key_id in refused}

    def require(
        self, operation: str, principal: Principal, ids: Sequence[str], right: Right
    ) -> dict[str, Key]:
        """Return all these keys, or refuse the call for the first that the caller has no right to.

        Raises:
            NotAuthorised: no right to one of them, or no such key.
            NotFound: no such key; told to creators only.
        """
        allowed, refused = self.sort(operation, principal, ids, right)
        for error in refused.values():
            raise error
        return allowed

    @staticmethod
    def decide(key: Key, principal: Principal, right: Right) -> Decision:
        """Decide about one key."""
        if principal.limited and right is not Right.KEY_FETCH:
            return Decision(allowed=False, rule="a limited proxy may only fetch")
        return decide(key.effective_acl(), key.owner, principal, right.value.partition(":")[2])

    @staticmethod
    def letters(key: Key, principal: Principal) -> frozenset[str]:
        """Return every permission that a caller has on a key."""
        asked = "g" if principal.limited else LETTERS
        acl = key.effective_acl()
        return frozenset(letter for letter in asked if decide(acl, key.owner, principal, letter).allowed)

    def _refusal(self, key_id: str, keys: Mapping[str, Key], principal: Principal) -> MdmError:
        if key_id not in keys and self.creator(principal).allowed:
            return NotFound("no such key")
        return NotAuthorised("no such key, or the caller has no right to it")

    def _record(
        self, operation: str, principal: Principal, action: Action, decision: Decision, ids: Sequence[str]
    ) -> None:
        outcome = Outcome.ALLOWED if decision.allowed else Outcome.DENIED
        rule = decision.rule.encode("ascii", "backslashreplace").decode()[:400]
        self._audit.record(
            Event.by(principal, action, outcome, operation=operation, objects=tuple(ids), rule=rule)
        )

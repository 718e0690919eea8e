"""The file right: the namespace ACL, asked by every door and by nothing else.

Existence is secret. A name that the caller may not read is answered as if it were not there, unless
the caller may list the directory that holds it. On a directory `r` shows every name, and `x` lets
through to what is the caller's own: of such a directory a listing shows only what the caller may read
or pass. What belongs to a project that has ended is granted to nobody. Who guesses names is told to come
back later (`rights.enumeration`); what a listing would have told is no guess. Who comes with a token is
told that its scope does not cover a name, whether or not that is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn

from srm_dicom.audit.event import Action, Event, Outcome, is_object
from srm_dicom.audit.log import AuditLog
from srm_dicom.broker.areas import Areas
from srm_dicom.broker.verdicts import ABSENT, Verdict, events
from srm_dicom.clock import Clock
from srm_dicom.errors import IsADirectory, MdmError, NotADirectory, NotAuthorised, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import PASS, READ, REPLACE, SEE, WRITE, refusal
from srm_dicom.ids import SitePath, parent
from srm_dicom.rights.enumeration import Guesses, Patience
from srm_dicom.rights.evaluate import OUT_OF_SCOPE, Decision, decide
from srm_dicom.rights.project import Project
from srm_dicom.store.bundles import find_bundle
from srm_dicom.store.namespace import Entry, Namespace

_LIMITED = "a limited credential hands in no images"


class FileAccess:
    """Decides about names of the namespace."""

    def __init__(
        self,
        namespace: Namespace,
        projects: Mapping[str, Project],
        audit: AuditLog,
        clock: Clock,
        guesses: Guesses | None = None,
        areas: Areas | None = None,
    ) -> None:
        self._namespace = namespace
        self._projects = projects
        self._audit = audit
        self._clock = clock
        self._guesses = guesses or Guesses(Patience(), clock)
        self._areas = areas or Areas()

    def files(self, principal: Principal, paths: Sequence[SitePath], operation: str) -> list[Verdict]:
        """Decide about reading files, in their order; one audit event for all of them.

        Raises:
            Overloaded: the caller has asked for too many names that are not there.
        """
        verdicts = self._decided(principal, paths)
        self._audit.record(*events(self._areas, principal, verdicts, operation, Action.DECISION))
        return verdicts

    @contextmanager
    def deciding(
        self, principal: Principal, paths: Sequence[SitePath], operation: str, scope: str = READ
    ) -> Iterator[list[Verdict]]:
        """Decide as `files`, and prepare the answer while the audit is written; it is once this is left.

        Args:
            principal: who asks.
            paths: for what.
            operation: what the audit calls it.
            scope: what a token has to leave, for reading or for staging.

        Raises:
            Overloaded: as for `files`.
            MdmError: the audit could not be written; what was prepared must be undone.
        """
        verdicts = self._decided(principal, paths, scope)
        with self._audit.recording(*events(self._areas, principal, verdicts, operation, Action.DECISION)):
            yield verdicts

    def file(self, principal: Principal, path: SitePath, operation: str) -> tuple[Entry, str]:
        """Return a file that the caller may read, and the rule that says so.

        Raises:
            NotFound: it is not there, or the caller may not learn that it is.
            NotAuthorised: the caller may list the directory and not read this.
            IsADirectory: the name is a directory that the caller may see.
            Overloaded: as for `files`.
        """
        verdict = self.files(principal, [path], operation)[0]
        if verdict.entry is None:
            raise verdict.error or NotFound(ABSENT)
        return verdict.entry, verdict.rule

    def seen(
        self, principal: Principal, paths: Sequence[SitePath], operation: str, scope: str = SEE
    ) -> list[Verdict]:
        """Decide about seeing names, sizes and kinds, in their order; one audit event for all of them.

        Args:
            principal: who asks.
            paths: for what.
            operation: what the audit calls it.
            scope: what a token has to leave; where all that is asked is what is online, `POLL`.

        Raises:
            Overloaded: as for `files`.
        """
        entries = self._entries(principal, paths)
        verdicts = [self._seen(principal, path, entries, scope) for path in paths]
        self._record(principal, verdicts, operation, Action.QUERY)
        return verdicts

    def visible(self, principal: Principal, path: SitePath, operation: str) -> Entry:
        """Return an entry whose name, size and kind the caller may see.

        Raises:
            NotFound, NotAuthorised, Overloaded: as for `file`.
        """
        (verdict,) = self.seen(principal, [path], operation)
        if verdict.entry is None:
            raise verdict.error or NotFound(ABSENT)
        return verdict.entry

    def writable(
        self, principal: Principal, paths: Sequence[SitePath], operation: str, scope: str = WRITE
    ) -> list[Verdict]:
        """Decide about making, changing or removing names; an entry is the directory that has the name.

        Args:
            principal: who asks.
            paths: for what.
            operation: what the audit calls it.
            scope: what a token has to leave: `WRITE`, `REPLACE` or `LEAD`.

        Raises:
            Overloaded: as for `files`.
        """
        entries = self._entries(principal, [parent(path) for path in paths])
        verdicts = [self._writable(principal, path, entries, scope) for path in paths]
        # A name that was refused is a string that a user typed: what was decided about is its directory.
        told = [one if one.entry else replace(one, path=parent(one.path)) for one in verdicts]
        self._record(principal, told, operation, Action.DECISION)
        return verdicts

    def cover(self, principal: Principal, paths: Sequence[SitePath], operation: str, scope: str) -> None:
        """Refuse names all together if the caller's token does not leave a permission on each of them.

        Raises:
            NotAuthorised: it does not.
        """
        outside = [path for path in paths if not principal.in_scope(scope, path)]
        if outside:
            error, there = refusal(scope), self._namespace.find_many(outside)
            rules = [OUT_OF_SCOPE if path in there else ABSENT for path in outside]
            told = [Verdict(path, None, error, rule) for path, rule in zip(outside, rules, strict=True)]
            self._refuse(principal, told, operation, error)

    def may_see(self, principal: Principal, entry: Entry) -> bool:
        """Tell whether name, size and kind may be known."""
        return self._sight(principal, entry, SEE).allowed

    def may_list(self, principal: Principal, directory: Entry) -> bool:
        """Tell whether every name in a directory may be known."""
        return self._allows(principal, directory, "r", None, SEE).allowed

    def may_write(self, principal: Principal, entry: Entry) -> bool:
        """Tell whether the bytes of a file may be replaced, or the names in a directory changed."""
        scope = WRITE if entry.is_directory else REPLACE
        return self._allows(principal, entry, "w", None, scope).allowed

    def require_writable(self, principal: Principal, entry: Entry, operation: str, why_not: str) -> None:
        """Refuse what `may_write` does not allow, in these words.

        Raises:
            NotAuthorised: it is not allowed.
        """
        if not self.may_write(principal, entry):
            error = NotAuthorised(why_not)
            self._refuse(principal, [Verdict(entry.path, None, error, why_not)], operation, error)

    def may_change_name(
        self, principal: Principal, directory: Entry | None, path: SitePath, scope: str = WRITE
    ) -> bool:
        """Tell whether a name in a directory may be made or, with `REPLACE`, removed."""
        return directory is not None and self._allows(principal, directory, "w", path, scope).allowed

    def above(self, path: SitePath) -> Entry | None:
        """Return the directory that has a name; what may be told of it is not decided by this."""
        return self._namespace.find(parent(path))

    def administer(self, principal: Principal, entry: Entry, operation: str) -> None:
        """Let the owner of a name change its ACL, with a whole credential; jobs and tokens never administer.

        Raises:
            NotAuthorised: it is not the caller's, or the credential is limited.
        """
        if entry.owner != principal.dn or principal.emergency:
            error = NotAuthorised("only the owner changes permissions")
        elif principal.limited:
            error = NotAuthorised(
                "a limited credential changes no permissions", advice="Use a proxy that is not limited."
            )
        else:
            return
        self._refuse(principal, [Verdict(entry.path, None, error)], operation, error)

    def changed(self, principal: Principal, path: SitePath, operation: str) -> None:
        """Record that a caller has changed the rights of a name."""
        objects = (path,) if is_object(path) else ()
        self._audit.record(
            Event.by(principal, Action.RIGHTS_CHANGED, Outcome.ALLOWED, operation=operation, objects=objects)
        )

    def children(self, principal: Principal, directory: Entry) -> list[Entry]:
        """Return what the caller may know of a directory's entries, in order of name.

        An entry that the caller may not see is left out, or (with `r` on the directory) is there for
        its name only: `shown` tells which.
        """
        entries = self._namespace.children(directory.path)
        if self.may_list(principal, directory):
            return entries
        return self.shown(principal, entries)

    def shown(self, principal: Principal, entries: Sequence[Entry]) -> list[Entry]:
        """Return those entries of which details may be shown.

        What has the same ACL object, owner, kind and release as another has the same answer, unless the
        caller's token speaks of paths.
        """
        answers: dict[object, bool] = {}
        chosen = []
        for entry in entries:
            if principal.scopes is not None or entry.members:
                allowed = self.may_see(principal, entry)
            else:
                key = (id(entry.acl), entry.owner, entry.kind, id(entry.release))
                known = answers.get(key)
                allowed = answers[key] = self.may_see(principal, entry) if known is None else known
            if allowed:
                chosen.append(entry)
        return chosen

    def explain(self, principal: Principal, path: SitePath) -> Decision:
        """Say which rule decides about reading a name, for the administrator."""
        entry = self._namespace.find(path) or find_bundle(self._namespace, path)
        if entry is None:
            return Decision(allowed=False, rule="there is no such name")
        return self._reading(principal, entry, READ)

    def _entries(self, principal: Principal, paths: Sequence[SitePath]) -> Mapping[SitePath, Entry]:
        """Return what there is of some names and of the directories that have them.

        Raises:
            Overloaded: the caller has asked for too many names that are not there.
        """
        self._guesses.admit(principal.dn)
        wanted = [*paths, *(parent(path) for path in paths)]
        return self._namespace.find_many(list(dict.fromkeys(wanted)))

    def _decided(self, principal: Principal, paths: Sequence[SitePath], scope: str = READ) -> list[Verdict]:
        entries = self._entries(principal, paths)
        verdicts = [self._file(principal, path, entries, scope) for path in paths]
        self._missed(principal, verdicts)
        return verdicts

    def _file(
        self, principal: Principal, path: SitePath, entries: Mapping[SitePath, Entry], scope: str
    ) -> Verdict:
        verdict = self._seen(principal, path, entries, SEE)
        if verdict.entry is None:
            return verdict
        if verdict.entry.is_directory:
            return Verdict(path, None, IsADirectory("this is a directory"), verdict.rule)
        if principal.scopes is not None and not self._reading(principal, verdict.entry, scope).allowed:
            return Verdict(path, None, refusal(scope), OUT_OF_SCOPE)
        return verdict

    def _writable(
        self, principal: Principal, path: SitePath, entries: Mapping[SitePath, Entry], scope: str
    ) -> Verdict:
        verdict = self._seen(principal, parent(path), entries, SEE)
        if verdict.entry is None:
            return replace(verdict, path=path)
        if not verdict.entry.is_directory:
            return Verdict(path, None, NotADirectory("a file has no names below it"), verdict.rule)
        decision = self._allows(principal, verdict.entry, "w", path, scope)
        if decision.allowed:
            return Verdict(path, verdict.entry, None, decision.rule)
        errors = {
            OUT_OF_SCOPE: refusal(scope),
            _LIMITED: NotAuthorised(_LIMITED, advice="Use a certificate, or a proxy that is not limited."),
        }
        error = errors.get(decision.rule) or NotAuthorised("you may not write in this directory")
        return Verdict(path, None, error, decision.rule)

    def _seen(
        self, principal: Principal, path: SitePath, entries: Mapping[SitePath, Entry], scope: str
    ) -> Verdict:
        entry = entries.get(path) or find_bundle(self._namespace, path)
        if entry is None:
            return self._refused(principal, path, entries, scope, ABSENT)
        decision = self._sight(principal, entry, scope)
        if not decision.allowed:
            return self._refused(principal, path, entries, scope, decision.rule)
        return Verdict(path, entry, None, decision.rule)

    def _refused(
        self, principal: Principal, path: SitePath, entries: Mapping[SitePath, Entry], scope: str, rule: str
    ) -> Verdict:
        if not principal.in_scope(scope, path) and not principal.in_scope(PASS, path):
            return Verdict(path, None, refusal(scope), rule)
        above = entries.get(parent(path))
        is_listed = above is not None and self.may_list(principal, above)
        if path in entries and is_listed:
            return Verdict(path, None, NotAuthorised("the file right is missing"), rule)
        return Verdict(path, None, NotFound(ABSENT), rule, guessed=not is_listed)

    def _sight(self, principal: Principal, entry: Entry, scope: str) -> Decision:
        decision = self._reading(principal, entry, scope)
        if decision.allowed or not entry.is_directory:
            return decision
        return self._allows(principal, entry, "x")

    def _reading(self, principal: Principal, entry: Entry, scope: str) -> Decision:
        """Decide about reading a name: of what is made of others, every one decides."""
        for file in entry.files:
            decision = self._allows(principal, file, "r", None, scope)
            if not decision.allowed:
                break
        return decision

    def _allows(
        self,
        principal: Principal,
        entry: Entry,
        permission: str,
        path: SitePath | None = None,
        scope: str | None = None,
    ) -> Decision:
        """Decide; `path` and `scope` are what a token must cover if not the entry's path and `permission`."""
        if entry.release is not None:
            project = self._projects.get(entry.release.project)
            if project is None or not project.valid(self._clock.now()):
                return Decision(allowed=False, rule="the project has ended")
        if permission == "w" and principal.limited and self._areas.seal(entry.path):
            return Decision(allowed=False, rule=_LIMITED)
        return decide(entry.acl, entry.owner, principal, permission, path or entry.path, scope)

    def _record(
        self, principal: Principal, verdicts: Sequence[Verdict], operation: str, action: Action
    ) -> None:
        self._audit.record(*events(self._areas, principal, verdicts, operation, action))
        self._missed(principal, verdicts)

    def _refuse(
        self, principal: Principal, told: Sequence[Verdict], operation: str, error: MdmError
    ) -> NoReturn:
        self._record(principal, told, operation, Action.DECISION)
        raise error

    def _missed(self, principal: Principal, verdicts: Sequence[Verdict]) -> None:
        self._guesses.missed(principal.dn, sum(one.guessed for one in verdicts))

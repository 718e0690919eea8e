"""The file right: the namespace ACL, asked by every door and by nothing else.

Existence is secret. A name that the caller may not read is answered as if it were not there, unless
the caller may list the directory that holds it. On a directory `r` shows every name, and `x` lets
through to what is the caller's own: of such a directory a listing shows only what the caller may read
or pass. What belongs to a project that has ended is granted to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from srm_dicom.audit.event import Action, Event, Outcome
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.errors import IsADirectory, MdmError, NotAuthorised, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath, parent
from srm_dicom.rights.evaluate import Decision, decide
from srm_dicom.rights.project import Project
from srm_dicom.store.namespace import Entry, Namespace

_ABSENT = "no such file or directory"
MAX_RULE_CHARS = 400


@dataclass(frozen=True, slots=True)
class Verdict:
    """One name: the entry that may be used, or the error to answer; never both."""

    path: SitePath
    entry: Entry | None
    error: MdmError | None
    rule: str = ""


class FileAccess:
    """Decides about names of the namespace."""

    def __init__(
        self, namespace: Namespace, projects: Mapping[str, Project], audit: AuditLog, clock: Clock
    ) -> None:
        self._namespace = namespace
        self._projects = projects
        self._audit = audit
        self._clock = clock

    def files(self, principal: Principal, paths: Sequence[SitePath], operation: str) -> list[Verdict]:
        """Decide about reading files, in their order; one audit event for all of them."""
        wanted = [*paths, *(parent(path) for path in paths)]
        entries = self._namespace.find_many(list(dict.fromkeys(wanted)))
        verdicts = [self._file(principal, path, entries) for path in paths]
        self._record(principal, verdicts, operation)
        return verdicts

    def file(self, principal: Principal, path: SitePath, operation: str) -> Entry:
        """Return a file that the caller may read.

        Raises:
            NotFound: it is not there, or the caller may not learn that it is.
            NotAuthorised: the caller may list the directory and not read this.
            IsADirectory: the name is a directory that the caller may see.
        """
        verdict = self.files(principal, [path], operation)[0]
        if verdict.entry is None:
            raise verdict.error or NotFound(_ABSENT)
        return verdict.entry

    def visible(self, principal: Principal, path: SitePath) -> Entry:
        """Return an entry whose name, size and kind the caller may see.

        Raises:
            NotFound, NotAuthorised: as for `file`.
        """
        entries = self._namespace.find_many([path, parent(path)])
        entry = entries.get(path)
        if entry is not None and self._may_see(principal, entry):
            return entry
        raise self._refusal(principal, path, entries)

    def children(self, principal: Principal, directory: Entry) -> list[Entry]:
        """Return what the caller may know of a directory's entries, in order of name.

        An entry that the caller may not see is left out, or (with `r` on the directory) is there for
        its name only: `may_see` tells which.
        """
        entries = self._namespace.children(directory.path)
        if self._allows(principal, directory, "r").allowed:
            return entries
        return [entry for entry in entries if self._may_see(principal, entry)]

    def may_see(self, principal: Principal, entry: Entry) -> bool:
        """Tell whether details of an entry may be shown."""
        return self._may_see(principal, entry)

    def explain(self, principal: Principal, path: SitePath) -> Decision:
        """Say which rule decides about reading a name, for the administrator."""
        entry = self._namespace.find(path)
        if entry is None:
            return Decision(allowed=False, rule="there is no such name")
        return self._allows(principal, entry, "r")

    def _file(self, principal: Principal, path: SitePath, entries: Mapping[SitePath, Entry]) -> Verdict:
        entry = entries.get(path)
        if entry is None or not self._may_see(principal, entry):
            return Verdict(path, None, self._refusal(principal, path, entries))
        if entry.is_directory:
            return Verdict(path, None, IsADirectory("this is a directory"))
        return Verdict(path, entry, None, self._allows(principal, entry, "r").rule)

    def _refusal(self, principal: Principal, path: SitePath, entries: Mapping[SitePath, Entry]) -> MdmError:
        above = entries.get(parent(path))
        if path in entries and above is not None and self._allows(principal, above, "r").allowed:
            return NotAuthorised("the file right is missing")
        return NotFound(_ABSENT)

    def _may_see(self, principal: Principal, entry: Entry) -> bool:
        if self._allows(principal, entry, "r").allowed:
            return True
        return entry.is_directory and self._allows(principal, entry, "x").allowed

    def _allows(self, principal: Principal, entry: Entry, permission: str) -> Decision:
        if entry.release is not None:
            project = self._projects.get(entry.release.project)
            if project is None or not project.valid(self._clock.now()):
                return Decision(allowed=False, rule="the project has ended")
        return decide(entry.acl, entry.owner, principal, permission)

    def _record(self, principal: Principal, verdicts: Sequence[Verdict], operation: str) -> None:
        granted = [verdict for verdict in verdicts if verdict.entry is not None]
        for outcome, chosen in (
            (Outcome.ALLOWED, granted),
            (Outcome.DENIED, [verdict for verdict in verdicts if verdict.entry is None]),
        ):
            if chosen:
                self._audit.record(_event(principal, operation, outcome, chosen))


def _event(principal: Principal, operation: str, outcome: Outcome, verdicts: Sequence[Verdict]) -> Event:
    projects = {v.entry.release.project for v in verdicts if v.entry is not None and v.entry.release}
    return Event.by(
        principal,
        Action.DECISION,
        outcome,
        operation=operation,
        project=",".join(sorted(projects)),
        objects=tuple(verdict.path for verdict in verdicts),
        rule="; ".join(dict.fromkeys(verdict.rule for verdict in verdicts))[:MAX_RULE_CHARS],
    )

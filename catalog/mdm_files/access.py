"""The right to see and edit names; it says nothing about the files themselves.

Letters: ``r`` see a file's record or list all of a directory, ``x`` pass through a directory, ``w``
change it. A directory is also there for whoever may see something below it, and shows just that much. A
registrar sees and changes every name; a limited proxy changes none. Only a name's owner and registrars
change its ACL.

Existence is secret: absent and forbidden are the same answer, unless the directory may be listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mdm_files.tree import ROOT, Name, Sight, Tree
from srm_dicom.errors import InvalidRequest, MdmError, NotAuthorised, NotFound
from srm_dicom.identity.principal import BREAK_GLASS, Principal
from srm_dicom.ids import Guid, Lfn, SitePath, parent, parse_guid
from srm_dicom.rights.evaluate import Decision, decide
from srm_dicom.wire.names import is_surl

_ABSENT = "no such name"


@dataclass(slots=True)
class Seen:
    """What one call decided about: GUIDs and directories, and the last rule that did.

    Attributes:
        refused: a name that is not there stands in it as an empty string, for it costs the same.
        misses: how often the answer was that there is no such name.
    """

    granted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    misses: int = 0
    rule: str = "no entry speaks of this caller"

    def by(self, rule: str) -> None:
        """Keep the rule that decided; that the glass was broken is never left out."""
        if self.rule != BREAK_GLASS:
            self.rule = rule


class Access:
    """Decides for one caller during one call."""

    def __init__(self, tree: Tree, principal: Principal, *, is_registrar: bool) -> None:
        self._tree = tree
        self._principal = principal
        self._is_registrar = is_registrar
        self._sight: Sight | None = None
        self._by_path: dict[SitePath, Name] = {}
        self._by_guid: dict[Guid, Name] = {}
        self._holders: dict[str, Guid] = {}
        self.seen = Seen()

    @property
    def sight(self) -> Sight | None:
        """What listings may show; None is everything."""
        if self._is_registrar:
            return None
        if self._sight is None:
            dn, acls = self._principal.dn, self._tree.acls()
            others = {i for i, acl in acls.items() if decide(acl, "", self._principal, "r").allowed}
            own = {i for i, acl in acls.items() if decide(acl, dn, self._principal, "r").allowed}
            self._sight = Sight(dn, frozenset(others), frozenset(own))
        return self._sight

    def resolve(self, reference: str) -> Name:
        """Return what an LFN, path, GUID or SURL names, if the caller may see it.

        Raises:
            InvalidRequest: not a reference.
            NotFound: there is nothing, or nothing that the caller may learn of.
            NotAuthorised: the caller may list the directory and not see this.
        """
        return self._admit(self._find(reference))

    def resolve_each(self, references: Sequence[str]) -> Iterator[Name | MdmError]:
        """Yield what each reference names, or what `resolve` raises of it; all are read by a few statements.

        For calls that change nothing: what was read is remembered.
        """
        self._read_ahead(references)
        for reference in references:
            try:
                yield self.resolve(reference)
            except MdmError as error:
                yield error

    def writable(self, reference: str) -> Name:
        """Return a name that the caller may change.

        Raises:
            InvalidRequest, NotFound, NotAuthorised: as for `resolve`.
        """
        name = self.resolve(reference)
        return self._changing(name, self._may(name, "w"))

    def owned(self, reference: str) -> Name:
        """Return a name whose ACL the caller may see and change.

        Raises:
            InvalidRequest, NotFound, NotAuthorised: as for `resolve`.
        """
        name = self.resolve(reference)
        return self._changing(name, Decision(self.owns(name), "owner"))

    def owns(self, name: Name) -> bool:
        """Tell whether the caller may change the ACL of a name."""
        mine = bool(name.owner) and name.owner == self._principal.dn
        return (self._is_registrar or mine) and not self._principal.limited

    def directory_of(self, path: SitePath) -> Name:
        """Return the nearest directory above a name to be, in which the caller may make it.

        One that the caller may not learn of is as one that is not there: who could make nothing where it
        would be is told the same.

        Raises:
            NotFound, NotAuthorised: as for `resolve`.
        """
        name = self._nearest(path)
        if self._is_there(name):
            return self._changing(name, self._may(name, "w"))
        above = name
        while not self._is_there(above):
            above = self._nearest(above.path)
        self._changing(above, self._may(above, "w"))
        raise self._refused(name)

    def _nearest(self, path: SitePath) -> Name:
        above = parent(path)
        while (name := self._tree.find(above)) is None:
            above = parent(above)
        return name

    def lists_all(self, directory: Name) -> bool:
        """Tell whether the caller may list every name of a directory."""
        return self._may(directory, "r").allowed

    def sees(self, name: Name) -> bool:
        """Tell whether the caller may see a name's record."""
        decision = self._may(name, "r")
        if not decision.allowed and name.is_directory:
            decision = self._may(name, "x")
        if decision.allowed:
            self.seen.by(decision.rule)
            return True
        sight = self.sight
        return name.is_directory and sight is not None and self._tree.leads_somewhere(name.path, sight)

    def _read_ahead(self, references: Sequence[str]) -> None:
        paths: list[SitePath] = []
        guids: list[Guid] = []
        surls: list[str] = []
        for reference in references:
            with suppress(InvalidRequest):  # said of it when it is resolved
                if _is_path(reference):
                    paths.append(Lfn.parse(reference).path)
                elif _is_guid(reference):
                    guids.append(parse_guid(reference))
                elif is_surl(reference):
                    surls.append(reference)
        self._holders = self._tree.holders(surls)
        self._by_path = self._tree.find_many(paths)
        self._by_guid = self._tree.find_guids([*guids, *self._holders.values()])

    def _find(self, reference: str) -> Name | None:
        if _is_path(reference):
            path = Lfn.parse(reference).path
            return self._by_path.get(path) or self._tree.find(path)
        if _is_guid(reference):
            return self._of_guid(parse_guid(reference))
        if not is_surl(reference):
            raise InvalidRequest("a reference is an LFN, a GUID or a SURL")
        holder = self._holders.get(reference) or self._tree.holders([reference]).get(reference)
        return None if holder is None else self._of_guid(holder)

    def _of_guid(self, guid: Guid) -> Name | None:
        return self._by_guid.get(guid) or self._tree.find_guids([guid]).get(guid)

    def _admit(self, name: Name | None) -> Name:
        if name is None:
            self.seen.refused.append("")
            self.seen.misses += 1
            raise NotFound(_ABSENT)
        if not self._is_there(name):
            raise self._refused(name)
        return name

    def _is_there(self, name: Name) -> bool:
        return name.path == ROOT or self.sees(name)

    def _refused(self, name: Name) -> MdmError:
        self.seen.refused.append(object_of(name))
        above = self._tree.find(parent(name.path))
        if above is not None and self.lists_all(above):
            return NotAuthorised("the right to see this name is missing")
        self.seen.misses += 1
        return NotFound(_ABSENT)

    def _changing(self, name: Name, decision: Decision) -> Name:
        if not decision.allowed:
            self.seen.refused.append(object_of(name))
            raise NotAuthorised("the right to change this name is missing")
        self.seen.by(decision.rule)
        return name

    def _may(self, name: Name, letter: str) -> Decision:
        if letter == "w" and self._principal.limited:
            return Decision(allowed=False, rule="a limited proxy changes nothing")
        if self._is_registrar:
            return Decision(allowed=True, rule="registrar")
        return decide(name.acl, name.owner, self._principal, letter)


def _is_path(reference: str) -> bool:
    return reference.startswith(("lfn:", "/"))


def _is_guid(reference: str) -> bool:
    return reference.startswith("guid:") or "://" not in reference


def object_of(name: Name) -> str:
    """Return what the audit trail calls a name: a file by its GUID."""
    return name.guid or name.path

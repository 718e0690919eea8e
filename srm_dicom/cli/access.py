"""``srm-dicom explain-access``: which rule decides, from the front door to each of the rights.

The door and the file right are decided by the very code that decides for callers. Keys and metadata are
decided on other machines, on ACLs that the registrar wrote from the project; `registered` tells what it
wrote, `asked` what the servers have now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from srm_dicom.client.keys import KeyServers
from srm_dicom.client.metadata import MetadataClient
from srm_dicom.daemon.common import Common, host_credential
from srm_dicom.errors import MdmError, NotAuthenticated
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath
from srm_dicom.registry.policy import Places
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.evaluate import Decision, decide
from srm_dicom.rights.project import Project
from srm_dicom.store.namespace import Entry


class Answer(NamedTuple):
    """One right and who decided about it how."""

    right: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains what one caller may do with one name."""

    common: Common
    who: Principal
    path: SitePath

    def answers(self, *, ask: bool) -> Iterator[Answer]:
        """Yield the door, the file right, and what the project gives of the other two.

        Args:
            ask: ask the key and metadata servers too, with this host's certificate.
        """
        yield Answer("door", self._door())
        yield Answer("file", self.common.access().explain(self.who, self.path))
        entry = self.common.stores.namespace.find(self.path)
        project = self.common.projects.get(entry.release.project) if entry and entry.release else None
        if entry is None or project is None:
            return
        yield from self._registered(project)
        if ask:
            yield from self._asked(entry, project)

    def _door(self) -> Decision:
        try:
            self.common.gate().recheck(self.who)
        except NotAuthenticated as error:
            return Decision(allowed=False, rule=error.message)
        return Decision(allowed=True, rule="neither banned nor kept out by an admission list")

    def _registered(self, project: Project) -> Iterator[Answer]:
        ended = not project.valid(self.common.clock.now())
        for right, decision in self._of_acls(project.key_acl(), project.metadata_acl()):
            if ended:
                yield Answer(right, Decision(allowed=False, rule="the project has ended"))
            else:
                yield Answer(right, decision)

    def _of_acls(self, key: Acl, metadata: Acl) -> Iterator[Answer]:
        yield Answer("key", self._key(key))
        yield Answer("search", decide(metadata, "", self.who, "r"))
        yield Answer("nominative", self._nominative(metadata))

    def _key(self, acl: Acl) -> Decision:
        if self.who.limited and not decide(acl, "", self.who, "x").allowed:
            return Decision(allowed=False, rule="a limited proxy, and the project allows no jobs")
        return decide(acl, "", self.who, "g")

    def _nominative(self, acl: Acl) -> Decision:
        if self.who.limited:
            return Decision(allowed=False, rule="a limited proxy may only search")
        return decide(acl, "", self.who, "n")

    def _asked(self, entry: Entry, project: Project) -> Iterator[Answer]:
        config = self.common.config
        credential = host_credential(config.trust)
        servers = KeyServers(config.catalogues.keys, credential)
        for server, acl in servers.get_acl(entry.key_id).items() if entry.key_id else ():
            decision = _failed(acl) if isinstance(acl, MdmError) else self._key(acl)
            yield Answer(f"key at {server}", decision)
        collection = Places(config.site.vo, config.site.name, config.site.host).collection(project.id)
        for endpoint in config.catalogues.metadata:
            try:
                acl = MetadataClient(endpoint, credential).acl(collection)
            except MdmError as error:
                yield Answer(f"search at {endpoint}", _failed(error))
                continue
            yield Answer(f"search at {endpoint}", decide(acl, "", self.who, "r"))
            yield Answer(f"nominative at {endpoint}", self._nominative(acl))


def _failed(error: MdmError) -> Decision:
    return Decision(allowed=False, rule=f"it does not tell: {error.message}")

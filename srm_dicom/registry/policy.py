"""The registration policy: where a file stands in every catalogue, and who gets which right to it.

    namespace   /<vo>/mdm/<site>/<project>-<profile version>/<patient>/<study>/<series>/<instance>
    catalogue   lfn:/grid/<the same>
    metadata    /mdm/<site>/<project>/image, entries named by GUID

The rights come from the project alone. The directories above a project are shared: of each, a member
of any project passes through and sees only what is his.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from srm_dicom.ids import SitePath, join, parse_path
from srm_dicom.rights.acl import Acl, Entry
from srm_dicom.rights.project import Project, Release


@dataclass(frozen=True, slots=True)
class Places:
    """Names of one site."""

    vo: str
    site: str
    host: str

    def root(self) -> SitePath:
        """The directory that all projects of the site share."""
        return parse_path(f"/{self.vo}/mdm/{self.site}")

    def path(self, release: Release, components: Sequence[str]) -> SitePath:
        """The namespace path of a file."""
        return join(self.root(), release.label, *components)

    def surl(self, path: SitePath) -> str:
        """The SURL of a namespace path."""
        return f"srm://{self.host}{path}"

    def lfn(self, path: SitePath) -> SitePath:
        """The path of the logical file name of a namespace path."""
        return join(SitePath("/grid"), path)

    def collection(self, project: str) -> SitePath:
        """The metadata collection of a project's images."""
        return parse_path(f"/mdm/{self.site}/{project}/image")


def shared_acl(projects: Iterable[Project]) -> Acl:
    """Return the ACL of the directories above the projects: members of any may pass.

    Areas where members write may be below these directories too (see `broker.areas`).
    """
    passing = frozenset("x")
    entries: dict[tuple[object, str], Entry] = {}
    for project in projects:
        for entry in (*project.directory_acl().entries, *project.area_acl().access()):
            entries[entry.tag, entry.qualifier] = replace(entry, permissions=passing)
    return Acl(tuple(entries.values()))

"""Where users write: directories of the namespace, each with a project and the plugin that keeps its files.

Everywhere else names are the registrar's. What is made in an area inherits the rights of its directory,
belongs to who made it, and is of the area's release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from srm_dicom.errors import ConfigError, NotAuthorised
from srm_dicom.ids import SitePath, parent
from srm_dicom.rights.acl import Acl, Entry, Tag
from srm_dicom.rights.project import Project, Release
from srm_dicom.store.namespace import Namespace

UPLOADS = SitePath("/.upload")
"""Where the TURLs of uploads are; no name of the namespace is below."""

_OWNER = Entry(Tag.USER, "", frozenset("rwx"))


@dataclass(frozen=True, slots=True)
class Area:
    """One of them.

    Attributes:
        max_file_bytes: of one file.
        sealed: what is uploaded identifies patients: it crosses no network and reaches no disk in clear, and
            what its file is called is told to nobody.
    """

    path: SitePath
    plugin: str
    release: Release
    max_file_bytes: int = 1024**4
    sealed: bool = False

    def has(self, path: SitePath) -> bool:
        """Tell whether a path is the area's directory or below it."""
        return path == self.path or path.startswith(f"{self.path}/")


class Areas:
    """All areas of a site."""

    def __init__(self, areas: Iterable[Area] = ()) -> None:
        self._areas = tuple(areas)
        self._sealed = tuple(area for area in self._areas if area.sealed)

    def of(self, path: SitePath) -> Area:
        """Return the area that a name to be made, changed or removed is in.

        Raises:
            NotAuthorised: it is in none.
        """
        for area in self._areas:
            if area.has(path) and path != area.path:
                return area
        raise NotAuthorised(
            "nobody writes here", advice="Write below a directory that the site has opened for it."
        )

    def take(self, path: SitePath) -> bool:
        """Tell whether names may be made in a directory."""
        return any(area.has(path) for area in self._areas)

    def seal(self, path: SitePath) -> bool:
        """Tell whether a name lies in an area whose files are sealed."""
        return any(area.has(path) for area in self._sealed)

    def told(self, path: SitePath) -> SitePath:
        """Return what may be written down of a path: of a name that was typed for an upload its directory."""
        if not self.seal(path):
            return path
        above = parent(path)
        return above if self.seal(above) else path

    def prepare(self, namespace: Namespace, projects: Mapping[str, Project], shown_at: datetime) -> None:
        """Make the areas' directories, and let the members of their projects pass to them.

        Raises:
            ConfigError: an area names no project.
        """
        for area in self._areas:
            project = projects.get(area.release.project)
            if project is None:
                raise ConfigError(
                    f"[[areas]] names the project {area.release.project}, which projects.d has not"
                )
            acl = project.ingest_acl() if area.sealed else project.area_acl()
            _open_above(namespace, parent(area.path), acl, shown_at)
            namespace.make_directory(area.path, acl, shown_at, area.release)
            namespace.set_acl(area.path, acl)


def inherited(above: Acl, *, directory: bool) -> Acl:
    """Return the ACL of a new name of a user's: its directory's defaults, and everything for its owner."""
    return Acl((_OWNER, *above.inherited(directory=directory).entries))


def _open_above(namespace: Namespace, directory: SitePath, acl: Acl, shown_at: datetime) -> None:
    """Let everybody whom an ACL names pass through the directories of the service above an area."""
    passing = tuple(replace(entry, permissions=frozenset("x")) for entry in acl.access())
    namespace.make_directory(directory, Acl(), shown_at)
    while True:
        there = namespace.find(directory)
        if there is not None and not there.owner:
            known = {(entry.tag, entry.qualifier) for entry in there.acl.access()}
            missing = tuple(entry for entry in passing if (entry.tag, entry.qualifier) not in known)
            if missing:
                namespace.set_acl(directory, Acl((*there.acl.entries, *missing)))
        if directory == "/":
            return
        directory = parent(directory)

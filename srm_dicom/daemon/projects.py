"""The projects of today: ``projects.d``, read again when a file of it changes.

Who leaves a project is given nothing more by a service that runs on, and whose project ends, or is taken
away, nothing at all. What cannot be used changes nothing, and the log says so.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from pathlib import Path

from srm_dicom import tomlfile
from srm_dicom.clock import Clock
from srm_dicom.config import ProjectFile
from srm_dicom.errors import ConfigError
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.budget import Budget
from srm_dicom.rights.project import Member, Project
from srm_dicom.telemetry import logger

LOOK_S = 2.0

log = logger("projects")


class Projects(Mapping[str, Project]):
    """Every project by its id, as the files say that were there up to `LOOK_S` ago."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """Read the files.

        Raises:
            ConfigError: they are not usable.
        """
        self._directory = directory
        self._clock = clock
        self._seen = _written(directory)
        self._projects = load(directory)
        self._look_at_s = clock.monotonic_s() + LOOK_S

    def __getitem__(self, key: str) -> Project:
        return self._today()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._today())

    def __len__(self) -> int:
        return len(self._today())

    def keys(self) -> KeysView[str]:
        """Return the ids: of one day, as `values` and `items` are."""
        return self._today().keys()

    def values(self) -> ValuesView[Project]:
        """Return the projects."""
        return self._today().values()

    def items(self) -> ItemsView[str, Project]:
        """Return both."""
        return self._today().items()

    def _today(self) -> dict[str, Project]:
        """Look whether something has changed, now and then; another thread that looks too does no harm."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_S
            seen = _written(self._directory)
            if seen != self._seen:
                self._seen = seen
                self._take()
        return self._projects

    def _take(self) -> None:
        try:
            self._projects = load(self._directory)
        except ConfigError as error:
            log.warning("projects_not_taken", reason=error.message)
        else:
            log.info("projects_taken", count=len(self._projects))


def load(directory: Path) -> dict[str, Project]:
    """Read ``projects.d``.

    Raises:
        ConfigError: a file is not usable, or two are of one project.
    """
    projects: dict[str, Project] = {}
    for name, file in tomlfile.load_directory(directory, ProjectFile).items():
        if file.id in projects:
            raise ConfigError(
                f"{directory / name}.toml is another file of the project {file.id}",
                advice="Give it an id of its own, or take it away.",
            )
        projects[file.id] = _project(file)
    return projects


def _project(file: ProjectFile) -> Project:
    members = tuple(
        Member(Tag.USER if member.user else Tag.GROUP, member.user or member.group, frozenset(member.rights))
        for member in file.members
    )
    return Project(
        file.id,
        file.permit,
        file.purpose,
        file.profile,
        file.basis,
        file.valid_until,
        members,
        file.jobs,
        Budget(file.daily.bytes, file.daily.objects),
    )


def _written(directory: Path) -> dict[str, tuple[int, int]]:
    """Return what changes when a file is written, replaced, added or taken away."""
    try:
        return {path.name: tomlfile.written(path) for path in tomlfile.files_in(directory)}
    except ConfigError:  # they may not be read, which is told when that is tried
        return {}

"""Data leave for a project: who, for what purpose, with which rights, until when.

A release is part of a file's identity: `Release` is (project, profile, profile version), fixed at
registration; everything that leaves (GUID, path, key, bytes) derives per release.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from srm_dicom.rights.acl import Acl, Entry, Tag
from srm_dicom.rights.budget import UNLIMITED, Budget

ProjectRight = Literal["file", "key", "search", "nominative", "write", "ingest"]


@dataclass(frozen=True, slots=True)
class Release:
    """What a file was made for; written ``project-profile_version`` in paths."""

    project: str
    profile: str
    version: str

    @property
    def label(self) -> str:
        """The path component of this release (DESIGN: names say nothing)."""
        return f"{self.project}-{self.version}"

    def __str__(self) -> str:
        return f"{self.project}/{self.profile}/{self.version}"


@dataclass(frozen=True, slots=True)
class Member:
    """One grant: a user by DN or a group by FQAN, and the rights given; none implies another."""

    tag: Tag
    name: str
    rights: frozenset[ProjectRight]


@dataclass(frozen=True, slots=True)
class Project:
    """A permission to use data.

    Attributes:
        permit: reference of the ethics or data-access decision.
        basis: basis of consent.
        valid_until: no grant without an end; after it nothing is granted.
        jobs: whether limited proxies, as batch jobs carry them, may fetch keys.
        daily: what all members together may be given in a day.
    """

    id: str
    permit: str
    purpose: str
    profile: str
    basis: str
    valid_until: datetime
    members: tuple[Member, ...]
    jobs: bool = False
    daily: Budget = UNLIMITED

    def valid(self, now: datetime) -> bool:
        """Tell whether the project still grants anything."""
        return now < self.valid_until

    def file_acl(self) -> Acl:
        """Return the namespace ACL of the project's files."""
        return self._acl({"file": "r"})

    def directory_acl(self) -> Acl:
        """Return the namespace ACL of the project's directories: listing follows reading.

        Who may hand in images may also have registered ones forgotten.
        """
        return self._acl({"file": "rx", "ingest": "wx"})

    def area_acl(self) -> Acl:
        """Return the ACL of a directory where members write; what they make in it inherits it."""
        own = self._acl({"file": "rx", "write": "rwx"}).entries
        return Acl((*own, *(replace(entry, default=True) for entry in own)))

    def ingest_acl(self) -> Acl:
        """Return the ACL of a directory where members hand in images; none lists what others call theirs."""
        return self._acl({"ingest": "wx"})

    def key_acl(self) -> Acl:
        """Return the ACL of the project's keys: Hydra's ``x`` lets jobs fetch what ``g`` lets a user."""
        return self._acl({"key": "gx" if self.jobs else "g"})

    def metadata_acl(self) -> Acl:
        """Return the ACL of the project's metadata collections."""
        return self._acl({"search": "r", "nominative": "n"})

    def _acl(self, letters: dict[ProjectRight, str]) -> Acl:
        entries = []
        for member in self.members:
            granted = frozenset("".join(letters.get(right, "") for right in member.rights))
            if granted:
                entries.append(Entry(member.tag, member.name, granted))
        return Acl(tuple(entries))

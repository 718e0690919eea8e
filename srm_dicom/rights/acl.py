r"""The ACL grammar of all three rights: POSIX.1e text with names instead of numbers.

    user::rwx
    user:"/DC=org/CN=Alice":r
    group:"/biomed/radiology/Role=physician":rg
    mask::r
    other::-
    default:group:"/biomed":r

Entries are separated by commas or newlines. Permissions are letters; which of them mean something
depends on the object: files know ``r w x``, keys Hydra's ``p d r w l x g s``, metadata ``r`` (search),
``n`` (nominative attributes) and ``w``. There are no deny entries: what no entry grants is denied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, lru_cache

from srm_dicom.errors import InvalidRequest

PERMISSIONS = "rwxpdlgsn"
MAX_ENTRIES = 1000
MAX_NAME_CHARS = 1024
REMEMBERED_CHARS = 64 * 1024
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What no DN and no FQAN has, and no line of a log or a listing should."""


class Tag(Enum):
    """Whom an entry speaks of."""

    USER = "user"
    GROUP = "group"
    MASK = "mask"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: `qualifier` is empty for the owner (user), the mask and everybody else (other)."""

    tag: Tag
    qualifier: str
    permissions: frozenset[str]
    default: bool = False

    def __str__(self) -> str:
        head = "default:" if self.default else ""
        who = '"' + self.qualifier.replace("\\", "\\\\").replace('"', '\\"') + '"' if self.qualifier else ""
        letters = "".join(letter for letter in PERMISSIONS if letter in self.permissions) or "-"
        return f"{head}{self.tag.value}:{who}:{letters}"


@dataclass(frozen=True, slots=True)
class Rule:
    """An access entry as it is asked: what it grants, and its text."""

    permissions: frozenset[str]
    text: str


@dataclass(frozen=True, slots=True)
class Index:
    """The access entries of an ACL by whom they speak of; no list is empty.

    Attributes:
        owner: ``user::``; of several the first counts, and so for `other` and `mask`.
        users: by DN.
        groups: by FQAN.
        other: everybody else.
        mask: the most that named users and groups have; None for no bound.
    """

    owner: Rule | None = None
    users: Mapping[str, list[Rule]] = field(default_factory=dict)
    groups: Mapping[str, list[Rule]] = field(default_factory=dict)
    other: Rule | None = None
    mask: Rule | None = None


@dataclass(frozen=True)
class Acl:
    """An ordered set of entries; `str()` gives the text that `parse` reads."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Acl:
        """Read the ACL text that somebody sends; see `stored` for what is kept already.

        Raises:
            InvalidRequest: a line is not an entry, or `bounded` refuses it.
        """
        if len(text) > REMEMBERED_CHARS and len(_lines(text)) > MAX_ENTRIES:
            raise _too_many()
        return cls.stored(text).bounded()

    @classmethod
    def stored(cls, text: str) -> Acl:
        """Read the ACL text that is kept: its bounds were held when it was written, or are newer than it.

        The files of a project have one text, so texts are remembered that are not too long.

        Raises:
            InvalidRequest: a line is not an entry.
        """
        return _parse(text) if len(text) <= REMEMBERED_CHARS else _read(text)

    def bounded(self) -> Acl:
        """Return this ACL if it may be kept; every way by which users set one goes through here.

        Raises:
            InvalidRequest: it has too many entries, or a name that nobody can have.
        """
        if len(self.entries) > MAX_ENTRIES:
            raise _too_many()
        for entry in self.entries:
            if len(entry.qualifier) > MAX_NAME_CHARS:
                raise InvalidRequest(f"the name of an ACL entry has at most {MAX_NAME_CHARS} characters")
            if entry.permissions and _UNSPEAKABLE.search(entry.qualifier):
                raise InvalidRequest("the name of an ACL entry has no control characters")
        return self

    def __str__(self) -> str:
        return "\n".join(str(entry) for entry in self.entries)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """ACLs are asked for in tables again and again, and have many parts."""
        return hash(self.entries)

    def access(self) -> tuple[Entry, ...]:
        """Return the entries that decide about the object itself."""
        return tuple(entry for entry in self.entries if not entry.default)

    @cached_property
    def index(self) -> Index:
        """The access entries, ready to be asked."""
        single: dict[Tag, Rule] = {}
        users: dict[str, list[Rule]] = {}
        groups: dict[str, list[Rule]] = {}
        for entry in self.access():
            rule = Rule(entry.permissions, str(entry))
            if entry.tag is Tag.GROUP:
                groups.setdefault(entry.qualifier, []).append(rule)
            elif entry.qualifier:
                users.setdefault(entry.qualifier, []).append(rule)
            else:
                single.setdefault(entry.tag, rule)
        return Index(single.get(Tag.USER), users, groups, single.get(Tag.OTHER), single.get(Tag.MASK))

    def inherited(self, *, directory: bool) -> Acl:
        """Return the ACL of a new child: the defaults, kept as defaults too below a directory."""
        defaults = tuple(entry for entry in self.entries if entry.default)
        own = tuple(replace(entry, default=False) for entry in defaults)
        return Acl(own + defaults if directory else own)

    def changed(self, changes: Acl) -> Acl:
        """Return this ACL with entries set in their order; one without permissions is dropped.

        Raises:
            InvalidRequest: `bounded` refuses the changes, or what would become longer by them.
        """
        changes.bounded()
        entries = {(entry.tag, entry.qualifier, entry.default): entry for entry in self.entries}
        for entry in changes.entries:
            key = (entry.tag, entry.qualifier, entry.default)
            if entry.permissions:
                entries[key] = entry
            else:
                entries.pop(key, None)
        made = Acl(tuple(entries.values()))
        return made.bounded() if len(made.entries) > len(self.entries) else made

    def granting(self, tag: Tag, qualifier: str, permissions: Iterable[str]) -> Acl:
        """Return this ACL with one entry set, as by `changed`; no permissions removes the entry."""
        return self.changed(Acl((Entry(tag, qualifier, frozenset(permissions)),)))


_ENTRY = re.compile(
    r"""(?P<default>default:)?
        (?P<tag>user|group|mask|other)
        :(?P<who>"(?:[^"\\]|\\.)*"|[^":,]*)
        :(?P<letters>[a-z-]*)\Z""",
    re.VERBOSE,
)
_SEPARATOR = re.compile(r"""((?:[^",\n]|"(?:[^"\\]|\\[\s\S])*(?:"|\\?\Z))+)""")
"""A quote that is never closed takes the rest, which is no entry then: nothing is read twice."""


@lru_cache(maxsize=1024)
def _parse(text: str) -> Acl:
    return _read(text)


def _read(text: str) -> Acl:
    return Acl(tuple(_parse_entry(line) for line in _lines(text)))


def _too_many() -> InvalidRequest:
    return InvalidRequest(f"an ACL has at most {MAX_ENTRIES} entries")


def _lines(text: str) -> list[str]:
    return [line.strip() for line in _SEPARATOR.findall(text) if line.strip()]


def _parse_entry(line: str) -> Entry:
    match = _ENTRY.match(line)
    if match is None:
        raise InvalidRequest('an ACL entry reads [default:]user|group|mask|other:"name":letters')
    tag = Tag(match["tag"])
    who = match["who"]
    if who.startswith('"'):
        who = re.sub(r"\\(.)", r"\1", who[1:-1])
    letters = frozenset(match["letters"].replace("-", ""))
    if not letters <= frozenset(PERMISSIONS):
        raise InvalidRequest(f"permissions are letters of {PERMISSIONS}")
    if who and tag in (Tag.MASK, Tag.OTHER):
        raise InvalidRequest(f"{tag.value} takes no name")
    return Entry(tag, who, letters, default=match["default"] is not None)

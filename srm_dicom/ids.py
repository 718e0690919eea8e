"""Value types of the names that cross module borders: `SitePath`, `Surl`, `Lfn`, `Guid`, `Token`.

Each is checked where it is made and is safe to use afterwards. Exported names use the characters
``[A-Za-z0-9._-]`` only: no two clients encode any other character in the same way.
"""

from __future__ import annotations

import re
import secrets
import uuid
from dataclasses import dataclass
from typing import NewType
from urllib.parse import unquote

from srm_dicom.errors import InvalidRequest

Guid = NewType("Guid", str)
"""Lower-case RFC 9562 text of a file's identity; a new release of the same object is another Guid."""

Token = NewType("Token", str)
"""An SRM request token: random, opaque, not a secret (every use of it is authorised again)."""

SitePath = NewType("SitePath", str)
"""An absolute, normalised path of the namespace: no ``.``, ``..``, ``//`` or trailing slash."""

MAX_PATH_CHARS = 1024
_COMPONENT = re.compile(r"[A-Za-z0-9._-]{1,255}\Z")
_NORMALISED = re.compile(r"(?:/(?!\.)[A-Za-z0-9._-]{1,255})+\Z")
"""What nearly every path is; it stays as it is."""

_SURL = re.compile(r"srm://([^/?#]+)((?:/[^?]*)?)(?:\?(?:[^#]*?&)?SFN=(.*))?\Z", re.IGNORECASE | re.DOTALL)
"""The site, the path or endpoint, and the path of the full form."""


def parse_path(text: str) -> SitePath:
    """Normalise a path that a client sent, refusing one that escapes the root.

    Raises:
        InvalidRequest: too long, a character outside the exported set, or an escape.
    """
    if len(text) > MAX_PATH_CHARS:
        raise InvalidRequest(f"a path has at most {MAX_PATH_CHARS} characters")
    if _NORMALISED.match(text):
        return SitePath(text)
    parts: list[str] = []
    for part in text.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not parts:
                raise InvalidRequest("the path leaves the root")
            parts.pop()
        elif _COMPONENT.match(part):
            parts.append(part)
        else:
            raise InvalidRequest("a path component has characters outside [A-Za-z0-9._-]")
    return SitePath("/" + "/".join(parts))


def parent(path: SitePath) -> SitePath:
    """Return the directory of a path; the root is its own parent."""
    return SitePath(path.rpartition("/")[0] or "/")


def name(path: SitePath) -> str:
    """Return the last component; empty for the root."""
    return path.rpartition("/")[2]


def join(directory: SitePath, *components: str) -> SitePath:
    """Append components, each checked."""
    return parse_path("/".join((directory, *components)))


@dataclass(frozen=True, slots=True)
class Surl:
    """A site URL as the caller wrote it, the namespace path that it means, and ``host[:port]`` of its site.

    Replies echo `text` to the letter: clients match files by it.
    """

    text: str
    path: SitePath
    authority: str = ""

    @classmethod
    def parse(cls, text: str) -> Surl:
        """Read ``srm://host[:port]/path`` and the full form ``srm://host:port/endpoint?SFN=/path``.

        All that follows is the path: gfal2 sends it as it is, and what began with ``#`` or ``?`` was no
        other file's name.

        Raises:
            InvalidRequest: not a SURL, or its path is not acceptable.
        """
        parts = _SURL.match(text.strip())
        if parts is None:
            raise InvalidRequest("not a SURL: srm://host/path was expected")
        authority, path, sfn = parts.groups()
        return cls(text, parse_path(unquote(path if sfn is None else sfn)), authority)


@dataclass(frozen=True, slots=True)
class Lfn:
    """A logical file name: the path in the file catalogue, written ``lfn:/grid/...``."""

    path: SitePath

    @classmethod
    def parse(cls, text: str) -> Lfn:
        """Read ``lfn:/path`` or a bare absolute path.

        Raises:
            InvalidRequest: the path is not acceptable.
        """
        bare = text.removeprefix("lfn:")
        if not bare.startswith("/"):
            raise InvalidRequest("an LFN is an absolute path")
        return cls(parse_path(bare))

    def __str__(self) -> str:
        return f"lfn:{self.path}"


def parse_guid(text: str) -> Guid:
    """Read a GUID, with or without ``guid:``.

    Raises:
        InvalidRequest: not the text of a UUID.
    """
    try:
        return Guid(str(uuid.UUID(text.removeprefix("guid:"))))
    except ValueError as error:
        raise InvalidRequest("not a GUID") from error


def new_token() -> Token:
    """Draw a fresh token of a request or a space: a random UUID that begins with a letter.

    Of ``6e402f7f-...`` scripts make a number, S2's among them.
    """
    return Token(secrets.choice("abcdef") + str(uuid.uuid4())[1:])

"""What is said to a file catalogue over HTTPS: the messages of ``POST /v1/<call>``, JSON both ways.

A bulk call answers item by item, in the order of the request: one that is refused has the name of a leaf
of the error tree and does not hinder the others. Paths, LFNs without ``lfn:``, are absolute.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from srm_dicom.errors import InvalidRequest
from srm_dicom.ids import Guid, SitePath, parse_guid, parse_path

MAX_ITEMS = 1000
"""Items of one bulk call, and entries of one page."""

MAX_SURLS = 100
MAX_SURL_CHARS = 2048
MAX_COMMENT_CHARS = 255
"""As in LFC's schema."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every message."""


class FileRecord(Message, frozen=True):
    """A name in the catalogue and what it stands for.

    Attributes:
        lfn: the path.
        guid: of a file; empty for a directory, and for a file of which only the name may be seen.
        surls: where replicas are.
        public_key: hex of the file's X25519 public key; empty for a file that is not sealed.
        key_id: of the key pair on the key servers.
        acl: text of `rights.acl`; shown to those who may change it, empty for others.
        comment: the one that LFC knows.
        kind: a directory has nothing but a path, an ACL and a comment.
    """

    lfn: SitePath
    guid: Guid = Guid("")
    surls: tuple[str, ...] = ()
    public_key: str = ""
    key_id: str = ""
    acl: str = ""
    comment: str = ""
    kind: Literal["file", "directory"] = "file"

    def __post_init__(self) -> None:
        """Refuse what is no record, from whichever side it comes.

        Raises:
            ValueError: a name, key or location is not one.
        """
        try:
            named = parse_path(self.lfn) == self.lfn and (not self.guid or parse_guid(self.guid) == self.guid)
        except InvalidRequest as error:
            raise ValueError(error.message) from error
        keyed = re.fullmatch(r"([0-9a-f]{64})?", self.public_key) and re.fullmatch(
            r"[A-Za-z0-9._:-]{0,128}", self.key_id
        )
        if not (named and keyed and are_surls(self.surls)):
            raise ValueError("not a record of the file catalogue")


class Lookup(Message, frozen=True):
    """``lookup``: files or directories by ``lfn:/path``, path, ``guid:...`` or SURL."""

    references: tuple[str, ...]


class Item(Message, frozen=True):
    """One answer of a bulk call: a record, or an error's name and message."""

    record: FileRecord | None = None
    error: str = ""
    detail: str = ""


class Items(Message, frozen=True):
    """Answers in the order of the request."""

    items: tuple[Item, ...]


class Listing(Message, frozen=True):
    """``list`` (a directory's names) and ``tree`` (all files below), a page at a time.

    Attributes:
        reference: of a directory; of a file it gives that file alone.
        after: the last path of the page before.
    """

    reference: str
    after: str = ""
    count: int = MAX_ITEMS


class Page(Message, frozen=True):
    """Records in the order of their paths; `more` says that there is another page."""

    records: tuple[FileRecord, ...]
    more: bool = False


class Register(Message, frozen=True):
    """``register``: files by LFN; directories on the way are made."""

    records: tuple[FileRecord, ...]


class Outcome(Message, frozen=True):
    """What became of one item of a bulk change."""

    status: Literal["done", "unchanged", "refused"]
    error: str = ""
    detail: str = ""


class Outcomes(Message, frozen=True):
    """Outcomes in the order of the request."""

    outcomes: tuple[Outcome, ...]


class References(Message, frozen=True):
    """``unregister``: files with their replicas; ``remove``: also directories that are empty."""

    references: tuple[str, ...]


class MakeDirectory(Message, frozen=True):
    """``mkdir``: one that exists stays as it is; without an ACL it inherits."""

    path: str
    acl: str | None = None
    parents: bool = False


class Rename(Message, frozen=True):
    """``rename``: a file or a directory with all that is below it."""

    source: str
    target: str


class Reference(Message, frozen=True):
    """``getacl``, ``delcomment``."""

    reference: str


class AclText(Message, frozen=True):
    """The answer to ``getacl``."""

    owner: str
    acl: str


class SetAcl(Message, frozen=True):
    """``setacl`` of many names to one ACL."""

    references: tuple[str, ...]
    acl: str


class SetComment(Message, frozen=True):
    """``setcomment``."""

    reference: str
    comment: str


class Replica(Message, frozen=True):
    """``addreplica``, ``delreplica``."""

    reference: str
    surl: str


class Done(Message, frozen=True):
    """Nothing more to say."""


def are_surls(surls: tuple[str, ...]) -> bool:
    """Tell whether these may be locations of a file."""
    return len(surls) <= MAX_SURLS and all(map(is_surl, surls))


def is_surl(text: str) -> bool:
    """Tell whether this may be a location of a file: a URL in printable ASCII."""
    return len(text) <= MAX_SURL_CHARS and re.fullmatch(r"[a-z][a-z0-9+.-]*://[!-~]+", text) is not None

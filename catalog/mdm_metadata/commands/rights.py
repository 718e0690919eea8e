"""Commands about rights: the ACL of a collection, in the grammar of `srm_dicom.rights.acl`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mdm_metadata.commands.table import OWN, Session, command
from srm_dicom.errors import InvalidRequest
from srm_dicom.rights.acl import Acl, Entry
from srm_dicom.rights.declare import Right

_LETTERS = frozenset("rnwp")


@command("acl_show <collection>", Right.METADATA_ADMIN, least=1, most=1)
def acl_show(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Show the ACL, an entry a row."""
    return [str(entry) for entry in session.access.require(session.path(args[0]), "p").acl.entries]


@command("myrights <collection>", Right.METADATA_SEARCH, since=OWN, least=1, most=1)
def myrights(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Show the letters that the caller has on a collection."""
    return ["".join(session.access.letters(session.path(args[0])))]


@command("acl_add <collection> <principal> <letters>", Right.METADATA_ADMIN, least=3, most=3)
def acl_add(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Set what a principal may; it is written ``user:"<DN>"`` or ``group:"<FQAN>"``."""
    return _grant(session, args[0], f"{args[1]}:{args[2]}")


@command("acl_remove <collection> <principal>", Right.METADATA_ADMIN, least=2, most=2)
def acl_remove(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Remove what was set for a principal."""
    return _grant(session, args[0], f"{args[1]}:-")


@command("setacl <collection> <ACL>", Right.METADATA_ADMIN, since=OWN, least=2, most=2)
def setacl(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Replace the ACL; entries are separated by commas."""
    collection = session.access.require(session.path(args[0]), "p")
    session.collections.set_acl(collection, _checked(Acl.parse(args[1])))
    return ()


def _grant(session: Session, text: str, entry_text: str) -> Iterable[str]:
    collection = session.access.require(session.path(text), "p")
    entry = _one(entry_text)
    session.collections.change_acl(
        collection, lambda acl: _checked(acl.granting(entry.tag, entry.qualifier, entry.permissions))
    )
    return ()


def _one(text: str) -> Entry:
    entries = Acl.parse(text).entries
    if len(entries) != 1 or entries[0].default:
        raise InvalidRequest('a principal reads user:"<DN>", group:"<FQAN>" or other:')
    return entries[0]


def _checked(acl: Acl) -> Acl:
    if any(not entry.permissions <= _LETTERS for entry in acl.entries):
        raise InvalidRequest("permissions of metadata are letters of rnwp")
    return acl

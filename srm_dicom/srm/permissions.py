"""An entry's rights as SRM shows them, for one caller, naming nobody else (SRM v2.2, 2.1.6 to 2.1.8).

The standard knows owner, group and others; an ACL knows more. What is shown as the group is what this
caller may do, under the group of the ACL that lets the caller in: other members stay unnamed.
"""

from __future__ import annotations

from typing import Any

from srm_dicom.identity.principal import Principal
from srm_dicom.rights.acl import Tag
from srm_dicom.rights.evaluate import decide
from srm_dicom.srm.types import T
from srm_dicom.store.namespace import Entry

SERVICE = "service"
"""The owner of what no user owns, and of what another user owns."""
MEMBERS = "members"
"""The group of a caller whom the ACL names in person."""

_MODES = ("NONE", "X", "W", "WX", "R", "RX", "RW", "RWX")


def shown(entry: Entry, principal: Principal) -> dict[str, Any]:
    """Return ``ownerPermission``, ``groupPermission`` and ``otherPermission`` of TMetaDataPathDetail."""
    own = bool(entry.owner) and entry.owner == principal.dn
    return {
        "ownerPermission": T.TUserPermission(userID=entry.owner if own else SERVICE, mode=_owner(entry)),
        "groupPermission": T.TGroupPermission(groupID=_group(entry, principal), mode=mode(entry, principal)),
        "otherPermission": _word(_granted(entry, Tag.OTHER)),
    }


def mode(entry: Entry, principal: Principal) -> str:
    """Return what a caller may do, as a TPermissionMode; with what is made of others, as with each."""
    return _word(
        {
            letter
            for letter in "rwx"
            if all(decide(one.acl, one.owner, principal, letter, one.path).allowed for one in entry.files)
        }
    )


def _owner(entry: Entry) -> str:
    if not entry.owner:
        # The service reads what is its own without an entry that says so.
        return "RX" if entry.is_directory else "R"
    return _word(_granted(entry, Tag.USER))


def _granted(entry: Entry, tag: Tag) -> frozenset[str]:
    found = (e.permissions for e in entry.acl.access() if e.tag is tag and not e.qualifier)
    return next(found, frozenset())


def _group(entry: Entry, principal: Principal) -> str:
    named = {e.qualifier for e in entry.acl.access() if e.tag is Tag.GROUP}
    return next((fqan for fqan in principal.fqans if fqan in named), MEMBERS)


def _word(letters: set[str] | frozenset[str]) -> str:
    return _MODES[4 * ("r" in letters) + 2 * ("w" in letters) + ("x" in letters)]


def letters(word: str) -> frozenset[str]:
    """Return the letters of a TPermissionMode."""
    place = _MODES.index(word)
    return frozenset(letter for letter, bit in zip("rwx", (4, 2, 1), strict=True) if place & bit)

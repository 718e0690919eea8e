"""Names that are made of others: ``<directory>.tar`` for a directory of sealed files.

Such a name is in no row and in no listing, as the manifests are not, or a recursive copy would fetch
everything twice; who asks for it finds it. It is there for a directory that holds sealed files and nothing
else, it has the facts that follow from theirs once all are known, and only those may read it who may read
every one of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from srm_dicom.ids import SitePath, name
from srm_dicom.store.namespace import Entry, Facts, Kind, Namespace
from srm_dicom.wire.bundle import MOST_MEMBERS, SUFFIX, Bundle, Member


def find_bundle(namespace: Namespace, path: SitePath) -> Entry | None:
    """Return the entry of a name that is made of others, if it is one."""
    directory = SitePath(path.removesuffix(SUFFIX))
    if directory == path:
        return None
    found = namespace.children(directory, count=MOST_MEMBERS + 1)
    if not 0 < len(found) <= MOST_MEMBERS or not all(entry.public_key for entry in found):
        return None
    members = tuple(sorted(found, key=lambda entry: name(entry.path)))
    first = members[0]
    entry = Entry(
        path=path,
        kind=Kind.FILE,
        owner=first.owner,
        acl=first.acl,
        shown_at=max(member.shown_at for member in members),
        release=first.release,
        members=members,
    )
    return replace(entry, facts=_facts(entry))


def bundle_of(entry: Entry) -> Bundle | None:
    """Return the shape of an entry that is made of others; None while one of them has no facts."""
    if not entry.members:
        return None
    known = [(name(member.path), member.facts) for member in entry.members if member.facts is not None]
    if len(known) != len(entry.members):
        return None
    members = tuple(Member(called, facts.size_bytes, facts.adler32) for called, facts in known)
    return _bundle(SitePath(entry.path.removesuffix(SUFFIX)), members)


@lru_cache(maxsize=8)
def _bundle(directory: SitePath, members: tuple[Member, ...]) -> Bundle:
    """Return a bundle: who fetches one asks for it several times, and a thousand headers take long."""
    return Bundle(directory, members)


def _facts(entry: Entry) -> Facts | None:
    """Return size and checksum, and for a manifest those of the members, a line each in their order."""
    bundle = bundle_of(entry)
    if bundle is None:
        return None
    manifests = (member.facts.manifest for member in entry.members if member.facts is not None)
    return Facts(bundle.size_bytes, bundle.adler32, "\n".join(manifests))

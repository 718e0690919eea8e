"""Commands about collections and their schemas, and about the session itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from mdm_metadata.access import View
from mdm_metadata.commands.scope import matching
from mdm_metadata.commands.table import COMMANDS, OWN, Pattern, Session, command
from mdm_metadata.schema import Collection, Group, NewAttribute
from srm_dicom.errors import InvalidRequest, NotFound
from srm_dicom.ids import SitePath, parent
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.declare import OpenAccess, Right

_OWN_SESSION = OpenAccess("it tells of the caller's own session only")


@command("createdir <collection> [plain]", Right.METADATA_ADMIN, least=1, most=2)
def createdir(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Make a collection; it inherits the ACL's defaults and, unless ``plain``, the schema."""
    if list(args[1:]) not in ([], ["plain"]):
        raise InvalidRequest("the only option is plain")
    path = session.path(args[0])
    above = _above(session, path)
    end = session.clock.now() + timedelta(days=session.settings.validity_days)
    acl = above.acl.inherited(directory=True) if above else Acl()
    inherited = session.collections.attributes(above).values() if above and not args[1:] else ()
    session.collections.create(path, acl, end, [NewAttribute(a.name, a.type, a.group) for a in inherited])
    return ()


@command("rmdir <collection>", Right.METADATA_ADMIN, least=1, most=1)
def rmdir(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Remove a collection that is empty."""
    session.collections.remove(session.access.require(session.path(args[0]), "p"))
    return ()


@command("setvalidity <collection> <time>", Right.METADATA_ADMIN, since=OWN, least=2, most=2)
def setvalidity(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Say when the collection ends (RFC 3339 with a zone); after it nobody finds anything there."""
    collection = session.access.require(session.path(args[0]), "p")
    session.collections.set_valid_until(collection, _moment(args[1]))
    return ()


@command("getvalidity <collection>", Right.METADATA_ADMIN, since=OWN, least=1, most=1)
def getvalidity(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Tell when the collection ends."""
    return [session.access.require(session.path(args[0]), "p").valid_until.isoformat()]


@command("addattr <collection> <name> <type> ...", Right.METADATA_ADMIN, least=3, step=2)
def addattr(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Add attributes of the search group."""
    return _add(session, args, Group.SEARCH)


@command("addnominative <collection> <name> <type> ...", Right.METADATA_ADMIN, since=OWN, least=3, step=2)
def addnominative(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Add attributes of the nominative group."""
    return _add(session, args, Group.NOMINATIVE)


@command("listattr <collection or entry>", Right.METADATA_SEARCH, least=1, most=1)
def listattr(session: Session, args: Sequence[str]) -> Iterable[str]:
    """List the attributes that the caller may search or set: name and type of each."""
    view = session.access.schema(session.pattern(args[0]).collection)
    return [word for one in view.attributes.values() for word in (one.name, one.type)]


@command("dir [pattern]", Right.METADATA_SEARCH, most=1)
def dir_(session: Session, args: Sequence[str]) -> Iterable[str]:
    """List collections and entries: name and kind of each."""
    pattern = _listed(session, args)
    inside = [one for one in _collections_in(session, pattern.collection) if pattern.chooses(one)]
    rows = [word for one in inside for word in (one, "collection")]
    return _there(pattern, [*rows, *_entries_of(session, pattern)])


@command("listentries [pattern]", Right.METADATA_SEARCH, most=1)
def listentries(session: Session, args: Sequence[str]) -> Iterable[str]:
    """List entries only: name and kind of each."""
    pattern = _listed(session, args)
    return _there(pattern, _entries_of(session, pattern))


@command("cd <collection>", Right.METADATA_SEARCH, least=1, most=1)
def cd(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Go to a collection, from which paths that do not start at the root are read."""
    path = session.path(args[0])
    if not session.access.leads_somewhere(path):
        raise NotFound("no such collection")
    session.directory = path
    return ()


@command("pwd", _OWN_SESSION, most=0)
def pwd(session: Session, _args: Sequence[str]) -> Iterable[str]:
    """Tell where ``cd`` has gone."""
    return [session.directory]


@command("whoami", _OWN_SESSION, most=0)
def whoami(session: Session, _args: Sequence[str]) -> Iterable[str]:
    """Tell the caller's name."""
    return [session.dn]


@command("help [command]", OpenAccess("it tells what any copy of the program tells"), most=1)
def help_(_session: Session, args: Sequence[str]) -> Iterable[str]:
    """List the commands, or tell how one is called."""
    if not args:
        return sorted(COMMANDS)
    if args[0] not in COMMANDS:
        raise NotFound("no such command")
    return [COMMANDS[args[0]].usage]


def _above(session: Session, path: SitePath) -> Collection | None:
    """Return the collection above a new one; None at the root, where only registrars make any."""
    if parent(path) == "/":
        session.access.require_registrar()
        return None
    return session.access.require(parent(path), "p")


def _add(session: Session, args: Sequence[str], group: Group) -> Iterable[str]:
    collection = session.access.require(session.path(args[0]), "p")
    pairs = zip(args[1::2], args[2::2], strict=True)
    session.collections.add_attributes(collection, [NewAttribute(*pair, group) for pair in pairs])
    return ()


def _collections_in(session: Session, path: SitePath) -> list[str]:
    below = path.rstrip("/") + "/"
    visible = (one.removeprefix(below) for one in session.access.visible() if one.startswith(below))
    return sorted({one.partition("/")[0] for one in visible})


def _listed(session: Session, args: Sequence[str]) -> Pattern:
    pattern = session.pattern(args[0] if args else ".")
    if not session.access.leads_somewhere(pattern.collection):
        raise NotFound("no such collection")
    return pattern


def _there(pattern: Pattern, rows: list[str]) -> list[str]:
    if not rows and not pattern.is_glob:
        raise NotFound("no such collection")
    return rows


def _entries_of(session: Session, pattern: Pattern) -> list[str]:
    collection = session.access.names_entries(pattern.collection)
    if collection is None:
        return []
    names = matching(session, View(collection, {}), pattern)
    return [word for entry in names for word in (entry, "entry")]


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest("a time reads 2030-01-31T00:00:00Z") from error
    if moment.tzinfo is None or not 1970 < moment.year < 9999:
        raise InvalidRequest("a time needs a zone and a year of this era")
    return moment.astimezone(UTC)

"""Commands that write entries, one by one and in bulk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mdm_metadata.access import View
from mdm_metadata.commands.scope import matching
from mdm_metadata.commands.table import Session, Upload, command
from mdm_metadata.schema import Attribute, Value
from srm_dicom.errors import InvalidRequest, MdmError, NotFound, TooLarge
from srm_dicom.ids import join
from srm_dicom.rights.declare import Right
from srm_dicom.wire import amga, query


@command("addentry <entry> [<attribute> <value>] ...", Right.METADATA_WRITE, least=1, step=2)
def addentry(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Add an entry with values."""
    collection, entry = session.entry(args[0])
    view = session.access.writing(collection)
    session.collections.entries.add(view.collection, [(entry, _values(view, args[1:]))])
    return ()


@command("addentries <entry> ...", Right.METADATA_WRITE, least=1)
def addentries(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Add entries of one collection without values."""
    paths = [session.entry(text) for text in args]
    if len({collection for collection, _ in paths}) > 1:
        raise InvalidRequest("entries of one call are in one collection")
    view = session.access.writing(paths[0][0])
    session.collections.entries.add(view.collection, [(entry, {}) for _, entry in paths])
    return ()


@command("setattr <pattern> <attribute> <value> ...", Right.METADATA_WRITE, least=3, step=2)
def setattr_(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Set values of every entry that the pattern chooses; an empty one removes the value."""
    pattern = session.pattern(args[0])
    view = session.access.writing(pattern.collection)
    values = _values(view, args[1:])
    names = matching(session, view, pattern)
    if not names:
        raise NotFound("no such entry")
    session.collections.entries.update(view.collection, names, values)
    return ()


@command("updateattr <pattern> <attribute> <literal> ... <condition>", Right.METADATA_WRITE, least=4, step=2)
def updateattr(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Set values, written as in a condition, of the entries for which the condition is true."""
    pattern = session.pattern(args[0])
    view = session.access.writing(pattern.collection)
    literals = [str(query.parse_literal(text).value) for text in args[2:-1:2]]
    values = _values(view, [word for pair in zip(args[1:-1:2], literals, strict=True) for word in pair])
    condition = query.parse(args[-1]).condition
    readable = session.access.view(pattern.collection) if condition else view
    names = matching(session, readable, pattern, condition)
    session.collections.entries.update(view.collection, names, values)
    return ()


@command("rm <pattern> ...", Right.METADATA_WRITE, least=1)
def rm(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Remove every entry that a pattern chooses."""
    removed = 0
    for pattern in map(session.pattern, args):
        view = session.access.writing(pattern.collection)
        names = matching(session, view, pattern)
        session.collections.entries.remove(view.collection, names)
        removed += len(names)
    if not removed:
        raise NotFound("no such entry")
    return ()


@command("upload <collection> <attribute> ...", Right.METADATA_WRITE, least=1, silent=True)
def upload(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Begin a bulk write: every ``put`` that follows has a value for each of these attributes."""
    session.upload = Upload(None, ())
    try:
        view = session.access.writing(session.path(args[0]))
        session.upload = Upload(view, tuple(view.attribute(name) for name in args[1:]))
    except (amga.Refused, MdmError) as failure:
        session.upload.failure = failure
        raise
    return ()


@command("put <entry> <value> ...", Right.METADATA_WRITE, least=1, silent=True)
def put(session: Session, args: Sequence[str]) -> Iterable[str]:
    """Give an entry of the upload its values; ``commit`` tells what was wrong with it."""
    current = _uploading(session)
    if current.failure is None:
        try:
            current.rows.append(_row(session, current, args))
        except MdmError as failure:
            current.failure = failure
            current.rows.clear()
    return ()


@command("commit", Right.METADATA_WRITE, most=0)
def commit(session: Session, _args: Sequence[str]) -> Iterable[str]:
    """Write the upload: entries are added, those that exist get the new values; all of them or none."""
    current = _uploading(session)
    session.upload = None
    if current.failure is not None or current.view is None:
        raise current.failure or InvalidRequest("there is no upload")
    view = session.access.writing(current.view.collection.path)
    for attribute in current.attributes:
        view.attribute(attribute.name)
    session.collections.entries.put(view.collection, current.attributes, current.rows)
    return ()


@command("abort", Right.METADATA_WRITE, most=0)
def abort(session: Session, _args: Sequence[str]) -> Iterable[str]:
    """Forget the upload."""
    _uploading(session)
    session.upload = None
    return ()


def _values(view: View, args: Sequence[str]) -> dict[Attribute, Value]:
    pairs = zip(args[::2], args[1::2], strict=True)
    attributes = [(view.attribute(name), text) for name, text in pairs]
    return {attribute: attribute.value(text) for attribute, text in attributes}


def _row(session: Session, current: Upload, args: Sequence[str]) -> tuple[Any, ...]:
    if current.view is None or len(args) - 1 != len(current.attributes):
        raise InvalidRequest("a put has one value for each attribute of the upload")
    if len(current.rows) >= session.settings.rows:
        raise TooLarge(f"an upload has at most {session.settings.rows} entries")
    collection = current.view.collection.path
    path = session.path(args[0]) if args[0].startswith("/") else join(collection, args[0])
    above, entry = session.entry(path)
    if above != collection:
        raise InvalidRequest("the entry is not in the collection of the upload")
    values = (one.value(text) for one, text in zip(current.attributes, args[1:], strict=True))
    return (entry, *values)


def _uploading(session: Session) -> Upload:
    if session.upload is None:
        raise InvalidRequest("there is no upload")
    return session.upload

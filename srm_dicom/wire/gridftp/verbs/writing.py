"""Verbs that change something: a file's bytes, or a name."""

from __future__ import annotations

from functools import partial

from srm_dicom.errors import InvalidRequest, NotSupported
from srm_dicom.rights.declare import Right, requires
from srm_dicom.wire.gridftp.actions import Describe, MakeDirectory, Remove, Rename, Store
from srm_dicom.wire.gridftp.dialogue import Dialogue
from srm_dicom.wire.gridftp.facts import Described
from srm_dicom.wire.gridftp.ranges import parse_offset
from srm_dicom.wire.gridftp.replies import Reply


@requires(Right.FILE_WRITE)
def stor(dialogue: Dialogue, argument: str) -> Store | Reply:
    """Receive a file."""
    restart, expected = dialogue.take_restart(), dialogue.take_expected()
    path = dialogue.name(argument)
    return path if isinstance(path, Reply) else Store(path, restart, expected_bytes=expected)


@requires(Right.FILE_WRITE)
def appe(dialogue: Dialogue, argument: str) -> Store | Reply:
    """Receive what belongs behind the end of a file; ALLO would count the new bytes alone."""
    restart = dialogue.take_restart()
    dialogue.take_expected()
    path = dialogue.name(argument)
    return path if isinstance(path, Reply) else Store(path, restart, append=True)


@requires(Right.FILE_WRITE)
def esto(dialogue: Dialogue, argument: str) -> Store | Reply:
    """Receive a part of a file: ``A offset path``."""
    restart = dialogue.take_restart()
    dialogue.take_expected()
    module, *rest = argument.strip().split(" ", 2)
    if module.upper() != "A":
        raise NotSupported("ESTO knows the module A only")
    if len(rest) != 2:
        raise InvalidRequest("ESTO takes A, an offset and a path")
    path, base = dialogue.name(rest[1]), parse_offset(rest[0])
    return path if isinstance(path, Reply) else Store(path, restart, base=base)


@requires(Right.FILE_WRITE)
def mkd(dialogue: Dialogue, argument: str) -> MakeDirectory | Reply:
    """Make a directory."""
    path = dialogue.name(argument)
    return path if isinstance(path, Reply) else MakeDirectory(path)


@requires(Right.FILE_WRITE)
def rmd(dialogue: Dialogue, argument: str) -> Remove:
    """Remove an empty directory."""
    return Remove(dialogue.resolve(argument), directory=True)


@requires(Right.FILE_WRITE)
def dele(dialogue: Dialogue, argument: str) -> Remove:
    """Remove a file."""
    return Remove(dialogue.resolve(argument), directory=False)


@requires(Right.FILE_LIST)
def rnfr(dialogue: Dialogue, argument: str) -> Describe:
    """Name what RNTO will rename, if there is one of that name."""
    dialogue.renaming = None
    return Describe(dialogue.resolve(argument), partial(_remember, dialogue))


@requires(Right.FILE_WRITE)
def rnto(dialogue: Dialogue, argument: str) -> Rename | Reply:
    """Rename."""
    source, dialogue.renaming = dialogue.renaming, None
    if source is None:
        return Reply.of(503, "RNFR comes first.")
    path = dialogue.name(argument)
    return path if isinstance(path, Reply) else Rename(source, path)


def _remember(dialogue: Dialogue, file: Described) -> Reply:
    dialogue.renaming = dialogue.resolve(file.path)
    return Reply.of(350, "Now say RNTO.")

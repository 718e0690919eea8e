"""Verbs that name a file or a directory; the door checks the right where it performs the action."""

from __future__ import annotations

from functools import partial

from srm_dicom.errors import InvalidRequest, NotADirectory, NotSupported
from srm_dicom.ids import SitePath, name
from srm_dicom.rights.declare import OpenAccess, Right, requires
from srm_dicom.wire.gridftp import facts
from srm_dicom.wire.gridftp.actions import Checksum, Describe, ListDirectory, Retrieve
from srm_dicom.wire.gridftp.dialogue import Dialogue
from srm_dicom.wire.gridftp.facts import Described
from srm_dicom.wire.gridftp.ranges import Section, parse_offset
from srm_dicom.wire.gridftp.replies import Reply
from srm_dicom.wire.gridftp.sums import ALGORITHMS

_OWN_SESSION = OpenAccess("touches no object")


@requires(Right.FILE_READ)
def retr(dialogue: Dialogue, argument: str) -> Retrieve:
    """Send a file."""
    restart = dialogue.take_restart()
    return Retrieve(dialogue.resolve(argument), Section(), restart)


@requires(Right.FILE_READ)
def eret(dialogue: Dialogue, argument: str) -> Retrieve:
    """Send a part of a file: ``P offset length path``."""
    restart = dialogue.take_restart()
    module, offset, length, path = _words(argument, "ERET takes P, an offset, a length and a path")
    if module.upper() != "P":
        raise NotSupported("ERET knows the module P only")
    section = Section(parse_offset(offset), parse_offset(length))
    return Retrieve(dialogue.resolve(path), section, restart)


@requires(Right.FILE_LIST)
def size(dialogue: Dialogue, argument: str) -> Describe:
    """Tell the size."""
    return Describe(dialogue.resolve(argument), facts.size_reply)


@requires(Right.FILE_LIST)
def mdtm(dialogue: Dialogue, argument: str) -> Describe:
    """Tell the time that may be shown."""
    return Describe(dialogue.resolve(argument), facts.mdtm_reply)


@requires(Right.FILE_LIST)
def mlst(dialogue: Dialogue, argument: str) -> Describe:
    """Tell the facts of one name."""
    return Describe(dialogue.resolve(argument), partial(facts.mlst_reply, chosen=dialogue.parameters.facts))


@requires(Right.FILE_LIST)
def mlsd(dialogue: Dialogue, argument: str) -> ListDirectory:
    """Send a directory as facts."""
    chosen = dialogue.parameters.facts
    return ListDirectory(
        dialogue.resolve(argument),
        entry=lambda file: facts.fact_line(file, chosen, _name(file)),
        itself=lambda file: facts.fact_line(file, chosen, ".", kind="cdir"),
    )


@requires(Right.FILE_LIST)
def mlsr(dialogue: Dialogue, argument: str) -> ListDirectory:
    """Send a directory and all below it as facts, names relative to it."""
    chosen, base = dialogue.parameters.facts, dialogue.resolve(argument)
    return ListDirectory(
        base,
        entry=lambda file: facts.fact_line(file, chosen, file.path.removeprefix(base).lstrip("/")),
        itself=lambda file: facts.fact_line(file, chosen, ".", kind="cdir"),
        deep=True,
    )


@requires(Right.FILE_LIST)
def list_(dialogue: Dialogue, argument: str) -> ListDirectory:
    """Send a directory in the manner of ``ls -l``."""
    return ListDirectory(dialogue.resolve(_without_options(argument)), entry=facts.list_line)


@requires(Right.FILE_LIST)
def nlst(dialogue: Dialogue, argument: str) -> ListDirectory:
    """Send the names in a directory."""
    return ListDirectory(dialogue.resolve(_without_options(argument)), entry=_name)


@requires(Right.FILE_LIST)
def cksm(dialogue: Dialogue, argument: str) -> Checksum:
    """Tell a checksum: ``ALGORITHM offset length path``, a length of -1 meaning the rest."""
    algorithm, offset, length, path = _words(argument, "CKSM takes an algorithm, offset, length and path")
    if algorithm.upper() not in ALGORITHMS:
        raise NotSupported(f"CKSM knows {', '.join(ALGORITHMS)}")
    section = Section(parse_offset(offset), None if length == "-1" else parse_offset(length))
    return Checksum(dialogue.resolve(path), algorithm.upper(), section)


@requires(Right.FILE_LIST)
def cwd(dialogue: Dialogue, argument: str) -> Describe:
    """Change the working directory, if there is one of that name."""
    return Describe(dialogue.resolve(argument), partial(_enter, dialogue))


@requires(Right.FILE_LIST)
def cdup(dialogue: Dialogue, _argument: str) -> Describe:
    """Change to the directory above."""
    return Describe(dialogue.resolve(".."), partial(_enter, dialogue))


@requires(_OWN_SESSION)
def pwd(dialogue: Dialogue, _argument: str) -> Reply:
    """Tell the working directory."""
    return Reply.of(257, f'"{dialogue.directory}" is the current directory.')


@requires(_OWN_SESSION)
def abor(_dialogue: Dialogue, _argument: str) -> Reply:
    """Acknowledge: a transfer that ran has been answered with 426 already."""
    return Reply.of(226, "Abort successful.")


def _enter(dialogue: Dialogue, file: Described) -> Reply:
    if not file.is_directory:
        raise NotADirectory("CWD takes a directory")
    dialogue.directory = SitePath(file.path)
    return Reply.of(250, "CWD command successful.")


def _name(file: Described) -> str:
    return name(SitePath(file.path))


def _without_options(argument: str) -> str:
    """Drop what programs add as if LIST were ls: ``LIST -la /path``."""
    words = argument.split()
    return " ".join(word for word in words if not word.startswith("-"))


def _words(argument: str, usage: str) -> list[str]:
    words = argument.strip().split(" ", 3)
    if len(words) != 4:
        raise InvalidRequest(usage)
    return words

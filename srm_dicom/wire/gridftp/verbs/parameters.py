"""Verbs that set how data will be sent."""

from __future__ import annotations

import re
from dataclasses import replace

from srm_dicom.errors import InvalidRequest
from srm_dicom.identity.dn import normalise
from srm_dicom.rights.declare import OpenAccess, requires
from srm_dicom.wire.gridftp import facts
from srm_dicom.wire.gridftp.dialogue import Dialogue
from srm_dicom.wire.gridftp.ranges import Restart
from srm_dicom.wire.gridftp.replies import Reply

_OWN_SESSION = OpenAccess("changes only the caller's own session")
_PARALLELISM = re.compile(r"Parallelism=(\d{1,4})(?:,\d+)*\s*(?:;|\Z)", re.IGNORECASE)
_LAYOUT = re.compile(r"StripeLayout=(Partitioned|Blocked)\s*;", re.IGNORECASE)
"""GFD.020, 5.3: in MODE E every block says where it belongs, so that a layout is the sender's own affair."""


@requires(_OWN_SESSION)
def type_(dialogue: Dialogue, argument: str) -> Reply:
    """Set the representation type; files are sent as they are under every one."""
    kind = argument.strip().upper()
    if kind not in ("I", "L 8", "A", "A N"):
        return Reply.of(504, "TYPE is I, L 8 or A.")
    dialogue.parameters = replace(dialogue.parameters, kind=kind[0])
    return Reply.of(200, f"Type set to {kind[0]}.")


@requires(_OWN_SESSION)
def mode(dialogue: Dialogue, argument: str) -> Reply:
    """Set stream mode or extended block mode."""
    letter = argument.strip().upper()
    if letter not in ("S", "E"):
        return Reply.of(504, "MODE is S or E.")
    dialogue.parameters = replace(dialogue.parameters, mode=letter)
    return Reply.of(200, f"Mode set to {letter}.")


@requires(_OWN_SESSION)
def stru(_dialogue: Dialogue, argument: str) -> Reply:
    """Set the file structure."""
    if argument.strip().upper() != "F":
        return Reply.of(504, "STRU is F.")
    return Reply.of(200, "Structure set to F.")


@requires(_OWN_SESSION)
def pbsz(_dialogue: Dialogue, argument: str) -> Reply:
    """Take a protection buffer size; TLS records have their own."""
    text = argument.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return Reply.of(501, "PBSZ takes a number.")
    return Reply.of(200, f"PBSZ={text}")


@requires(_OWN_SESSION)
def prot(dialogue: Dialogue, argument: str) -> Reply:
    """Set the protection of data."""
    level = argument.strip().upper()
    if level not in ("C", "S", "E", "P"):
        return Reply.of(504, "PROT is C, S, E or P.")
    if level != "C" and dialogue.parameters.dcau == "N":
        return Reply.of(503, "Data connections without authentication cannot be protected: DCAU A first.")
    dialogue.parameters = replace(dialogue.parameters, protection=level)
    return Reply.of(200, f"Protection level set to {level}.")


@requires(_OWN_SESSION)
def dcau(dialogue: Dialogue, argument: str) -> Reply:
    """Set who must be at the other end of data connections."""
    letter, _, subject = argument.strip().partition(" ")
    letter = letter.upper()
    if letter == "N" and dialogue.parameters.protection != "C":
        return Reply.of(503, "Protected data need authentication: PROT C first.")
    if letter not in ("A", "N", "S") or bool(subject) != (letter == "S"):
        return Reply.of(504, "DCAU is A, N, or S with the name of the peer.")
    subject = normalise(subject) if subject else ""
    dialogue.parameters = replace(dialogue.parameters, dcau=letter, subject=subject)
    return Reply.of(200, f"DCAU {letter}.")


@requires(_OWN_SESSION)
def opts(dialogue: Dialogue, argument: str) -> Reply:
    """Set options of RETR, MLST and UTF8.

    PASV's ``AllowDelayed`` lets a server tell its port later and does not oblige it; what STOR may be told
    concerns a disk.
    """
    word, _, options = argument.strip().partition(" ")
    if word.upper() == "RETR":
        return _opts_retr(dialogue, options)
    if word.upper() == "MLST":
        chosen = facts.choose(options)
        dialogue.parameters = replace(dialogue.parameters, facts=chosen)
        return Reply.of(200, "MLST OPTS " + "".join(f"{fact};" for fact in chosen))
    if word.upper() == "UTF8":
        return Reply.of(200, "UTF8 is always on.")
    if word.upper() in ("PASV", "STOR"):
        return Reply.of(200, "OPTS Command Successful.")
    return Reply.of(501, "OPTS knows RETR, STOR, PASV, MLST and UTF8.")


def _opts_retr(dialogue: Dialogue, options: str) -> Reply:
    match = _PARALLELISM.search(options)
    if match is None and _LAYOUT.search(options):
        return Reply.of(200, "Every node sends a part of a file; receivers need not know which.")
    if match is None:
        return Reply.of(501, "OPTS RETR takes Parallelism=n,n,n; and StripeLayout=...;")
    streams = min(max(1, int(match[1])), dialogue.limits.max_streams)
    dialogue.parameters = replace(dialogue.parameters, streams=streams)
    return Reply.of(200, "OPTS Command Successful.")


@requires(_OWN_SESSION)
def rest(dialogue: Dialogue, argument: str) -> Reply:
    """Announce what the client has already."""
    restart = Restart.parse(argument)
    if restart.received and dialogue.parameters.mode != "E":
        raise InvalidRequest("REST with ranges needs MODE E")
    dialogue.restart = restart
    return Reply.of(350, "Restart Marker OK. Send RETR to initiate transfer.")


@requires(_OWN_SESSION)
def allo(dialogue: Dialogue, argument: str) -> Reply:
    """Take the size of the next upload, in bytes; a record size after it means nothing here."""
    text = argument.strip().partition(" ")[0]
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidRequest("ALLO takes a number of bytes")
    dialogue.expected_bytes = int(text)
    return Reply.of(200, "ALLO Command Successful.")


@requires(_OWN_SESSION)
def sbuf(_dialogue: Dialogue, argument: str) -> Reply:
    """Leave buffers to the kernel."""
    text = argument.strip()
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest("a buffer size is a number of bytes")
    return Reply.of(200, "The kernel sizes the buffers.")

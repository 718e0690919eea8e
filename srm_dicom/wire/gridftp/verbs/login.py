"""Verbs that log in, log out and tell about the server."""

from __future__ import annotations

import base64

from srm_dicom.errors import NotAuthenticated
from srm_dicom.rights.declare import OpenAccess, requires
from srm_dicom.wire.gridftp import facts
from srm_dicom.wire.gridftp.dialogue import Dialogue
from srm_dicom.wire.gridftp.replies import Reply
from srm_dicom.wire.gridftp.sums import ALGORITHMS
from srm_dicom.wire.gridftp.verbs.parameters import sbuf

_BEFORE_LOGIN = OpenAccess("the login itself")
_NO_OBJECT = OpenAccess("touches no object")

_FEATURES = (
    *("DCAU", "ERET", "ESTO", "MDTM", "MLSR", "PARALLEL", "REST STREAM"),
    *("SIZE", "SPAS", "SPOR", "TVFS", "UTF8"),
)
_BUFFER_SIZES = frozenset(("BUFSIZE", "RETRBUFSIZE", "RBUFSIZ", "RBUFSZ", "STORBUFSIZE", "SBUFSIZ", "SBUFSZ"))
"""What servers have called it before there was SBUF; Globus clients try these names first."""

_HELP = (
    "The following commands are recognized:",
    "ABOR ADAT ALLO APPE AUTH CDUP CKSM CWD DCAU DELE EPRT EPSV ERET ESTO FEAT HELP LIST MDTM MKD MLSD MLSR",
    "MLST MODE NLST NOOP OPTS PASS PASV PBSZ PORT PROT PWD QUIT REST RETR RMD RNFR RNTO SBUF SITE SIZE SPAS",
    "SPOR STAT STOR STRU SYST TYPE USER",
    "End",
)


@requires(_BEFORE_LOGIN)
def auth(dialogue: Dialogue, argument: str) -> Reply:
    """Choose the mechanism."""
    if argument.strip().upper() != "GSSAPI":
        return Reply.of(504, "This server speaks AUTH GSSAPI only.")
    dialogue.acceptor = dialogue.new_acceptor()
    dialogue.advance("mechanism chosen")
    return Reply.of(334, "Using authentication type; ADAT must follow.")


@requires(_BEFORE_LOGIN)
def adat(dialogue: Dialogue, argument: str) -> Reply:
    """Exchange one token; a refused login ends the session and says why."""
    if dialogue.acceptor is None:
        return Reply.of(503, "AUTH comes first.")
    try:
        token = base64.b64decode(argument, validate=True)
    except ValueError:  # binascii.Error is one; characters beyond ASCII are another
        dialogue.close()
        return Reply.of(501, "The token is not base64.")
    try:
        step = dialogue.acceptor.step(token)
    except NotAuthenticated as error:
        dialogue.refusal = error.message
        dialogue.close()
        return Reply.of(535, f"Authentication failed: {error.message}", error.advice or "End.")
    answer = f"ADAT={base64.b64encode(step.token).decode()}"
    if not step.complete:
        return Reply.of(335, answer)
    dialogue.advance("context complete")
    return Reply.of(235, answer if step.token else "GSSAPI Authentication successful.")


@requires(_BEFORE_LOGIN)
def user(dialogue: Dialogue, _argument: str) -> Reply:
    """Take a name; who is on the line has been decided by the credential."""
    dialogue.advance("user")
    return Reply.of(331, "Password required, any will do.")


@requires(_BEFORE_LOGIN)
def password(dialogue: Dialogue, _argument: str) -> Reply:
    """Finish the login, unless the user has too many sessions."""
    if not dialogue.admit(dialogue.principal.dn):
        dialogue.refusal = "too many sessions of one identity"
        dialogue.close()
        return Reply.of(421, "You have too many sessions: close some, or try again later.")
    dialogue.advance("password")
    return Reply.of(230, f"User {dialogue.principal.dn} logged in.")


@requires(_NO_OBJECT)
def quit_(dialogue: Dialogue, _argument: str) -> Reply:
    """End the session."""
    dialogue.close()
    return Reply.of(221, "Goodbye.")


@requires(_NO_OBJECT)
def noop(_dialogue: Dialogue, _argument: str) -> Reply:
    """Do nothing."""
    return Reply.of(200, "OK.")


@requires(_NO_OBJECT)
def feat(dialogue: Dialogue, _argument: str) -> Reply:
    """List extensions; without DCAU in it `globus-url-copy -dcpriv` would silently send clear data."""
    checksums = "CKSM " + "".join(f"{name}:{rank};" for name, rank in ALGORITHMS.items())
    listing = facts.feature(dialogue.parameters.facts)
    return Reply.of(211, "Extensions supported", *sorted((*_FEATURES, checksums, listing)), "End.")


@requires(_NO_OBJECT)
def help_(_dialogue: Dialogue, _argument: str) -> Reply:
    """List the verbs."""
    return Reply.of(214, *_HELP)


@requires(_NO_OBJECT)
def syst(_dialogue: Dialogue, _argument: str) -> Reply:
    """Name the system that listings look like."""
    return Reply.of(215, "UNIX Type: L8")


@requires(_NO_OBJECT)
def stat(dialogue: Dialogue, argument: str) -> Reply:
    """Tell the parameters of the session."""
    if argument.strip():
        return Reply.of(504, "STAT takes no path here: use MLST.")
    now = dialogue.parameters
    line = f"TYPE {now.kind} MODE {now.mode} DCAU {now.dcau} PROT {now.protection} streams {now.streams}"
    return Reply.of(211, "Session", line, "End.")


@requires(_NO_OBJECT)
def site(dialogue: Dialogue, argument: str) -> Reply:
    """Answer what clients ask when they begin, and take buffer sizes as SBUF does."""
    word, _, rest = argument.strip().partition(" ")
    word = word.upper()
    if word == "HELP":
        return Reply.of(214, *_HELP)
    if word == "CLIENTINFO":
        return Reply.of(250, "OK.")
    if word in _BUFFER_SIZES:
        return sbuf(dialogue, rest)
    return Reply.of(504, "This SITE command is not supported.")

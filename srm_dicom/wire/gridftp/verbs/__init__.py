"""Every command as one entry of a table: what it needs, what it does, what the standard says of it.

A handler takes the dialogue and the argument and returns a `Reply` or an `Action`; it may raise any
leaf of the error tree. What it checks is declared on it (`rights.declare`); a test fails for a verb
that declares nothing. The compliance page is this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from srm_dicom.rights.declare import Declaration, declared
from srm_dicom.wire.gridftp.actions import Action
from srm_dicom.wire.gridftp.dialogue import LIVING, Dialogue, Stage
from srm_dicom.wire.gridftp.replies import Reply
from srm_dicom.wire.gridftp.verbs import connections, files, login, parameters, refused, writing

Handler = Callable[[Dialogue, str], Reply | Action]

OPEN = frozenset({Stage.OPEN})


@dataclass(frozen=True, slots=True)
class Verb:
    """One command.

    Attributes:
        stages: where it is allowed.
        clause: of which standard.
        how: what we do, for the compliance page.
        done: False when the verb is known and refused.
        since: version of this server.
    """

    name: str
    handler: Handler
    stages: frozenset[Stage]
    clause: str
    how: str
    done: bool = True
    since: str = "0.1"

    @property
    def right(self) -> Declaration | None:
        """What the handler declares to check."""
        return declared(self.handler)


_GREETED = frozenset({Stage.GREETED})

_VERBS = (
    # login
    Verb("AUTH", login.auth, _GREETED, "RFC 2228, 3; GFD.020", "GSSAPI only"),
    Verb("ADAT", login.adat, frozenset({Stage.TOKENS}), "RFC 2228, 3", "TLS 1.2 and 1.3, with delegation"),
    Verb("USER", login.user, frozenset({Stage.SECURED}), "RFC 959, 4.1.1", "any name: the credential counts"),
    Verb("PASS", login.password, frozenset({Stage.NAMED}), "RFC 959, 4.1.1", "any password"),
    Verb("QUIT", login.quit_, LIVING, "RFC 959, 4.1.1", "closes after the last reply"),
    Verb("NOOP", login.noop, LIVING, "RFC 959, 4.1.3", "restarts the idle clock"),
    Verb("FEAT", login.feat, LIVING, "RFC 2389, 3", "lists what this table does"),
    Verb("HELP", login.help_, LIVING, "RFC 959, 4.1.3", "lists the verbs"),
    Verb("SYST", login.syst, LIVING, "RFC 959, 4.1.3", "UNIX Type: L8"),
    Verb("STAT", login.stat, OPEN, "RFC 959, 4.1.3", "the session's parameters; no file status"),
    Verb("SITE", login.site, OPEN, "RFC 959, 4.1.3", "HELP, CLIENTINFO; buffer sizes, as SBUF"),
    Verb("CCC", refused.clear_channel, OPEN, "RFC 2228, 3", "refused: commands stay protected", done=False),
    # parameters
    Verb("TYPE", parameters.type_, OPEN, "RFC 959, 4.1.2", "A, I, L 8; bytes are never converted"),
    Verb("MODE", parameters.mode, OPEN, "RFC 959, 4.1.2; GFD.020, 3.2", "S and E"),
    Verb("STRU", parameters.stru, OPEN, "RFC 959, 4.1.2", "F"),
    Verb("PBSZ", parameters.pbsz, OPEN, "RFC 2228, 3", "any size"),
    Verb("PROT", parameters.prot, OPEN, "RFC 2228, 3", "C; S, E and P are one: encrypted"),
    Verb("DCAU", parameters.dcau, OPEN, "GFD.020, 5.1", "A (the default), N, S with a name"),
    Verb(
        "OPTS",
        parameters.opts,
        OPEN,
        "RFC 2389, 4; GFD.020, 5.3",
        "RETR Parallelism, MLST facts, PASV, UTF8",
    ),
    Verb("REST", parameters.rest, OPEN, "RFC 3659, 5; GFD.020, 4.1", "an offset, or ranges in MODE E"),
    Verb(
        "ALLO",
        parameters.allo,
        OPEN,
        "RFC 959, 4.1.3",
        "the size of the next upload; less is refused",
    ),
    Verb("SBUF", parameters.sbuf, OPEN, "GFD.020, 5.2", "accepted, the kernel sizes buffers"),
    # data connections
    Verb("PASV", connections.pasv, OPEN, "RFC 959, 4.1.2", "one-shot port of the configured range"),
    Verb(
        "EPSV",
        connections.epsv,
        OPEN,
        "RFC 2428, 3",
        "on the family of the control connection, others: 522; ALL",
    ),
    Verb("SPAS", connections.spas, OPEN, "GFD.020, 5.5", "a port on each transfer node"),
    Verb("PORT", connections.port, OPEN, "RFC 959, 4.1.2", "to the control peer, or where the site allows"),
    Verb("EPRT", connections.eprt, OPEN, "RFC 2428, 2", "as PORT, also IPv6"),
    Verb("SPOR", connections.spor, OPEN, "GFD.020, 5.4", "as PORT, several addresses, from each node"),
    # files
    Verb("RETR", files.retr, OPEN, "RFC 959, 4.1.3", "a staged file, whole or after REST"),
    Verb("ERET", files.eret, OPEN, "GFD.020, 5.7", "P: a part of a staged file"),
    Verb("SIZE", files.size, OPEN, "RFC 3659, 4", "of the sealed bytes"),
    Verb("MDTM", files.mdtm, OPEN, "RFC 3659, 3", "never nearer to an examination than the site's constant"),
    Verb("MLST", files.mlst, OPEN, "RFC 3659, 7", "all facts, or those of OPTS MLST"),
    Verb("MLSD", files.mlsd, OPEN, "RFC 3659, 7", "only what the caller may see"),
    Verb("MLSR", files.mlsr, OPEN, "Globus", "as MLSD, with everything below"),
    Verb("LIST", files.list_, OPEN, "RFC 959, 4.1.3", "in the manner of ls -l"),
    Verb("NLST", files.nlst, OPEN, "RFC 959, 4.1.3", "names"),
    Verb(
        "CKSM",
        files.cksm,
        OPEN,
        "GFD.047",
        "ADLER32 as registered, others computed",
    ),
    Verb("CWD", files.cwd, OPEN, "RFC 959, 4.1.1", "into a directory that the caller may see"),
    Verb("CDUP", files.cdup, OPEN, "RFC 959, 4.1.1", "as CWD .."),
    Verb("PWD", files.pwd, OPEN, "RFC 959, 4.1.3", ""),
    Verb("ABOR", files.abor, OPEN, "RFC 959, 4.1.3", "also read while a transfer runs"),
    # writing
    Verb(
        "STOR",
        writing.stor,
        OPEN,
        "RFC 959, 4.1.3",
        "an SRM put, or where the file right allows",
    ),
    Verb("APPE", writing.appe, OPEN, "RFC 959, 4.1.3", "behind the end of an upload that is not finished"),
    Verb("ESTO", writing.esto, OPEN, "GFD.020, 5.8", "A: a part of an upload, at an offset"),
    Verb("STOU", refused.store_unique, OPEN, "RFC 959, 4.1.3", "refused: clients name files", done=False),
    Verb("MKD", writing.mkd, OPEN, "RFC 959, 4.1.3", "where the file right allows"),
    Verb("RMD", writing.rmd, OPEN, "RFC 959, 4.1.3", "an empty directory"),
    Verb("DELE", writing.dele, OPEN, "RFC 959, 4.1.3", "a file"),
    Verb("RNFR", writing.rnfr, OPEN, "RFC 959, 4.1.3", "a name that the caller may see"),
    Verb("RNTO", writing.rnto, OPEN, "RFC 959, 4.1.3", "never over another name"),
)

TABLE: dict[str, Verb] = {verb.name: verb for verb in _VERBS}

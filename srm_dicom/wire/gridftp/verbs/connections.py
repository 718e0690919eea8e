"""Verbs that say where data connections go."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from srm_dicom.rights.declare import OpenAccess, requires
from srm_dicom.wire.gridftp import addresses
from srm_dicom.wire.gridftp.actions import Action, Listen, ListenStriped, Target
from srm_dicom.wire.gridftp.dialogue import Dialogue
from srm_dicom.wire.gridftp.replies import Reply

Handler = Callable[[Dialogue, str], Reply | Action]

_OWN_PORT = OpenAccess("a port of the caller's own session; the door's peer policy bounds where it leads")


def _but_epsv(setting_up: Handler) -> Handler:
    """Refuse a command after EPSV ALL (RFC 2428, 4)."""

    @wraps(setting_up)
    def refusing(dialogue: Dialogue, argument: str) -> Reply | Action:
        if dialogue.epsv_only:
            return Reply.of(503, "Only EPSV after EPSV ALL.")
        return setting_up(dialogue, argument)

    return refusing


@requires(_OWN_PORT)
@_but_epsv
def pasv(_dialogue: Dialogue, _argument: str) -> Listen:
    """Listen, IPv4."""
    return Listen(addresses.pasv_reply)


@requires(_OWN_PORT)
def epsv(dialogue: Dialogue, argument: str) -> Listen | Reply:
    """Listen on the family of the control connection; a client that asks for another gets 522."""
    family = argument.strip().upper()
    if family == "ALL":
        dialogue.epsv_only = True
        return Reply.of(200, "EPSV ALL: nothing else will set up data connections.")
    return Listen(addresses.epsv_reply, family)


@requires(_OWN_PORT)
@_but_epsv
def spas(_dialogue: Dialogue, _argument: str) -> ListenStriped:
    """Listen, one stripe a transfer node."""
    return ListenStriped(addresses.spas_reply)


@requires(_OWN_PORT)
@_but_epsv
def port(_dialogue: Dialogue, argument: str) -> Target:
    """Connect to the client, IPv4."""
    return Target((addresses.parse_port(argument),), Reply.of(200, "PORT Command successful."))


@requires(_OWN_PORT)
@_but_epsv
def eprt(_dialogue: Dialogue, argument: str) -> Target:
    """Connect to the client, IPv4 or IPv6."""
    return Target((addresses.parse_eprt(argument),), Reply.of(200, "EPRT Command successful."))


@requires(_OWN_PORT)
@_but_epsv
def spor(_dialogue: Dialogue, argument: str) -> Target:
    """Connect to several addresses, one a stripe."""
    return Target(addresses.parse_spor(argument), Reply.of(200, "SPOR Command successful."), striped=True)

"""Who may open an association with an AE of ours, and for what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from srm_plugin_dicom.pdu import Rejection

Admit = Callable[[str, str, str], "Rejection | None"]
"""(called title, calling title, address) to the reason of a rejection; None lets it in."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A node that may send to us: its AE title and the IP addresses that it comes from."""

    ae_title: str
    addresses: frozenset[str]


@dataclass(frozen=True, slots=True)
class Admission:
    """The rule of one AE; a pickled copy judges elsewhere."""

    ae_title: str
    peers: tuple[Peer, ...]

    def __call__(self, called: str, calling: str, address: str) -> Rejection | None:
        """Judge; see `Admit`."""
        if called != self.ae_title:
            return Rejection.CALLED_TITLE
        if any(peer.ae_title == calling and address in peer.addresses for peer in self.peers):
            return None
        return Rejection.CALLING_TITLE

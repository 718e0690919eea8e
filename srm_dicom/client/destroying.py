"""Keys that are destroyed for good: who has confirmed it, and whether that is enough.

A key is gone when n - k + 1 servers have destroyed their shares. n and k are what the site has signed about
the key, as a server that had it tells; one that proves it with something else has confirmed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from srm_dicom.client.asking import ask
from srm_dicom.client.keyserver import Server
from srm_dicom.client.keyshares import Charters
from srm_dicom.client.outcomes import each, or_raise
from srm_dicom.crypto.keyrecord import Charter
from srm_dicom.errors import KeyShareInvalid, MdmError
from srm_dicom.wire.hydra.contract import KeyStatus, StringPair


@dataclass(frozen=True, slots=True)
class Destruction:
    """How far the destruction of a key has come.

    Attributes:
        needed: servers that have to confirm, n - k + 1, so that fewer than k shares can be left.
        described: whether a server has told of what is signed about the key; else `needed` is all.
        confirmed: servers that have destroyed their share, or never had one.
        failures: why the others have not, by server.
    """

    needed: int
    described: bool = False
    confirmed: frozenset[str] = frozenset()
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Tell whether the key is gone for good."""
        return len(self.confirmed) >= self.needed


def destroy(
    servers: Sequence[Server], timeout_s: float, charters: Charters, halves: Mapping[str, bytes]
) -> dict[str, Destruction]:
    """Destroy keys on all servers; what becomes of each is told, nothing is raised.

    Args:
        servers: the site's.
        timeout_s: for all of them.
        charters: reads what they tell of the keys.
        halves: the public half by key id.
    """
    keys = [StringPair(key_id, half.hex()) for key_id, half in halves.items()]
    answers: dict[str, dict[str, KeyStatus | MdmError]] = {key_id: {} for key_id in halves}
    for server, answer in ask(servers, timeout_s, lambda server: server.call("destroyKeys", keys)):
        for key_id, status in each(halves, answer).items():
            answers[key_id][server.name] = status
    return {
        key_id: _destruction(key_id, halves[key_id], told, charters, len(servers))
        for key_id, told in answers.items()
    }


def _destruction(
    key_id: str, half: bytes, told: Mapping[str, KeyStatus | MdmError], charters: Charters, servers: int
) -> Destruction:
    failures: dict[str, str] = {}
    signed: list[Charter] = []
    for server, status in told.items():
        try:
            signed += _signed(key_id, half, or_raise(status), charters)
        except MdmError as error:
            failures[server] = error.message
    needed = max((charter.n - charter.k + 1 for charter in signed), default=servers)
    return Destruction(needed, bool(signed), frozenset(told) - frozenset(failures), failures)


def _signed(key_id: str, half: bytes, status: KeyStatus, charters: Charters) -> list[Charter]:
    """Return what a server proves that it has destroyed.

    Raises:
        IntegrityError, KeyShareInvalid: it proves nothing, or something else.
    """
    signed = [charters.verify(key.charter) for key in status.keys]
    if any((charter.key_id, charter.public_key) != (key_id, half) for charter in signed):
        raise KeyShareInvalid("it tells of another key")
    return signed

"""Who holds which share of which generation, from what key servers tell of it. Pure.

Nothing that a server tells is taken for true because it tells it: what it says must be signed, a server
has one share of a generation, and of two that claim the same one counts whose place it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from srm_dicom.client.keyserver import Server
from srm_dicom.client.outcomes import each
from srm_dicom.crypto.keyrecord import Charter
from srm_dicom.errors import IntegrityError, KeyQuorumMissing, MdmError, NotFound
from srm_dicom.telemetry import logger
from srm_dicom.wire.hydra.contract import KeyStatus

log = logger("keys")

Told = Mapping[Server, Sequence[KeyStatus] | MdmError]
"""What `describeKeys` was answered, by server in the order of share index."""


@dataclass(frozen=True, slots=True)
class Held:
    """The newest generation of a key that can be dealt, and who holds which share of it.

    Attributes:
        seen: every generation of which a server has a share, also one that a crash has left unfinished.
    """

    charter: Charter
    holders: Mapping[int, Server]
    seen: frozenset[int] = frozenset()

    @property
    def spare(self) -> int:
        """How many more holders there are than a key needs."""
        return len(self.holders) - self.charter.k


class Holdings:
    """What some key servers hold.

    Args:
        ids: of keys.
        told: by the servers of them.
        sites: the registering sites' keys, by `signing.fingerprint`.
        without_proof: take generations that were not proven at their word.
    """

    def __init__(
        self,
        ids: Sequence[str],
        told: Told,
        sites: Mapping[str, Ed25519PublicKey],
        *,
        without_proof: bool = False,
    ) -> None:
        self._places = {server: place for place, server in enumerate(told, start=1)}
        self._answers = {server: each(ids, answer) for server, answer in told.items()}
        self._sites = sites
        self._without_proof = without_proof

    def of(self, key_id: str) -> Held:
        """Return the generation of a key to deal.

        Raises:
            NotFound: no server has the key.
            KeyQuorumMissing: there is none of which enough shares are left.
        """
        readable = self._readable(key_id)
        whole = [one for one in readable if one.spare >= 0]
        if not whole:
            raise self._why(key_id)
        return replace(
            max(whole, key=self._worth), seen=frozenset(one.charter.generation for one in readable)
        )

    def _worth(self, one: Held) -> tuple[bool, int, int]:
        """A proven generation is worth most, then the one with most holders to spare."""
        generation = one.charter.generation
        if self._without_proof:
            return True, 0, generation
        return not one.charter.unproven, one.spare, generation

    def _readable(self, key_id: str) -> list[Held]:
        """Return every generation of which the site signed the charter."""
        claims: dict[str, dict[Server, set[int]]] = {}
        for server, answers in self._answers.items():
            answer = answers[key_id]
            for key in answer.keys if isinstance(answer, KeyStatus) else ():
                claims.setdefault(key.charter, {}).setdefault(server, set()).add(key.index)
        readable = []
        for text, of_servers in claims.items():
            try:
                charter = Charter.verify(text, self._sites)
            except IntegrityError:
                self._tell_of(key_id, of_servers, "a charter that this site did not sign")
                continue
            if charter.key_id == key_id:
                readable.append(Held(charter, self._holders(charter, of_servers)))
        return readable

    def _holders(self, charter: Charter, claims: Mapping[Server, set[int]]) -> dict[int, Server]:
        holders: dict[int, Server] = {}
        for server, indices in claims.items():
            index = min(indices)
            if len(indices) > 1 or not 1 <= index <= charter.n:
                self._tell_of(charter.key_id, [server], "it claims shares that it cannot have")
                continue
            other = holders.setdefault(index, server)
            if other is not server:
                self._tell_of(charter.key_id, [other, server], f"both claim share {index}")
                if self._places[server] == index:
                    holders[index] = server
        return holders

    @staticmethod
    def _tell_of(key_id: str, servers: Iterable[Server], reason: str) -> None:
        names = ", ".join(server.name for server in servers)
        log.warning("key_share_invalid", server=names, key_id=key_id, reason=reason)

    def _why(self, key_id: str) -> MdmError:
        """Return why a key cannot be dealt."""
        answers = [answers[key_id] for answers in self._answers.values()]
        errors = [answer for answer in answers if isinstance(answer, MdmError)]
        if len(errors) == len(answers) and all(isinstance(error, NotFound) for error in errors):
            return NotFound("no such key")
        reasons = "; ".join(sorted({error.message for error in errors})) or "they have different generations"
        return KeyQuorumMissing(f"too few key servers have a generation of the key ({reasons})")

"""The shares of one key as they come in from the servers, in any order, from liars too. Pure.

A share counts when its charter claims to be signed by a known site, speaks of the wanted key and public
half, and names the share's hash. k shares under one charter give a key, and the key is accepted only if
the file's public half is its own. So a server can withhold a key and can never pass off another one.

Signatures cost more than everything else together, and a key that is the file's needs none: what it was
made of cannot have been wrong. They are verified when it is not, when servers contradict each other and
when there is no key, to name who lies; and always where only a charter tells the public half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.crypto.keyrecord import Charter
from srm_dicom.crypto.shamir import Share, combine
from srm_dicom.errors import (
    IntegrityError,
    KeyQuorumMissing,
    KeyServerUnavailable,
    KeyShareInvalid,
    MdmError,
    NotAuthorised,
    NotFound,
)
from srm_dicom.wire.hydra.contract import KeyStatus, SharedKey, error_of

_REMEMBERED = 4096


class Charters:
    """Reads charters for one client and remembers them: every server of a generation has the same text.

    Args:
        sites: keys of the registering sites by fingerprint.
    """

    def __init__(self, sites: Mapping[str, Ed25519PublicKey]) -> None:
        self.read = lru_cache(maxsize=_REMEMBERED)(lambda text: Charter.read(text, sites))
        self.verify = lru_cache(maxsize=_REMEMBERED)(lambda text: Charter.verify(text, sites))


@dataclass(slots=True)
class _Generation:
    """What has come in under one charter: shares by index, and who sent them."""

    charter: Charter
    shares: dict[int, Share] = field(default_factory=dict)
    servers: set[str] = field(default_factory=set)


class Assembly:
    """One key being put together.

    Args:
        key_id: of the key.
        public_key: its public half, of the file; None where there is no file: the signed one counts then.
        charters: reads the texts of charters.

    Attributes:
        private_key: X25519, 32 bytes, as soon as there are enough good shares.
        needed: how many shares it took, 0 as long as there is no key.
        failures: why a server's answer was of no use, by server.
    """

    def __init__(self, key_id: str, public_key: bytes | None, charters: Charters) -> None:
        self._key_id = key_id
        self._public_key = public_key
        self._charters = charters
        self._generations: dict[str, _Generation] = {}
        self.private_key: bytes | None = None
        self.needed = 0
        self.failures: dict[str, MdmError] = {}

    def add(self, server: str, answer: KeyStatus | MdmError) -> None:
        """Take a server's answer; after it `private_key` may be there, or `failures` tell why not."""
        if isinstance(answer, MdmError):
            self.failures[server] = answer
        elif answer.exception:
            self.failures[server] = error_of(answer.exception, answer.message)
        elif not answer.keys:
            self.failures[server] = NotFound("no share of the key")
        else:
            for offered in answer.keys:
                self._take(server, offered)

    def result(self) -> bytes | MdmError:
        """Return the key, or why there is none; call it when no more answers come.

        After it `failures` names every server that has contradicted the others and lied.

        Returns:
            `NotAuthorised` or `NotFound` when all servers that answered say so, else `KeyQuorumMissing`
            with the reason of each.
        """
        if self.private_key is not None and len(self._generations) == 1:
            return self.private_key
        for generation in list(self._generations.values()):
            self._verify(generation)
        return self.private_key or self._error()

    def _error(self) -> MdmError:
        answers = {type(e) for e in self.failures.values() if not isinstance(e, KeyServerUnavailable)}
        for agreed in (NotAuthorised, NotFound):
            if answers == {agreed} and not self._generations:
                return agreed("the key servers refuse the key" if agreed is NotAuthorised else "no such key")
        told = ((server, error.message) for server, error in sorted(self.failures.items()))
        reasons = "; ".join(what if what.startswith(server) else f"{server}: {what}" for server, what in told)
        return KeyQuorumMissing(f"too few key servers gave a good share ({reasons or 'none was asked'})")

    def _take(self, server: str, offered: SharedKey) -> None:
        try:
            generation, share = self._read(offered)
        except KeyShareInvalid as error:
            self.failures[server] = error
            return
        generation.shares[share.index] = share
        generation.servers.add(server)
        if self.private_key is None and len(generation.shares) >= generation.charter.k:
            self._combine(generation)

    def _read(self, offered: SharedKey) -> tuple[_Generation, Share]:
        """Check everything but the signature.

        Raises:
            KeyShareInvalid: the server has said something that cannot be.
        """
        try:
            charter = self._charters.read(offered.charter)
            share = Share(offered.index, bytes.fromhex(offered.share))
        except (IntegrityError, ValueError) as error:
            raise KeyShareInvalid(f"its share proves nothing: {error}") from error
        if (charter.key_id, charter.public_key) != (self._key_id, self._public_key or charter.public_key):
            raise KeyShareInvalid("its share is another key's")
        charter.check(share)
        return self._generations.setdefault(offered.charter, _Generation(charter)), share

    def _combine(self, generation: _Generation) -> None:
        """Accept the key that the shares of a generation give, if it is the file's, or the signed one."""
        charter = generation.charter
        private_key = combine(list(generation.shares.values())[: charter.k])
        public_key = X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
        fits = public_key == charter.public_key
        if (not fits or self._public_key is None) and not self._verify(generation):
            return
        if fits:
            self.private_key, self.needed = private_key, charter.k
            return
        for server in generation.servers:
            self.failures[server] = KeyShareInvalid("the rebuilt key is not the file's")

    def _verify(self, generation: _Generation) -> bool:
        """Look at the signature; who brought a charter that is forged is named, and it counts no more."""
        try:
            self._charters.verify(generation.charter.text)
        except IntegrityError as error:
            del self._generations[generation.charter.text]
            for server in generation.servers:
                self.failures[server] = KeyShareInvalid(f"its share proves nothing: {error}")
            return False
        return True

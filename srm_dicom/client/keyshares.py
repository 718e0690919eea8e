"""The shares of one key as they come in from the servers, in any order, from liars too. Pure.

A share counts when its charter is signed by a known site, speaks of the wanted key and public half, and
names the share's hash. k shares under one charter give a key, and the key is accepted only if the file's
public half is its own. So a server can withhold a key and can never pass off another one.
"""

from __future__ import annotations

from collections.abc import Callable

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

ReadCharter = Callable[[str], Charter]
"""Verifies a charter's text against the known sites; may remember what it has verified."""


class Assembly:
    """One key being put together.

    Args:
        key_id: of the key.
        public_key: its public half, of the file; None where there is no file: the signed one counts then.
        read_charter: verifies a charter's text.

    Attributes:
        private_key: X25519, 32 bytes, as soon as there are enough good shares.
        needed: how many shares it takes, 0 as long as no server has told.
        failures: why a server's answer was of no use, by server.
    """

    def __init__(self, key_id: str, public_key: bytes | None, read_charter: ReadCharter) -> None:
        self._key_id = key_id
        self._public_key = public_key
        self._read_charter = read_charter
        self._shares: dict[str, dict[int, Share]] = {}
        self.private_key: bytes | None = None
        self.needed = 0
        self.failures: dict[str, MdmError] = {}

    def add(self, server: str, answer: KeyStatus | MdmError) -> None:
        """Take a server's answer; after it `private_key` may be there, or `failures` tell why not."""
        try:
            if isinstance(answer, MdmError):
                raise answer
            if answer.exception:
                raise error_of(answer.exception, answer.message)
            if not answer.keys:
                raise NotFound("no share of the key")
            for offered in answer.keys:
                self._take(offered)
        except MdmError as error:
            self.failures[server] = error

    def error(self) -> MdmError:
        """Return why there is no key.

        Returns:
            `NotAuthorised` or `NotFound` when all servers that answered say so, else `KeyQuorumMissing`
            with the reason of each.
        """
        answers = {type(e) for e in self.failures.values() if not isinstance(e, KeyServerUnavailable)}
        for agreed in (NotAuthorised, NotFound):
            if answers == {agreed} and not self._shares:
                return agreed("the key servers refuse the key" if agreed is NotAuthorised else "no such key")
        reasons = "; ".join(f"{server}: {error.message}" for server, error in sorted(self.failures.items()))
        return KeyQuorumMissing(f"too few key servers gave a good share ({reasons or 'none was asked'})")

    def _take(self, offered: SharedKey) -> None:
        try:
            charter = self._read_charter(offered.charter)
            share = Share(offered.index, bytes.fromhex(offered.share))
        except (IntegrityError, ValueError) as error:
            raise KeyShareInvalid(f"its share proves nothing: {error}") from error
        if (charter.key_id, charter.public_key) != (self._key_id, self._public_key or charter.public_key):
            raise KeyShareInvalid("its share is another key's")
        charter.check(share)
        self.needed = charter.k
        shares = self._shares.setdefault(charter.text, {})
        shares[share.index] = share
        if len(shares) >= charter.k and self.private_key is None:
            self.private_key = self._proven(combine(list(shares.values())[: charter.k]), charter.public_key)

    @staticmethod
    def _proven(private_key: bytes, expected: bytes) -> bytes:
        public_key = X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
        if public_key != expected:
            raise KeyShareInvalid("the rebuilt key is not the file's")
        return private_key

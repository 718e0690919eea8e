"""A next generation of shares, from this server's side: deal what it holds, take what is dealt to it.

A share is dealt only on an order that a registering site signed, and only to servers that this server's
own administrator has named as peers: a site alone cannot have shares sent to itself.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mdm_keys.access import Access
from mdm_keys.ledger import DestructionLedger
from mdm_keys.store import HeldShare, KeyStore
from srm_dicom.crypto import keyrecord, reshare, sealing
from srm_dicom.crypto.keyrecord import Charter
from srm_dicom.crypto.reshare import Order
from srm_dicom.crypto.shamir import Share
from srm_dicom.errors import (
    IntegrityError,
    InvalidRequest,
    KeyShareInvalid,
    MdmError,
    NotAuthorised,
    NotFound,
    TooLarge,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.declare import Right
from srm_dicom.wire.hydra.contract import (
    EXCEPTION_OF,
    MAX_KEYS_PER_CALL,
    Dealt,
    SealedPieces,
    SharedKey,
    Taken,
)

T = TypeVar("T", Dealt, Taken)


class Resharing:
    """Deals and takes over one store.

    Attributes:
        public_key: what this server's pieces are sealed to; peers' administrators name it.
    """

    def __init__(
        self,
        store: KeyStore,
        access: Access,
        sites: Mapping[str, Ed25519PublicKey],
        peers: frozenset[bytes],
        ledger: DestructionLedger,
    ) -> None:
        self._store = store
        self._access = access
        self._sites = sites
        self._ledger = ledger
        self._private_key = own_key(store)
        self.public_key = sealing.public_key_of(self._private_key)
        self._peers = peers | {self.public_key}

    def deal(self, principal: Principal, texts: Sequence[str]) -> list[Dealt]:
        """Deal the shares of the keys that orders name."""
        orders = self._read("dealKeys", principal, texts)
        allowed, refused = self._access.sort("dealKeys", principal, list(orders), Right.KEY_WRITE)
        return [
            _failed(Dealt, key_id, refused[key_id])
            if key_id in refused
            else self._dealt(principal, order, allowed[key_id].shares)
            for key_id, order in orders.items()
        ]

    def take(self, principal: Principal, pieces: Sequence[SealedPieces]) -> list[Taken]:
        """Put together the shares that were dealt to this server; they wait for `taken`."""
        orders = self._read("takeKeys", principal, [one.order for one in pieces])
        self._access.require_creator("takeKeys", principal, list(orders))
        with self._store.transaction():
            return [
                self._taken(order, one.pieces) for order, one in zip(orders.values(), pieces, strict=True)
            ]

    def taken(self, keys: Sequence[SharedKey]) -> list[SharedKey]:
        """Fill in the shares that wait for these charters; what does not wait stays empty."""
        return [replace(key, share=self._waiting(key).hex()) for key in keys]

    def _read(self, operation: str, principal: Principal, texts: Sequence[str]) -> dict[str, Order]:
        """Return orders by key id; one that no site signed is taken down.

        Raises:
            TooLarge, InvalidRequest: too many, or two of one key.
            IntegrityError: no registering site signed one of them.
        """
        if len(texts) > MAX_KEYS_PER_CALL:
            raise TooLarge(f"a call has at most {MAX_KEYS_PER_CALL} keys")
        try:
            orders = {order.key_id: order for order in (Order.verify(text, self._sites) for text in texts)}
        except IntegrityError as error:
            self._access.turned_away(operation, principal, error)
            raise
        if len(orders) != len(texts):
            raise InvalidRequest("a call names each key once")
        return orders

    def _dealt(self, principal: Principal, order: Order, shares: Sequence[HeldShare]) -> Dealt:
        try:
            strangers = set(order.receivers) - self._peers
            if strangers:
                raise NotAuthorised(f"{min(strangers).hex()} is no peer of this server")
            dealing = reshare.deal(order, self._own(order, shares), secrets.token_bytes)
        except MdmError as error:
            self._access.turned_away("dealKeys", principal, error, [order.key_id])
            return _failed(Dealt, order.key_id, error)
        pieces = tuple(piece.hex() for piece in dealing.pieces)
        return Dealt(order.key_id, blinded=dealing.blinded.hex(), pieces=pieces)

    def _own(self, order: Order, shares: Sequence[HeldShare]) -> Share:
        """Return the share that is to be dealt, compared once more with its signed hash.

        Raises:
            NotFound: it is not here.
            IntegrityError, KeyShareInvalid: it is not any more what it was.
        """
        for held in shares:
            ordered = (order.generation, order.public_key, order.needed)
            if (held.generation, held.public_key, held.k) == ordered:
                share = Share(held.index, held.share)
                Charter.verify(held.charter, self._sites).check(share)
                if share.index in order.dealers:
                    return share
        raise NotFound("this generation of the key is not here, or its share is not to be dealt")

    def _taken(self, order: Order, pieces: Sequence[str]) -> Taken:
        try:
            self._ledger.refuse(order.public_key, order.key_id)
            taking = reshare.take(order, self._private_key, [_bytes(piece) for piece in pieces])
        except ValueError as error:
            return _failed(Taken, order.key_id, InvalidRequest(f"not what the order asks for: {error}"))
        except MdmError as error:
            return _failed(Taken, order.key_id, error)
        self._store.keep_pending(order.key_id, order.next_generation, taking.share.data)
        of_share = keyrecord.share_hash(order.key_id, order.next_generation, taking.share)
        checks = tuple(check.hex() for check in taking.checks)
        return Taken(order.key_id, hash=of_share, blinded=taking.blinded.hex(), checks=checks)

    def _waiting(self, key: SharedKey) -> bytes:
        try:
            charter = Charter.verify(key.charter, self._sites)
        except MdmError:
            return b""  # whoever checks the record says so
        return self._store.pending(charter.key_id, charter.generation) or b""


def own_key(store: KeyStore) -> bytes:
    """Return a key server's own private key, drawn when there is none."""
    return store.own_key(lambda: secrets.token_bytes(keyrecord.KEY_BYTES))


def _failed(kind: type[T], key_id: str, error: MdmError) -> T:
    return kind(key_id, EXCEPTION_OF[type(error)], error.message)


def _bytes(text: str) -> bytes:
    if not re.fullmatch("([0-9a-f]{2})+", text):
        raise KeyShareInvalid("a piece is written in hex digits")
    return bytes.fromhex(text)

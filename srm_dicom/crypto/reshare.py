"""New shares of an old secret that nobody puts together: each holder shares its share anew. Pure.

The site signs an `Order`: which generation is dealt by which k holders, to whom, and of how many the next
one takes. Each dealer splits its own share for the receivers, and splits a random mask beside it. A
receiver's new share is the weighted sum of what the dealers sent it (Lagrange at zero is linear), and so is
its part of the mask. What is told in the open is always share and mask together: `Dealing.blinded` and
`Taking.blinded` say nothing of the secret, and yet `check` proves from them that all new shares lie on one
polynomial, whose secret is the one that the dealers hold.

What it does not prove: that a dealer dealt the share that it holds. It compares that with the signed hash
before it deals, so rot is found; one that lies on purpose spoils the new generation and is found at the
first fetch. See ADR 0006.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from srm_dicom.crypto import sealing, shamir, signing
from srm_dicom.crypto.keyrecord import Charter
from srm_dicom.crypto.shamir import Share
from srm_dicom.errors import IntegrityError, KeyShareInvalid

_PURPOSE = "key reshare"

_Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
_Index = Annotated[int, msgspec.Meta(ge=1, le=shamir.MAX_SHARES)]


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    key_id: str
    public_key: _Hex32
    generation: Annotated[int, msgspec.Meta(ge=1)]
    next_generation: Annotated[int, msgspec.Meta(ge=2)]
    k: _Index
    dealers: list[_Index]
    receivers: list[_Hex32]


@dataclass(frozen=True, slots=True)
class Order:
    """What the site signed about one reshare of one key.

    Attributes:
        key_id: of the key.
        public_key: X25519, 32 bytes, of the key that is shared.
        generation: that is dealt.
        next_generation: that comes of it.
        k: shares that the next generation needs.
        dealers: indices of the shares that are dealt, in the order of pieces.
        receivers: X25519 public keys of the servers of the next generation, in the order of index.
        text: the signed text.
    """

    key_id: str
    public_key: bytes
    generation: int
    next_generation: int
    k: int
    dealers: tuple[int, ...]
    receivers: tuple[bytes, ...]
    text: str

    @classmethod
    def verify(cls, text: str, sites: Mapping[str, Ed25519PublicKey]) -> Order:
        """Read a signed order.

        Args:
            text: the signed text.
            sites: the registering sites' keys, by `signing.fingerprint`.

        Raises:
            IntegrityError: not an order, or not signed by any of these.
        """
        try:
            body = msgspec.convert(signing.verify(_PURPOSE, text, sites), _Body)
        except msgspec.ValidationError as error:
            raise IntegrityError("a reshare order has a field that makes no sense") from error
        many = len({*body.receivers})
        if not body.k <= many == len(body.receivers) or len({*body.dealers}) != len(body.dealers):
            raise IntegrityError("a reshare order contradicts itself")
        return cls(
            body.key_id,
            bytes.fromhex(body.public_key),
            body.generation,
            body.next_generation,
            body.k,
            tuple(body.dealers),
            tuple(bytes.fromhex(receiver) for receiver in body.receivers),
            text,
        )


def order(
    charter: Charter,
    next_generation: int,
    dealers: Sequence[int],
    receivers: Sequence[bytes],
    k: int,
    key: Ed25519PrivateKey,
) -> Order:
    """Sign an order for the next generation of a key; see `Order` for the arguments."""
    body = _Body(
        key_id=charter.key_id,
        public_key=charter.public_key.hex(),
        generation=charter.generation,
        next_generation=next_generation,
        k=k,
        dealers=list(dealers),
        receivers=[receiver.hex() for receiver in receivers],
    )
    text = signing.sign(_PURPOSE, msgspec.to_builtins(body), key)
    return Order.verify(text, signing.trusting(key.public_key()))


@dataclass(frozen=True, slots=True)
class Dealing:
    """What one dealer gives out: its share under its mask, and a sealed piece for each receiver."""

    blinded: bytes
    pieces: tuple[bytes, ...]


def deal(of: Order, share: Share, random_bytes: Callable[[int], bytes]) -> Dealing:
    """Share one's own share anew.

    Args:
        of: the order; whether its receivers are to be trusted is the caller's to know.
        share: one of the dealers', already compared with its signed hash.
        random_bytes: secret, uniformly random bytes.
    """
    size, n = len(share.data), len(of.receivers)
    mask = random_bytes(size)
    shares = shamir.split(share.data, of.k, n, random_bytes)
    masks = shamir.split(mask, of.k, n, random_bytes)
    pieces = (
        sealing.seal([receiver], [_place(of, share.index) + part.data + hidden.data], random_bytes)
        for receiver, part, hidden in zip(of.receivers, shares, masks, strict=True)
    )
    return Dealing(shamir.xor(share.data, mask), tuple(b"".join(piece) for piece in pieces))


@dataclass(frozen=True, slots=True, repr=False)
class Taking:
    """What one receiver has of it: its new share, and what it tells of it under the mask."""

    share: Share
    blinded: bytes


def take(of: Order, private_key: bytes, pieces: Sequence[bytes]) -> Taking:
    """Put one's new share together.

    Args:
        of: the order.
        private_key: X25519, of one of its receivers.
        pieces: what each dealer sealed to it, in the order of dealers.

    Raises:
        KeyShareInvalid: a piece is damaged, or of another order or dealer.
    """
    parts = [
        _opened(of, dealer, private_key, piece) for dealer, piece in zip(of.dealers, pieces, strict=True)
    ]
    size = len(parts[0]) // 2
    share = shamir.combine([Share(x, part[:size]) for x, part in zip(of.dealers, parts, strict=True)])
    mask = shamir.combine([Share(x, part[size:]) for x, part in zip(of.dealers, parts, strict=True)])
    index = 1 + of.receivers.index(sealing.public_key_of(private_key))
    return Taking(Share(index, share), shamir.xor(share, mask))


def check(of: Order, dealt: Sequence[bytes], taken: Sequence[bytes]) -> None:
    """Prove that the new shares are shares of the secret that was dealt.

    Args:
        of: the order.
        dealt: `Dealing.blinded` in the order of dealers.
        taken: `Taking.blinded` in the order of receivers.

    Raises:
        KeyShareInvalid: they are not.
    """
    secret = shamir.combine([Share(x, blinded) for x, blinded in zip(of.dealers, dealt, strict=True)])
    points = [Share(x, blinded) for x, blinded in enumerate(taken, start=1)]
    if shamir.combine(points[: of.k]) != secret:
        raise KeyShareInvalid("the new shares are not of the key that was dealt")
    for point in points[of.k :]:
        if shamir.combine([*points[: of.k - 1], point]) != secret:
            raise KeyShareInvalid(f"new share {point.index} does not belong to the others")


def _place(of: Order, dealer: int) -> bytes:
    return sha256(f"{dealer}\n{of.text}".encode()).digest()


def _opened(of: Order, dealer: int, private_key: bytes, piece: bytes) -> bytes:
    try:
        content = sealing.unseal(private_key, piece)
    except IntegrityError as error:
        raise KeyShareInvalid(f"what share {dealer} dealt does not open: {error.message}") from error
    place = _place(of, dealer)
    if content[: len(place)] != place:
        raise KeyShareInvalid(f"what share {dealer} dealt is of another order")
    return content[len(place) :]

"""New shares of an old secret that nobody puts together: each holder shares its share anew. Pure.

The site signs an `Order`: which generation is dealt by which k holders, to whom, and of how many the next
one takes. Each dealer splits its own share for the receivers, and splits a random mask beside it. A
receiver's new share is the weighted sum of what the dealers sent it (Lagrange at zero is linear), and so is
its part of the mask. What is told in the open is always share and mask together: `Dealing.blinded` and
`Taking.blinded` say nothing of the secret, and yet `misfits` proves from them that all new shares lie on one
polynomial, whose secret is the one that the dealers hold.

That a dealer dealt the share that it holds, the other holders tell. More of them deal than it takes: what a
spare one dealt has to lie on the polynomials of the first, so the difference (`Taking.checks`) is a share of
zero. A liar among m dealers of k is found if m > k, and named if m > k + 1; the differences of honest
dealers say nothing, for who has what k - 1 receivers have can work them out. With no spare holder a
lie shows only when the key does not fit. See ADR 0006.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from srm_dicom.crypto import sealing, shamir, signing
from srm_dicom.crypto.keyrecord import KEY_BYTES, Charter
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
    needed: _Index
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
        needed: shares that the generation needs that is dealt.
        k: shares that the next generation needs.
        dealers: indices of the shares that are dealt, in the order of pieces; those after the first `needed`
            are spare, and prove the others.
        receivers: X25519 public keys of the servers of the next generation, in the order of index.
        text: the signed text.
    """

    key_id: str
    public_key: bytes
    generation: int
    next_generation: int
    needed: int
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
        dealers = len({*body.dealers})
        if not body.k <= many == len(body.receivers) or not body.needed <= dealers == len(body.dealers):
            raise IntegrityError("a reshare order contradicts itself")
        return cls(
            body.key_id,
            bytes.fromhex(body.public_key),
            body.generation,
            body.next_generation,
            body.needed,
            body.k,
            tuple(body.dealers),
            tuple(bytes.fromhex(receiver) for receiver in body.receivers),
            text,
        )

    @property
    def first(self) -> tuple[int, ...]:
        """The dealers of whose shares the new ones are made."""
        return self.dealers[: self.needed]

    @property
    def spare(self) -> tuple[int, ...]:
        """The dealers that prove those."""
        return self.dealers[self.needed :]


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
        needed=charter.k,
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
    """What one receiver has of it: its new share, and what it tells of it.

    Attributes:
        share: the new share.
        blinded: that under its mask.
        checks: for each spare dealer the difference between what it dealt and what the others say it should.
    """

    share: Share
    blinded: bytes
    checks: tuple[bytes, ...]


def take(of: Order, private_key: bytes, pieces: Sequence[bytes]) -> Taking:
    """Put one's new share together.

    Args:
        of: the order.
        private_key: X25519, of one of its receivers.
        pieces: what each dealer sealed to it, in the order of dealers.

    Raises:
        KeyShareInvalid: a piece is damaged, of another size, or of another order or dealer.
    """
    parts = [
        _opened(of, dealer, private_key, piece) for dealer, piece in zip(of.dealers, pieces, strict=True)
    ]
    shares = [Share(x, part[:KEY_BYTES]) for x, part in zip(of.dealers, parts, strict=True)]
    masks = [Share(x, part[KEY_BYTES:]) for x, part in zip(of.dealers, parts, strict=True)]
    first = shares[: of.needed]
    share, mask = shamir.combine(first), shamir.combine(masks[: of.needed])
    checks = (shamir.xor(one.data, shamir.value_at(one.index, first)) for one in shares[of.needed :])
    index = 1 + of.receivers.index(sealing.public_key_of(private_key))
    return Taking(Share(index, share), shamir.xor(share, mask), tuple(checks))


@dataclass(frozen=True, slots=True)
class Suspects:
    """Who may have lied, by index: one, or those among whom nothing decides; nobody if it was several.

    Attributes:
        dealers: whose share was not dealt as it was signed.
        receivers: who told something else than they got.
    """

    dealers: tuple[int, ...]
    receivers: tuple[int, ...]


def suspects(of: Order, checks: Sequence[Sequence[bytes]]) -> Suspects | None:
    """Find out whether every dealer dealt the share that it holds.

    Args:
        of: the order.
        checks: `Taking.checks` in the order of receivers.

    Returns:
        None when what spare dealers dealt agrees with the others; nothing is known when there are none.

    Raises:
        KeyShareInvalid: a receiver tells of other dealers, or of shares of another size.
    """
    sizes = {len(one) for told in checks for one in told}
    if len(sizes) > 1 or any(len(told) != len(of.spare) for told in checks):
        raise KeyShareInvalid("the new servers do not tell of the same shares")
    columns = [
        [Share(x, told[spare]) for x, told in enumerate(checks, start=1)] for spare in range(len(of.spare))
    ]
    if _all_of_zero(columns, of.k):
        return None
    dealers = (x for x in of.dealers if _all_of_zero(_without(of, columns, x), of.k))
    receivers = (
        x
        for x in range(1, 1 + len(checks))
        if _all_of_zero([[one for one in column if one.index != x] for column in columns], of.k)
    )
    return Suspects(tuple(dealers), tuple(receivers))


def misfits(of: Order, dealt: Sequence[bytes], taken: Sequence[bytes]) -> Suspects | None:
    """Find out whether the new shares are shares of the secret that was dealt.

    Args:
        of: the order.
        dealt: `Dealing.blinded` in the order of dealers; of the first, spare ones may follow.
        taken: `Taking.blinded` in the order of receivers.

    Returns:
        None when they are.
    """
    blinded = zip(of.first, dealt[: of.needed], strict=True)
    secret = Share(0, shamir.combine([Share(x, one) for x, one in blinded]))
    points = [Share(x, blinded) for x, blinded in enumerate(taken, start=1)]
    if _on_one([secret, *points], of.k):
        return None
    alone = (
        point.index for point in points if _on_one([secret, *(p for p in points if p is not point)], of.k)
    )
    return Suspects(of.first if _on_one(points, of.k) else (), tuple(alone))


def _all_of_zero(columns: Sequence[Sequence[Share]], k: int) -> bool:
    """Tell whether all of these are k-of-n shares of zero."""
    return all(
        _on_one([Share(0, bytes(len(points[0].data))), *points], k) for points in filter(None, columns)
    )


def _on_one(points: Sequence[Share], k: int) -> bool:
    """Tell whether points lie on one polynomial of degree k - 1."""
    return all(shamir.value_at(one.index, points[:k]) == one.data for one in points[k:])


def _without(of: Order, columns: Sequence[Sequence[Share]], dealer: int) -> list[list[Share]]:
    """Return differences in which a dealer has no part: they are of zero if it alone has lied."""
    if dealer in of.spare:
        at = of.spare.index(dealer)
        return [list(column) for number, column in enumerate(columns) if number != at]
    pivot, *others = columns
    first, *weights = (shamir.weight(dealer, of.first, x) for x in of.spare)
    return [
        [
            Share(one.index, shamir.xor(shamir.times(one.data, first), shamir.times(its.data, factor)))
            for one, its in zip(column, pivot, strict=True)
        ]
        for column, factor in zip(others, weights, strict=True)
    ]


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
    if len(content) != len(place) + 2 * KEY_BYTES:
        raise KeyShareInvalid(f"what share {dealer} dealt has another size than a share and a mask")
    return content[len(place) :]

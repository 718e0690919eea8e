"""Shares of shares: any k to any k of n, nothing of the secret in the open, and faults that are found."""

import secrets
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from srm_dicom.crypto import keyrecord, reshare, sealing, signing
from srm_dicom.crypto.shamir import Share, combine, value_at
from srm_dicom.errors import IntegrityError, KeyShareInvalid

SIGNING_KEY = Ed25519PrivateKey.generate()
SITES = signing.trusting(SIGNING_KEY.public_key())


class Resharing:
    """One key that goes from some k of n to another, step by step."""

    def __init__(self, old=(2, 3), new=(2, 3), spare=0, liars=()):
        self.private = secrets.token_bytes(32)
        self.records = keyrecord.issue(
            self.private,
            k=old[0],
            n=old[1],
            valid_until=datetime(2099, 1, 1, tzinfo=UTC),
            signing_key=SIGNING_KEY,
            random_bytes=secrets.token_bytes,
        )
        self.holders = [secrets.token_bytes(32) for _ in range(new[1])]
        receivers = [sealing.public_key_of(holder) for holder in self.holders]
        self.dealing = self.records[-old[0] - spare :]
        dealers = [record.share.index for record in self.dealing]
        self.order = reshare.order(self.records[0].charter, 2, dealers, receivers, new[0], SIGNING_KEY)
        held = [
            replace(record.share, data=secrets.token_bytes(32)) if number in liars else record.share
            for number, record in enumerate(self.dealing)
        ]
        self.dealt = [reshare.deal(self.order, share, secrets.token_bytes) for share in held]

    def pieces(self, receiver):
        return [dealing.pieces[receiver] for dealing in self.dealt]

    def take(self):
        return [
            reshare.take(self.order, holder, self.pieces(number))
            for number, holder in enumerate(self.holders)
        ]

    def misfits(self, taken):
        return reshare.misfits(
            self.order, [one.blinded for one in self.dealt], [one.blinded for one in taken]
        )

    def suspects(self, *told):
        """Judge what the receivers tell, or what is given instead."""
        return reshare.suspects(self.order, told or [one.checks for one in self.take()])


K_OF_N = st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n)))


@settings(max_examples=25, deadline=None)
@given(K_OF_N, K_OF_N)
def test_any_sharing_becomes_any_other(old, new):
    resharing = Resharing(old, new)
    taken = resharing.take()
    assert resharing.misfits(taken) is None
    shares = [one.share for one in taken]
    assert combine(shares[: new[0]]) == combine(shares[-new[0] :]) == resharing.private
    assert [share.index for share in shares] == list(range(1, new[1] + 1))


@settings(max_examples=25, deadline=None)
@given(K_OF_N, K_OF_N, st.data())
def test_spare_dealers_agree_and_change_nothing(old, new, data):
    spare = data.draw(st.integers(0, old[1] - old[0]))
    resharing = Resharing(old, new, spare)
    assert resharing.suspects() is None
    taken = resharing.take()
    assert resharing.misfits(taken) is None
    assert combine([one.share for one in taken][: new[0]]) == resharing.private
    assert {len(one.checks) for one in taken} == {spare}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), K_OF_N, st.data())
def test_a_dealer_that_lies_on_purpose_is_found_and_with_two_spare_ones_named(k, spare, new, data):
    """About its share and its mask alike: what is told under the mask fits, and only the others notice."""
    liar = data.draw(st.integers(0, k + spare - 1))
    resharing = Resharing((k, k + spare), new, spare, liars={liar})
    if liar < k:
        assert resharing.misfits(resharing.take()) is None
    found = resharing.suspects()
    assert found.dealers == ((liar + 1,) if spare > 1 else tuple(range(1, k + 2)))
    if new[0] < new[1]:
        assert found.receivers == ()


def test_a_dealer_that_lies_to_one_receiver_and_a_receiver_that_lies_are_not_told_apart():
    resharing = Resharing((2, 4), (2, 4), spare=2)
    told = [one.checks for one in resharing.take()]
    lie = secrets.token_bytes(32)
    told[1] = (told[1][0], lie)
    found = resharing.suspects(*told)
    assert found.receivers == (2,)
    assert found.dealers in ((), (4,))  # the second spare one may as well have sent it something else


def test_several_that_lie_are_found_and_nobody_is_named_wrongly():
    resharing = Resharing((2, 5), (2, 3), spare=3, liars={0, 4})
    assert resharing.suspects() == reshare.Suspects((), ())


def test_differences_say_no_more_than_a_quorum_of_receivers_has():
    """They are shares of zero, by polynomials that k - 1 receivers can work out."""
    resharing = Resharing((2, 3), (3, 5), spare=1)
    taken = resharing.take()
    [points] = zip(*(one.checks for one in taken), strict=True)
    shares = [Share(x, point) for x, point in enumerate(points, start=1)]
    known = [Share(0, bytes(32)), *shares[:2]]
    assert all(value_at(one.index, known) == one.data for one in shares)


def test_receivers_have_to_tell_of_every_spare_dealer():
    resharing = Resharing((2, 4), (2, 3), spare=2)
    told = [one.checks for one in resharing.take()]
    for wrong in ((), told[0][:1], (told[0][0], b""), (*told[0], told[0][0])):
        with pytest.raises(KeyShareInvalid):
            resharing.suspects(wrong, *told[1:])


def test_nothing_that_is_told_is_a_share_or_the_secret():
    resharing = Resharing()
    told = {one.blinded for one in [*resharing.dealt, *resharing.take()]}
    kept = {record.share.data for record in resharing.records} | {resharing.private}
    kept |= {one.share.data for one in resharing.take()}
    assert not told & kept
    dealt = zip(resharing.dealing, resharing.dealt, strict=True)
    blinded = [replace(record.share, data=dealing.blinded) for record, dealing in dealt]
    assert combine(blinded) != resharing.private


def test_old_shares_do_not_go_with_new_ones():
    resharing = Resharing()
    new = resharing.take()[0].share
    assert combine([new, resharing.records[1].share]) != resharing.private


def test_a_share_that_is_not_the_others_is_found():
    resharing = Resharing(new=(2, 4))
    taken = resharing.take()
    for number in range(4):
        spoilt = list(taken)
        spoilt[number] = replace(taken[number], blinded=secrets.token_bytes(32))
        assert resharing.misfits(spoilt) == reshare.Suspects((), (number + 1,))


def test_a_dealer_whose_pieces_are_of_something_else_is_found():
    resharing = Resharing()
    other = replace(resharing.dealing[0].share, data=secrets.token_bytes(32))
    dealt = reshare.deal(resharing.order, other, secrets.token_bytes)
    resharing.dealt[0] = replace(dealt, blinded=resharing.dealt[0].blinded)
    assert resharing.misfits(resharing.take()) == reshare.Suspects(resharing.order.dealers, ())


def test_pieces_open_for_their_receiver_in_their_order_and_place_only():
    resharing, other = Resharing(), Resharing()
    mine, yours = resharing.pieces(0), resharing.pieces(1)
    for holder, pieces in (
        (resharing.holders[0], yours),
        (resharing.holders[0], list(reversed(mine))),
        (resharing.holders[0], [bytes(len(mine[0])), mine[1]]),
        (resharing.holders[0], [mine[0][:-1], mine[1]]),
    ):
        with pytest.raises(KeyShareInvalid):
            reshare.take(resharing.order, holder, pieces)
    with pytest.raises(KeyShareInvalid):
        reshare.take(replace(resharing.order, text=other.order.text), resharing.holders[0], mine)


def test_an_order_is_the_sites():
    order = Resharing().order
    assert reshare.Order.verify(order.text, SITES) == order
    for text, sites in ((order.text, {}), (order.text.replace('"k":2', '"k":1'), SITES), ("{}", SITES)):
        with pytest.raises(IntegrityError):
            reshare.Order.verify(text, sites)


def test_an_order_that_contradicts_itself_is_none():
    charter = Resharing().records[0].charter
    one, two = (sealing.public_key_of(secrets.token_bytes(32)) for _ in range(2))
    for dealers, receivers, k in (([1, 1], [one, two], 2), ([1, 2], [one, one], 2), ([1, 2], [one, two], 3)):
        with pytest.raises(IntegrityError):
            reshare.order(charter, 2, dealers, receivers, k, SIGNING_KEY)


@pytest.mark.parametrize("size", [0, 1, 62, 63, 65, 66, 128])
@pytest.mark.parametrize("dealer", [0, 2])
def test_a_piece_of_another_size_is_said_whose_it_is(dealer, size):
    resharing = Resharing((2, 3), spare=1)
    order = resharing.order
    sender = order.dealers[dealer]
    content = reshare._place(order, sender) + secrets.token_bytes(size)
    piece = b"".join(sealing.seal([order.receivers[0]], [content], secrets.token_bytes))
    pieces = resharing.pieces(0)
    pieces[dealer] = piece
    with pytest.raises(KeyShareInvalid, match=f"share {sender} dealt"):
        reshare.take(order, resharing.holders[0], pieces)

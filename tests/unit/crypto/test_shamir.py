"""Shares: against vectors of other implementations, a slow field, and every subset."""

import secrets
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.crypto.shamir import MAX_SHARES, Share, combine, split
from srm_dicom.errors import InvalidRequest

SECRET = bytes(range(32))

VAULT_3_OF_5 = {
    20: "7373dacf731e065cef20004751aa6b4559753703fb956b37678ec988598346fa",
    205: "459c99a131121ae895bc04123bd46ef7b12a069dd2a268ecff36c02632bb6935",
    222: "cdfa4799dac40a171e2ed6b7dbe38c0453971d130ee5827b45a9e682de2ae169",
}
"""Made from SECRET by a port of Vault's shamir package (pyshamir 1.1.0)."""

SLIP39_POINTS = {
    3: "acadaeafa0a1a2a3b4b5b6b7a8a9aaabbcbdbebfb0b1b2b38485868778797a7b",
    7: "272625246b6a69685f5e5d5c83828180373635347b7a7978afaeadacd2d3d0d1",
    255: "bcbdbebf1e1f1c1dabaaa9a85e5f5c5dacadaeaf0e0f0c0d8584878617161514",
}
"""Of the quadratic through (0, SECRET), (1, 100...131) and (2, 200...231), by shamir-mnemonic 0.3.0."""


def shares_of(points):
    return [Share(index, bytes.fromhex(data)) for index, data in points.items()]


def test_shares_made_by_vault_combine():
    assert combine(shares_of(VAULT_3_OF_5)) == SECRET


def test_points_of_slip39_interpolate():
    assert combine(shares_of(SLIP39_POINTS)) == SECRET


def test_evaluation_is_that_of_slip39():
    """The quadratic with the same values at 0, 1 and 2 has one coefficient pair; split finds its points."""
    one, two = bytes(range(100, 132)), bytes(range(200, 232))
    # p(x) = s + a x + b x^2: p(1) = s^a^b and p(2) = s ^ 2a ^ 4b, so 2(a^b) ^ (2a ^ 4b) = 6b
    total = [s ^ p for s, p in zip(SECRET, one, strict=True)]
    six_b = [multiply(2, t) ^ s ^ p for t, s, p in zip(total, SECRET, two, strict=True)]
    inverse_of_six = next(x for x in range(256) if multiply(6, x) == 1)
    b = bytes(multiply(inverse_of_six, value) for value in six_b)
    a = bytes(t ^ v for t, v in zip(total, b, strict=True))
    coefficients = iter([a, b])
    shares = split(SECRET, 3, 255, lambda _size: next(coefficients))
    assert {index: shares[index - 1].data.hex() for index in SLIP39_POINTS} == SLIP39_POINTS


def multiply(a: int, b: int) -> int:
    """The field's product by long multiplication, as FIPS 197 section 4.2 tells it."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 3), (2, 2), (2, 3), (3, 5), (4, 7), (5, 16), (16, 16)])
def test_any_k_of_n_give_the_secret(k, n):
    shares = split(SECRET, k, n, secrets.token_bytes)
    for chosen in list(combinations(shares, k))[:300]:
        assert combine(list(reversed(chosen))) == SECRET


def test_fewer_than_k_shares_fit_every_secret():
    """For each guess there is a coefficient that explains the one share seen."""
    [share] = split(b"\x42", 2, 1 + 1, secrets.token_bytes)[:1]
    explained = {share.data[0] ^ multiply(share.index, coefficient) for coefficient in range(256)}
    assert explained == set(range(256))


@given(st.binary(max_size=64), st.integers(1, 16), st.integers(0, 16))
def test_secrets_of_any_size(secret, k, more):
    shares = split(secret, k, k + more, secrets.token_bytes)
    assert combine(shares[-k:]) == secret


@pytest.mark.parametrize(("k", "n"), [(0, 3), (4, 3), (2, MAX_SHARES + 1), (-1, -1)])
def test_impossible_splits_are_refused(k, n):
    with pytest.raises(InvalidRequest):
        split(SECRET, k, n, secrets.token_bytes)


@pytest.mark.parametrize(
    "shares",
    [
        [],
        [Share(1, b"a"), Share(1, b"b")],
        [Share(1, b"a"), Share(2, b"bb")],
        [Share(0, b"a")],
        [Share(256, b"a"), Share(1, b"a")],
    ],
)
def test_impossible_shares_are_refused(shares):
    with pytest.raises(InvalidRequest):
        combine(shares)

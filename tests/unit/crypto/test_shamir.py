"""Shares: against two implementations that others wrote, a slow field, and every k of n."""

import secrets
from itertools import combinations, islice

import pyshamir
import pytest
import shamir_mnemonic.shamir as slip39
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.crypto.shamir import MAX_SHARES, Share, combine, split
from srm_dicom.errors import InvalidRequest

SECRET = bytes(range(32))

ALL = [(k, n) for n in range(1, 17) for k in range(1, n + 1)]
"""Every k of n that a site may have."""


def of_vault(part):
    """A share as Vault writes it: its data, then its index."""
    return Share(part[-1], bytes(part[:-1]))


@given(st.binary(min_size=1, max_size=40), st.sampled_from([(k, n) for k, n in ALL if k > 1]))
def test_shares_made_by_vaults_algorithm_combine(secret, k_of_n):
    k, n = k_of_n
    parts = pyshamir.split(secret, n, k)
    assert combine([of_vault(part) for part in parts[-k:]]) == secret


@given(st.binary(min_size=1, max_size=40), st.sampled_from([(k, n) for k, n in ALL if k > 1]))
def test_our_shares_combine_in_vaults_algorithm(secret, k_of_n):
    shares = split(secret, *k_of_n, secrets.token_bytes)[-k_of_n[0] :]
    assert pyshamir.combine([bytearray(share.data + bytes([share.index])) for share in shares]) == secret


@given(st.binary(min_size=1, max_size=40), st.sampled_from(ALL), st.integers(1, 255))
def test_our_polynomials_are_those_of_slip39(secret, k_of_n, x):
    """From any k of our shares SLIP-39's interpolation gives the secret, and every other share."""
    k, _ = k_of_n
    shares = split(secret, k, MAX_SHARES, secrets.token_bytes)
    known = [slip39.RawShare(share.index, share.data) for share in shares[:k]]
    assert slip39._interpolate(known, 0) == secret
    assert slip39._interpolate(known, x) == shares[x - 1].data


def test_a_vector_of_vaults_stays_what_it_was():
    """Made by pyshamir 1.1.0 of SECRET, 3 of 5."""
    vector = {
        20: "7373dacf731e065cef20004751aa6b4559753703fb956b37678ec988598346fa",
        205: "459c99a131121ae895bc04123bd46ef7b12a069dd2a268ecff36c02632bb6935",
        222: "cdfa4799dac40a171e2ed6b7dbe38c0453971d130ee5827b45a9e682de2ae169",
    }
    assert combine([Share(index, bytes.fromhex(data)) for index, data in vector.items()]) == SECRET


def multiply(a: int, b: int) -> int:
    """The field's product by long multiplication, as FIPS 197 section 4.2 tells it."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


@pytest.mark.parametrize(("k", "n"), ALL)
def test_any_k_of_n_give_the_secret(k, n):
    shares = split(SECRET, k, n, secrets.token_bytes)
    for chosen in islice(combinations(shares, k), 50):
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

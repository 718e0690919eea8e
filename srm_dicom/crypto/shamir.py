"""Shamir's secret sharing over GF(256): any k of n shares give the secret, fewer give nothing.

The field is that of AES (x^8 + x^4 + x^3 + x + 1), the same as in SLIP-39 and in Vault. A share has the
size of the secret and an index, its x coordinate, from 1. Arithmetic is on whole byte strings: a
product with a constant is `bytes.translate` with that constant's row of the multiplication table.

A wrong share gives a wrong secret without any sign of it; `keyrecord` is what tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from srm_dicom.errors import InvalidRequest

MAX_SHARES = 255


@dataclass(frozen=True, slots=True, repr=False)
class Share:
    """One point of the polynomials of all bytes of a secret; `index` is from 1."""

    index: int
    data: bytes


def split(secret: bytes, k: int, n: int, random_bytes: Callable[[int], bytes]) -> list[Share]:
    """Split a secret into n shares of which any k give it back.

    Args:
        secret: any length.
        k: shares needed, from 1 to n.
        n: shares made, at most 255.
        random_bytes: a source of secret, uniformly random bytes, such as `secrets.token_bytes`.

    Raises:
        InvalidRequest: there is no such k of n.
    """
    if not 1 <= k <= n <= MAX_SHARES:
        raise InvalidRequest(f"shares are k of n with 1 <= k <= n <= {MAX_SHARES}")
    coefficients = [secret] + [random_bytes(len(secret)) for _ in range(k - 1)]
    return [Share(x, _evaluate(coefficients, x)) for x in range(1, n + 1)]


def combine(shares: Sequence[Share]) -> bytes:
    """Return the secret from exactly the k shares that it takes.

    Raises:
        InvalidRequest: no shares, two of one index, or of different sizes.
    """
    indices = [share.index for share in shares]
    if len({*indices}) != len(shares) or len({len(share.data) for share in shares}) != 1:
        raise InvalidRequest("shares have different indices and one size")
    if not all(1 <= index <= MAX_SHARES for index in indices):
        raise InvalidRequest(f"the index of a share is from 1 to {MAX_SHARES}")
    return value_at(0, shares)


def value_at(x: int, points: Sequence[Share]) -> bytes:
    """Return the value at x of the polynomials through points, whose indices differ; the secret is at 0."""
    indices = [point.index for point in points]
    value = bytes(len(points[0].data))
    for point in points:
        value = xor(value, times(point.data, weight(point.index, indices, x)))
    return value


def weight(index: int, indices: Sequence[int], x: int) -> int:
    """Return the Lagrange weight of a point at x: the product of ``(x - x_j) / (x_i - x_j)`` over others."""
    product = 1
    for other in indices:
        if other != index:
            product = _TIMES[product][_TIMES[other ^ x][_INVERSE[other ^ index]]]
    return product


def times(value: bytes, factor: int) -> bytes:
    """Return every byte of a string times a constant, in the field."""
    return value.translate(_TIMES[factor])


def _evaluate(coefficients: Sequence[bytes], x: int) -> bytes:
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = xor(value.translate(_TIMES[x]), coefficient)
    return value


def xor(left: bytes, right: bytes) -> bytes:
    """Return the sum of two byte strings of one size, in the field."""
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def _tables() -> tuple[tuple[bytes, ...], bytes]:
    powers = [1]
    for _ in range(254):
        doubled = powers[-1] << 1
        powers.append((doubled ^ powers[-1]) ^ (0x11B if doubled & 0x100 else 0))
    log = {value: exponent for exponent, value in enumerate(powers)}
    times = tuple(
        bytes(powers[(log[a] + log[b]) % 255] if a and b else 0 for b in range(256)) for a in range(256)
    )
    inverse = bytes([0] + [powers[-log[a] % 255] for a in range(1, 256)])
    return times, inverse


_TIMES, _INVERSE = _tables()

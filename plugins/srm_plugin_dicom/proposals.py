"""Which presentation contexts a C-GET proposes; pure.

Each context has one transfer syntax, so that an archive accepts all that it can send and then sends each
object as it holds it. An association has 128 contexts. When the archive told which SOP classes are wanted,
a few are enough; one that does not tell is asked again, the common classes and syntaxes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts

Pair = tuple[str, str]
"""Abstract and transfer syntax."""

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_COMMON_CLASSES = tuple(
    _STORAGE + suffix
    for suffix in ("2", "4", "1", "1.1", "1.2", "128", "6.1", "20", "7", "12.1", "12.2", "2.1", "4.1")
)
_COMMON_SYNTAXES = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.91",
)


def rounds(told: Sequence[str], *, at_once: int) -> Iterator[Sequence[Pair]]:
    """Yield the contexts of one association after another, until the caller has what it wants.

    Args:
        told: the SOP classes that are wanted; empty when the archive does not tell.
        at_once: most contexts of one association.
    """
    if told:
        yield from _slices(_pairs(told, _syntaxes()), at_once)
        return
    everything = dict.fromkeys(chain(_COMMON_CLASSES, _classes()))
    rare = [syntax for syntax in _syntaxes() if syntax not in _COMMON_SYNTAXES]
    yield from _slices(_pairs(everything, _COMMON_SYNTAXES), at_once)
    yield from _slices(_pairs(everything, rare), at_once)


def _pairs(classes: Sequence[str] | dict[str, None], syntaxes: Sequence[str]) -> Iterator[Pair]:
    return ((abstract, transfer) for abstract in classes for transfer in syntaxes)


def _classes() -> Iterator[str]:
    return (str(context.abstract_syntax) for context in AllStoragePresentationContexts)


def _syntaxes() -> list[str]:
    return list(dict.fromkeys((*_COMMON_SYNTAXES, *map(str, ALL_TRANSFER_SYNTAXES))))


def _slices(pairs: Iterator[Pair], size: int) -> Iterator[Sequence[Pair]]:
    while some := tuple(islice(pairs, size)):
        yield some

"""What an operation needs: every SOAP operation, FTP verb and catalogue call declares one `Right`.

A declaration does not check anything; it says which check the operation makes. A test walks every
table of operations and fails for one that declares nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


class Right(Enum):
    """Object and permission letter.

    `OWN_REQUEST` is ownership of the request that is named; `FILE_ADMIN` that of the name, with a credential
    that is not limited.
    """

    FILE_READ = "file:r"
    FILE_WRITE = "file:w"
    FILE_LIST = "directory:r"
    FILE_ADMIN = "file:p"
    OWN_REQUEST = "request:owner"
    KEY_FETCH = "key:g"
    KEY_WRITE = "key:s"
    KEY_REMOVE = "key:d"
    KEY_ADMIN = "key:p"
    KEY_CREATE = "keys:create"
    NAME_READ = "name:r"
    NAME_WRITE = "name:w"
    SCRATCH_WRITE = "scratch:w"
    METADATA_SEARCH = "metadata:r"
    METADATA_NOMINATIVE = "metadata:n"
    METADATA_WRITE = "metadata:w"
    METADATA_ADMIN = "metadata:p"


@dataclass(frozen=True, slots=True)
class OpenAccess:
    """Anyone whose credential was accepted may call it, for this reason."""

    reason: str


Declaration = Right | OpenAccess


def requires(declaration: Declaration) -> Callable[[F], F]:
    """Mark a function with what it checks."""

    def mark(function: F) -> F:
        function.__right__ = declaration  # type: ignore[attr-defined]
        return function

    return mark


def declared(function: Callable[..., object]) -> Declaration | None:
    """Return what a function declares, if anything."""
    return getattr(function, "__right__", None)

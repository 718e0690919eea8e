"""What a client bears while its answer is not ready, by ``Prefer`` (RFC 7240) or by what it is."""

from __future__ import annotations

from dataclasses import dataclass

_MAX_MEMBERS = 16
_ASKS_AGAIN = "neon/"
"""davix, and so gfal2: after a 202 it sleeps and repeats the GET; told 503 it gives up."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How a client waits.

    Attributes:
        wait_s: for how long it wants the answer held back; None leaves it to the server.
        accepts_later: whether 202 tells it to come back, and is not taken for the file itself.
    """

    wait_s: float | None
    accepts_later: bool

    @classmethod
    def read(cls, prefer: str | None, user_agent: str | None) -> Patience:
        """Read the headers of a request; preferences that cannot be read are ignored, as RFC 7240 says."""
        wishes: dict[str, str] = {}
        for member in (prefer or "").split(",", _MAX_MEMBERS):
            name, _, value = member.partition(";")[0].partition("=")
            wishes.setdefault(name.strip().lower(), value.strip().strip('"'))
        wait = wishes.get("wait", "")
        asynchronous = "respond-async" in wishes
        if wait.isascii() and wait.isdigit():
            return cls(float(wait[:6]), asynchronous or _asks_again(user_agent))
        return cls(0.0 if asynchronous else None, asynchronous or _asks_again(user_agent))


def _asks_again(user_agent: str | None) -> bool:
    return _ASKS_AGAIN in (user_agent or "")

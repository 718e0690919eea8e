"""Tables and words of a page in Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(field.replace("|", "\\|") for field in line) + " |" for line in lines)


def code(text: str) -> str:
    """Return text as it is typed."""
    return f"`{text}`"


def first(text: str | None) -> str:
    """Return the first paragraph, on one line."""
    return " ".join((text or "").partition("\n\n")[0].split())


def summary(thing: object) -> str:
    """Return the first paragraph of a docstring."""
    return first(inspect.getdoc(thing))

"""Draws a table of transitions: a line for each state, an arrow for each thing that can happen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any
from xml.sax.saxutils import escape

COLUMN, ROW, HEAD = 96, 24, 48
STYLE = (
    "text{font:11px sans-serif;text-anchor:middle}.event{font-size:10px}"
    "line,path{stroke:#456;fill:none}.life{stroke:#bbb;stroke-dasharray:3}"
    "rect{fill:#eef3f8;stroke:#456}.end{fill:#e4e4e4}"
)
ARROW = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto"><path d="M0 0 8 4 0 8" style="fill:#456"/></marker></defs>'
)


def drawing(transitions: Mapping[Any, Mapping[Any, Any]], states: Sequence[Enum], title: str) -> str:
    """Return an SVG: states from left to right, ends grey, their transitions from top to bottom."""
    at = {state: COLUMN * number + COLUMN // 2 for number, state in enumerate(states)}
    arrows = [(state, event, then) for state in at for event, then in transitions.get(state, {}).items()]
    width, height = COLUMN * len(at), HEAD + ROW * (len(arrows) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>{ARROW}",
        *(_state(str(state.value), x, height, end=state not in transitions) for state, x in at.items()),
        *(
            _arrow(event.name, at[state], at[then], HEAD + ROW * (row + 1))
            for row, (state, event, then) in enumerate(arrows)
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _state(called: str, x: int, height: int, *, end: bool) -> str:
    look = ' class="end"' if end else ""
    return (
        f'<line class="life" x1="{x}" y1="{HEAD - 16}" x2="{x}" y2="{height}"/>'
        f'<rect{look} x="{x - 44}" y="8" width="88" height="24" rx="5"/>'
        f'<text x="{x}" y="24">{escape(called)}</text>'
    )


def _arrow(event: str, start: int, end: int, y: int) -> str:
    if start == end:
        line = f'<path d="M{start} {y - 6}h18v8h-17" marker-end="url(#tip)"/>'
        return f'{line}<text class="event" x="{start + 44}" y="{y + 2}">{escape(event)}</text>'
    line = f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}" marker-end="url(#tip)"/>'
    # Beside its beginning: a long arrow passes under others' names.
    middle = start + (COLUMN // 2 if end > start else -COLUMN // 2)
    return f'{line}<text class="event" x="{middle}" y="{y - 3}">{escape(event)}</text>'

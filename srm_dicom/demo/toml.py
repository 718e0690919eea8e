"""TOML from plain tables; the standard library only reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any


def dump(table: Mapping[str, Any], prefix: str = "") -> str:
    """Return a table as TOML: scalars and lists first, tables and lists of tables after them."""
    lines: list[str] = []
    later: list[str] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            later += [f"\n[{name}]", dump(value, f"{name}.")]
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for item in value:
                later += [f"\n[[{name}]]", dump(item, f"{name}.")]
        else:
            lines.append(f"{key} = {_scalar(value)}")
    return "\n".join([*lines, *later])


def _scalar(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)

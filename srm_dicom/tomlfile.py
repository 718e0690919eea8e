"""TOML files read into frozen structs: a key that nobody knows is refused, with the nearest that exists.

And plain tables written as TOML: the standard library only reads it.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from srm_dicom.errors import ConfigError

T = TypeVar("T")


def read(path: Path, kind: type[T]) -> T:
    """Read one file as a struct, with paths made absolute.

    Raises:
        ConfigError: the file cannot be read or says something unknown; the message has the place.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is not there", advice="--config names another file.") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    base = path.resolve().parent

    def decode(wanted: type[Any], value: Any) -> Any:
        if wanted is Path and isinstance(value, str):
            return base / value
        raise NotImplementedError

    try:
        return msgspec.convert(_aware(table), kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}", advice=_did_you_mean(str(error), kind)) from error


def load_directory(directory: Path, kind: type[T]) -> dict[str, T]:
    """Read every ``*.toml`` of a directory; the keys are the names without suffix.

    Raises:
        ConfigError: it is not there, or may not be read, or a file of it is not usable.
    """
    return {path.stem: read(path, kind) for path in files_in(directory)}


def files_in(directory: Path) -> list[Path]:
    """Return every ``*.toml`` of a directory.

    Raises:
        ConfigError: it is not there, or may not be read.
    """
    try:
        paths = sorted(directory.iterdir())  # glob() finds nothing in what may not be read
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}") from error
    return [path for path in paths if path.suffix == ".toml"]


def written(path: Path) -> tuple[int, int]:
    """Return what changes when a file is written or replaced; it may be gone."""
    with suppress(OSError):
        status = path.stat()
        return status.st_mtime_ns, status.st_ino
    return 0, 0


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


def _aware(table: Mapping[str, Any]) -> dict[str, Any]:
    """Take a time of day without a zone as UTC."""

    def aware(value: Any) -> Any:
        if isinstance(value, datetime) and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        if isinstance(value, dict):
            return {key: aware(item) for key, item in value.items()}
        return [aware(item) for item in value] if isinstance(value, list) else value

    return {key: aware(value) for key, value in table.items()}


def _did_you_mean(message: str, kind: type[Any]) -> str:
    _, found, rest = message.partition("unknown field `")
    if not found:
        return "The commented examples in etc/ have every key."
    close = difflib.get_close_matches(rest.partition("`")[0], sorted(_known(kind)), n=1)
    return f"Did you mean {close[0]}?" if close else "The commented examples in etc/ have every key."


def _known(kind: type[Any]) -> set[str]:
    names: set[str] = set()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            names.add(field.name)
            for inner in (field.type, *getattr(field.type, "__args__", ())):
                names |= _known(inner)
    return names


def _scalar(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    text = json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # JSON has pairs of surrogates for letters, and DEL as it is

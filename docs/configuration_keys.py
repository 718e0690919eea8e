"""Every key of every configuration file, read off the structs that the code reads the files into."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, time
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
from configuration_words import WORDS
from markdown_parts import code, table

from mdm_files.settings import FileCatalogueSettings
from mdm_keys.server import KeyServerSettings
from mdm_metadata.settings import MetadataSettings
from srm_dicom import config
from srm_plugin_dicom.settings import Settings as DicomSettings
from srm_plugin_disk.plugin import Settings as DiskSettings

FILES: Mapping[str, tuple[str, str, str, type[msgspec.Struct]]] = {
    "`srm-dicom.toml`": ("The site.", "", "", config.Config),
    "`projects.d/*.toml`": (
        "What data may leave for; one file a project.",
        "project:",
        "",
        config.ProjectFile,
    ),
    "`plugins.d/*.toml`": (
        "Where files come from; one file a plugin. The inner zone alone reads them.",
        "plugin:",
        "",
        config.PluginFile,
    ),
    "`plugins.d/*.toml` of the dicom plugin": ("", "dicom:", "settings.", DicomSettings),
    "`plugins.d/*.toml` of the disk plugin": ("", "disk:", "settings.", DiskSettings),
    "`catalog.d/*.toml`": (
        "A catalogue server; it may stand on somebody else's machine.",
        "catalogue:",
        "",
        config.CatalogueFile,
    ),
    "`catalog.d/*.toml` of a key server": ("", "keys:", "server.", KeyServerSettings),
    "`catalog.d/*.toml` of a file catalogue": ("", "files:", "server.", FileCatalogueSettings),
    "`catalog.d/*.toml` of a metadata catalogue": ("", "metadata:", "server.", MetadataSettings),
}
"""For each section of the page: what it says, the prefix of its words, the table's place in the file,
and the struct that the code reads it into."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a configuration file; `word` is its name in `WORDS`, `meaning` is empty if nobody says it."""

    word: str
    name: str
    kind: str
    default: str
    meaning: str


HEAD = ("key", "is", "default", "meaning")


def configuration_keys() -> str:
    """Every key of every file."""
    parts = []
    for title, (about, *_) in FILES.items():
        rows = [(code(key.name), key.kind, key.default, key.meaning) for key in keys_of(title)]
        parts.append("\n\n".join(part for part in (f"## {title}", about, table(HEAD, rows)) if part))
    return "\n\n".join(parts)


def keys_of(title: str) -> Iterator[Key]:
    """Yield the keys of a file: what `WORDS` says of them, or else the docstring of the struct."""
    _, words, prefix, struct = FILES[title]
    for key in _fields(struct, prefix):
        word = words + key.name if words + key.name in WORDS else key.name
        yield replace(key, word=word, meaning=WORDS.get(word, key.meaning))


def _fields(struct: type[msgspec.Struct], prefix: str, given: Any = None) -> Iterator[Key]:
    said = _attributes(struct)
    for field in msgspec.structs.fields(struct):
        name = prefix + field.name
        default = _default(field) if given is None else getattr(given, field.name)
        inner = _struct_in(field.type)
        if inner is None:
            meaning = said.get(field.name, "")
            yield Key(name, name, _kind(field.type, field.name), _shown(default), meaning)
        elif get_origin(field.type) is tuple:
            keys = [key for kind in structs_in(field.type) for key in _fields(kind, f"{name}[].")]
            yield from {key.name: key for key in keys}.values()
        else:
            if type(None) in get_args(field.type):
                yield Key(name, name, "table", "left out", said.get(field.name, ""))
            known = default if isinstance(default, msgspec.Struct) else None
            yield from _fields(inner, f"{name}.", known)


_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def _attributes(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return what the docstrings of a struct and its bases say of its fields, as sentences."""
    texts = [(inspect.getdoc(each) or "").partition("Attributes:")[2] for each in reversed(struct.__mro__)]
    found = [pair for text in texts for pair in _ATTRIBUTE.findall(text)]
    sentences = ((name, " ".join(text.replace("``", "`").split())) for name, text in found)
    return {name: text[:1].upper() + text[1:] for name, text in sentences}


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _shown(default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return "**needed**"
    if default is None or default in ((), "", {}):
        return "none"
    return code(json.dumps(str(default) if isinstance(default, Path) else default))


def structs_in(kind: Any) -> list[type[msgspec.Struct]]:
    """Return the structs that a type is made of: several where a table may be of several kinds."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for arg in get_args(kind) for found in structs_in(arg)]


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    return next(iter(structs_in(kind)), None)


_KINDS: Mapping[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    datetime: "time",
    time: "time of day",
}


def _kind(kind: Any, name: str = "") -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(code(json.dumps(one)) for one in args)
    if origin is tuple:
        many = len(args) > 1 and args[1] is not Ellipsis
        return f"{len(args)} of {_kind(args[0])}" if many else f"list of {_kind(args[0])}"
    if origin is dict:
        return "table"
    if args:  # Annotated, or optional
        return _kind(args[0], name)
    if issubclass(kind, Enum):
        return " or ".join(code(each.value) for each in kind)
    return "seconds" if name.endswith("_s") and not name.endswith("_per_s") else _KINDS[kind]

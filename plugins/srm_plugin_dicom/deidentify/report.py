"""What happened to one object, for the audit trail: attributes and rules, never a value."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from srm_plugin_dicom.deidentify import tables
from srm_plugin_dicom.deidentify.options import Option
from srm_plugin_dicom.deidentify.profile import Action, Profile

_PATTERN_OF = {0x50: "50xxxxxx", 0x60: "60xxxxxx"}


@dataclass(frozen=True, slots=True)
class Report:
    """Which attributes an object had, at any depth, and of which nothing left.

    Attributes:
        options: those of the profile, and what was done to the pixels.
        seen: their tags; `removed`: those of them that did not leave, at least once.
    """

    options: tuple[Option, ...]
    profile: Profile
    seen: Collection[int]
    removed: Collection[int]

    def lines(self) -> list[tuple[str, str, str]]:
        """Return (tag, what was done, by which rule), by ascending tag."""
        return [(f"{tag:08X}", *self._line(tag)) for tag in sorted(self.seen)]

    def as_json(self) -> str:
        """Return the report as one JSON object on one line."""
        return json.dumps(
            {
                "profile": self.profile.name,
                "version": self.profile.version,
                "options": [option.value for option in self.options],
                "attributes": [{"tag": tag, "done": done, "rule": rule} for tag, done, rule in self.lines()],
            },
            separators=(",", ":"),
        )

    def compact(self) -> str:
        """Return what was done, and to which attributes, as JSON on one line.

        The rule is left out: profile, version and attribute tell it.
        """
        done: dict[str, list[str]] = {}
        for tag, what, _ in self.lines():
            done.setdefault(what, []).append(tag)
        options = [option.value for option in self.options]
        told = {"profile": self.profile.name, "version": self.profile.version, "options": options} | done
        return json.dumps(told, separators=(",", ":"))

    def _line(self, tag: int) -> tuple[str, str]:
        rule = self.profile.rules.get(tag)
        if rule is None:
            return Action.DROP.value, _why_unknown(tag)
        if tag in self.removed and rule.action not in (Action.CONCEPT, Action.PIXELS):
            return Action.DROP.value, rule.source
        return rule.action.value, rule.source


def _why_unknown(tag: int) -> str:
    group = tag >> 16
    if group & 1:
        return "table E.1-1: private"
    names = dict(tables.patterns())
    pattern = _PATTERN_OF.get(group >> 8, "")
    return f"table E.1-1: {pattern}" if pattern in names or group >> 8 == 0x60 else "not on the keep list"

"""Regular expressions mean the same in every Python that the project is for."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [path for top in ("srm_dicom", "plugins", "catalog") for path in sorted((ROOT / top).rglob("*.py"))]

POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[?*+]|\{[^}\n]*\})\+")
"""Before 3.11.5 such a group may match what it does not; an atomic group around it does what is meant."""


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a(?:e[+-]?1)?+", True),
        ("(?:a){0,3}+b", True),
        ("(?:a)*+", True),
        (r"\)?+", False),
        ("a++(?>b*)", False),
    ],
)
def test_a_possessive_group_is_seen(pattern, found):
    assert bool(POSSESSIVE_GROUP.search(pattern)) == found


def test_no_group_is_possessive():
    assert len(SOURCES) > 100
    assert [path.name for path in SOURCES if POSSESSIVE_GROUP.search(path.read_text())] == []

"""The selector language of the DICOM plugin: which objects of a PACS; pure.

    source=main Modality=CT StudyDate=20240101-20240201
    PatientID=4711 SeriesDescription="*thorax*"

Words are ``Keyword=value`` with keywords of the data dictionary; a value has DICOM's matching (PS3.4,
C.2.2.2): ``*`` and ``?``, date ranges ``a-b``, and several values separated by backslash. A PACS may
ignore a key that it does not know (dcmqrscp ignores most), so every answer is filtered again here; what
a PACS does not tell cannot be shown to match, and does not.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from srm_dicom.errors import InvalidRequest

MAX_SELECTOR_CHARS = 8192


class Level(Enum):
    """Query/retrieve levels of the study root (PS3.4, C.6.2)."""

    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


KEYS: dict[Level, tuple[str, ...]] = {
    Level.STUDY: (
        "PatientID",
        "IssuerOfPatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "StudyDescription",
        "AccessionNumber",
        "ModalitiesInStudy",
    ),
    Level.SERIES: (
        "SeriesInstanceUID",
        "Modality",
        "SeriesNumber",
        "SeriesDescription",
        "BodyPartExamined",
        "ProtocolName",
        "Manufacturer",
        "ManufacturerModelName",
    ),
    Level.IMAGE: ("SOPInstanceUID", "SOPClassUID", "InstanceNumber", "Rows", "Columns", "NumberOfFrames"),
}
"""What is asked for at each level, and what a selector may name."""

UNIQUE = {Level.STUDY: "StudyInstanceUID", Level.SERIES: "SeriesInstanceUID", Level.IMAGE: "SOPInstanceUID"}
"""What names a thing at each level (PS3.4, C.6.2.1)."""

_UID = re.compile(r"[0-9.]{1,64}")
_DATES = frozenset({"StudyDate", "PatientBirthDate"})
_RANGE = re.compile(r"(\d{8})?-(\d{8})?\Z")


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector: `source` is empty when every source is meant."""

    source: str
    keys: Mapping[str, str]

    def at(self, level: Level) -> dict[str, str]:
        """Return the keys that are matched at a level."""
        return {keyword: value for keyword, value in self.keys.items() if keyword in KEYS[level]}

    def query(self, level: Level) -> dict[str, str]:
        """Return what to send at a level: its keys, and everything that is wanted back, empty."""
        query = dict.fromkeys(KEYS[level], "") | self.at(level)
        if level is Level.STUDY and "Modality" in self.keys and not query["ModalitiesInStudy"]:
            query["ModalitiesInStudy"] = self.keys["Modality"]
        return query

    def matches(self, level: Level, answer: Mapping[str, str]) -> bool:
        """Tell whether an answer of the PACS is really one that was asked for."""
        return all(matches(key, value, answer.get(key, "")) for key, value in self.at(level).items())


def is_uid(text: str) -> bool:
    """Tell whether a text may name something: of the characters of a UID, and not longer (PS3.5, 9.1)."""
    return _UID.fullmatch(text) is not None


def sound(answers: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Leave out what goes by a name that is no UID.

    Names go into the lists and paths of later questions, to mirrors too, where a wildcard, a backslash or
    a slash would mean something else.
    """
    return [each for each in answers if all(is_uid(each.get(key, "0")) for key in UNIQUE.values())]


def parse_selector(text: str) -> Selector:
    """Read a selector.

    Raises:
        InvalidRequest: not ``Keyword=value`` words, or a keyword that cannot be matched.
    """
    if len(text) > MAX_SELECTOR_CHARS:
        raise InvalidRequest(f"a selector has at most {MAX_SELECTOR_CHARS} characters")
    try:
        words = _split(text)
    except ValueError:
        raise InvalidRequest("the quotation marks of the selector do not pair") from None
    known = {keyword for keywords in KEYS.values() for keyword in keywords}
    keys: dict[str, str] = {}
    for word in words:
        keyword, equals, value = word.partition("=")
        if not equals or not value or keyword in keys:
            raise InvalidRequest("a selector is made of Keyword=value, each keyword once")
        if keyword != "source" and keyword not in known:
            raise InvalidRequest("the selector has a keyword that cannot be matched", advice=_advice())
        keys[keyword] = value
    return Selector(keys.pop("source", ""), keys)


def matches(keyword: str, wanted: str, value: str) -> bool:
    """Tell whether a value matches what was asked for a keyword (PS3.4, C.2.2.2)."""
    values = value.split("\\")
    return any(_matches_one(keyword, each, one) for each in wanted.split("\\") for one in values)


def _matches_one(keyword: str, wanted: str, value: str) -> bool:
    bounds = _RANGE.match(wanted) if keyword in _DATES else None
    if bounds:
        first, last = bounds.groups()
        return value.isdigit() and (first or "0") <= value <= (last or "9")
    fold = re.IGNORECASE if keyword == "PatientName" else re.NOFLAG
    pattern = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in wanted)
    return bool(value) and re.fullmatch(pattern, value, fold | re.DOTALL) is not None


def _split(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.escape = ""
    lexer.commenters = ""
    return list(lexer)


def _advice() -> str:
    return "Use source, " + ", ".join(keyword for level in Level for keyword in KEYS[level]) + "."

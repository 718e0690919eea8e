"""The confidentiality options of PS3.15 annex E: which are done, how, and since which version.

This table is what the compliance page is made from, and what (0012,0064) says of an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Option(Enum):
    """An option; the value is its column of ``table_e1_1.tsv``."""

    BASIC = "basic"
    PIXELS = "pixels"
    FEATURES = "features"
    GRAPHICS = "graphics"
    STRUCTURED = "structured"
    DESCRIPTORS = "descriptors"
    FULL_DATES = "full_dates"
    MODIFIED_DATES = "modified_dates"
    PATIENT = "patient"
    DEVICE = "device"
    UIDS = "uids"
    SAFE_PRIVATE = "safe_private"
    INSTITUTION = "institution"


@dataclass(frozen=True, slots=True)
class Compliance:
    """What is done about an option.

    Attributes:
        code: its code in coding scheme DCM (PS3.16, CID 7050), and `meaning` what it stands for.
        done: a profile may name it.
        how: in a sentence.
        since: the version of this software that first did it; empty while it is not done.
    """

    option: Option
    code: str
    meaning: str
    done: bool
    how: str
    since: str = ""


COMPLIANCE: tuple[Compliance, ...] = (
    Compliance(
        Option.BASIC,
        "113100",
        "Basic Application Confidentiality Profile",
        True,
        "Every row of table E.1-1 at any depth; of a combination the action that is valid at every Type: "
        "D before Z before X. On top an allow-list: an attribute that is neither in the table nor on "
        "keep.tsv does not leave, and one that is leaves only with a value that its rule proves.",
        "0.1",
    ),
    Compliance(
        Option.PIXELS,
        "113101",
        "Clean Pixel Data Option",
        True,
        "Of any profile: where a site rule tells the rectangles of a machine's images, these are blanked in "
        "every frame (compressed frames leave native) and the option is stated. Other images that may show "
        "text are refused, unless the site trusts the machine.",
        "0.1",
    ),
    Compliance(
        Option.FEATURES,
        "113102",
        "Clean Recognizable Visual Features Option",
        True,
        "Of a profile that names a transform of the site's own: thin slices of heads leave as the transform "
        "makes them of their whole series, and the option is stated; none is part of this software. Without "
        "one they are refused, unless the project may have recognisable images.",
        "0.1",
    ),
    Compliance(
        Option.GRAPHICS,
        "113103",
        "Clean Graphics Option",
        True,
        "Graphic objects of annotations leave as coordinates, their text does not; grayscale presentation "
        "states leave so. Overlays and curves go. Without the option all of these are removed or refused.",
        "0.1",
    ),
    Compliance(
        Option.STRUCTURED,
        "113104",
        "Clean Structured Content Option",
        True,
        "Reports leave with the items that are coded by public concepts, numeric, or references; items of "
        "any other type go with what is below them. Without the option reports are refused.",
        "0.1",
    ),
    Compliance(
        Option.DESCRIPTORS,
        "113105",
        "Clean Descriptors Option",
        True,
        "Of descriptions the public words of words.tsv leave, in their order; everything else in them goes.",
        "0.1",
    ),
    Compliance(
        Option.FULL_DATES,
        "113106",
        "Retain Longitudinal Temporal Information Full Dates Option",
        True,
        "Dates and times of the table that are well-formed are kept; others as the basic profile says.",
        "0.1",
    ),
    Compliance(
        Option.MODIFIED_DATES,
        "113107",
        "Retain Longitudinal Temporal Information Modified Dates Option",
        True,
        "Dates of one patient all go back by the same number of days, from 1 to ten years, derived from "
        "the project's key; times of day stay.",
        "0.1",
    ),
    Compliance(
        Option.PATIENT,
        "113108",
        "Retain Patient Characteristics Option",
        True,
        "Rows with K that are numbers, ages (above 89 years: 090Y) or defined terms; free text stays out.",
        "0.1",
    ),
    Compliance(
        Option.DEVICE,
        "113109",
        "Retain Device Identity Option",
        True,
        "Rows with K that are device UIDs or short plain ASCII words; dates only with a date option.",
        "0.1",
    ),
    Compliance(
        Option.UIDS,
        "113110",
        "Retain UIDs Option",
        True,
        "UIDs stay as they are.",
        "0.1",
    ),
    Compliance(
        Option.SAFE_PRIVATE,
        "113111",
        "Retain Safe Private Option",
        True,
        "The attributes of table E.3.10-1 that are numbers leave, at the top level (safe_private.tsv).",
        "0.1",
    ),
    Compliance(
        Option.INSTITUTION,
        "113112",
        "Retain Institution Identity Option",
        True,
        "Rows with K that are plain ASCII words.",
        "0.1",
    ),
)

BY_OPTION = {row.option: row for row in COMPLIANCE}


def markdown() -> str:
    """Return the compliance page's table."""
    lines = ["| Option | Code | Done | How |", "|---|---|---|---|"]
    for row in COMPLIANCE:
        done = f"since {row.since}" if row.done else "no"
        lines.append(f"| {row.meaning} | {row.code} | {done} | {row.how} |")
    return "\n".join(lines) + "\n"

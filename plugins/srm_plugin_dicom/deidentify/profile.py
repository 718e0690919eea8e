"""Named, versioned profiles: for each attribute the one rule that applies.

A profile is the basic profile of PS3.15 plus options. Where the table leaves a choice (X/Z/D), the
action that is valid at every Type is taken: D before Z before X. For a sequence D and U mean that
its items are cleaned by the same rules, which is its dummy. An attribute without a rule is removed.

`VERSION` changes whenever a table or a rule does; releases carry it, so that a file registered under
one version is never silently made under another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

from srm_dicom.errors import NotSupported
from srm_plugin_dicom.deidentify import tables
from srm_plugin_dicom.deidentify.options import BY_OPTION, Option
from srm_plugin_dicom.deidentify.series import SeriesTransform
from srm_plugin_dicom.deidentify.tables import KeepRow, TableRow

VERSION = "v1"
IMPLEMENTATION_UID = b"2.25.234867235149081648093154972463480137728"
_FIRST_GROUP = 0x0008
_PATIENT_ID = 0x00100020
# Done in every profile: always, where a site rule tells what to blank, and where a transform is named.
_UNCHOSEN = frozenset((Option.BASIC, Option.PIXELS, Option.FEATURES))
_NAMES = frozenset((b"SH", b"LO", b"ST", b"AE", b"CS", b"UC"))
_TEXTS = {
    Option.DESCRIPTORS: frozenset((b"LO", b"LT", b"SH", b"ST", b"UT")),
    Option.DEVICE: _NAMES,
    Option.INSTITUTION: _NAMES,
}
# Options of which C ("clean") is done; of the others only K ("keep") is.
_CLEANING = frozenset((Option.MODIFIED_DATES, Option.DESCRIPTORS, Option.STRUCTURED, Option.GRAPHICS))
_SEX = (0x00100040, 0x00102203)


class Action(Enum):
    """What is done with a value."""

    DROP = "removed"
    EMPTY = "emptied"
    DUMMY = "replaced by a dummy"
    UID = "replaced by a keyed UID"
    PSEUDONYM = "replaced by a keyed pseudonym"
    CLEAN = "kept where its rule proves it"
    SHIFT = "shifted"
    ITEMS = "items cleaned"
    CONCEPT = "kept where it is a public concept"
    PIXELS = "kept bit for bit as decoded"


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to one attribute.

    Attributes:
        vrs: representations it may have in the output, the usual first.
        action: what is done; `otherwise` when the value does not allow it.
        check: what a value must be, in the words of the keep list, for CLEAN and UID.
        source: where the rule is from: the table with its action codes, or the keep list with its reason.
    """

    tag: int
    name: str
    vrs: tuple[bytes, ...]
    action: Action
    source: str
    check: str = ""
    most: int | None = None
    otherwise: Action = Action.DROP


@dataclass(frozen=True, eq=False)
class Profile:
    """A named set of rules; there is one object for each (see `profile`), so it is compared as such.

    Attributes:
        transform: what series that may show a face leave through; without one they do not leave.
    """

    name: str
    version: str
    options: tuple[Option, ...]
    rules: Mapping[int, Rule]
    transform: SeriesTransform | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def temporal(self) -> bytes:
        """The value of (0028,0303) Longitudinal Temporal Information Modified (PS3.15 E.3.6)."""
        if Option.FULL_DATES in self.options:
            return b"UNMODIFIED"
        return b"MODIFIED" if Option.MODIFIED_DATES in self.options else b"REMOVED"


PROFILES: Mapping[str, tuple[Option, ...]] = {
    "basic": (),
    "basic-dates": (Option.MODIFIED_DATES,),
    "full-dates": (Option.FULL_DATES,),
    "research": (Option.MODIFIED_DATES, Option.PATIENT),
    "devices": (Option.MODIFIED_DATES, Option.PATIENT, Option.DEVICE),
}


@dataclass(frozen=True, slots=True)
class SiteProfile:
    """A profile of the site's own: a new revision is another version, as when the rules change."""

    name: str
    revision: int
    options: tuple[Option, ...]
    transform: SeriesTransform | None = None

    @property
    def version(self) -> str:
        """What releases carry: the versions of the rules, of the site's options and of its transform."""
        version = f"{VERSION}.{self.revision}"
        return f"{version}-{self.transform.name}-{self.transform.version}" if self.transform else version


def current_version(name: str, site: tuple[SiteProfile, ...] = ()) -> str:
    """Return the version of a profile that new releases get.

    Raises:
        NotSupported: no such profile.
    """
    own = next((each for each in site if each.name == name), None)
    return profile(name, own.version if own else VERSION, site).version


@cache
def profile(name: str, version: str = VERSION, site: tuple[SiteProfile, ...] = ()) -> Profile:
    """Return a profile by name and version.

    Args:
        name: one of `PROFILES` or of the site's.
        version: what a release says.
        site: the site's own profiles.

    Raises:
        NotSupported: there is no such profile, or not in that version, or with options that are not done.
    """
    known = {(each, VERSION): SiteProfile(each, 0, options) for each, options in PROFILES.items()}
    known |= {(each.name, each.version): each for each in site}
    found = known.get((name, version))
    if found is None:
        names = ", ".join(f"{each} {its_version}" for each, its_version in known)
        raise NotSupported(
            f"no de-identification profile {name} {version}",
            advice=f"Profiles: {names}. Register again for one of these.",
        )
    return Profile(name, version, (Option.BASIC, *found.options), _rules(found.options), found.transform)


def _rules(options: tuple[Option, ...]) -> dict[int, Rule]:
    missing = [option.value for option in options if option in _UNCHOSEN or not BY_OPTION[option].done]
    if missing:
        raise NotSupported(f"confidentiality options that no profile can choose: {', '.join(missing)}")
    rules = {row.tag: kept(row) for row in tables.keep()}
    for option in options:
        rules |= {row.tag: kept(row) for row in tables.keep_with(option.value)}
    for row in tables.table():
        if row.tag >> 16 >= _FIRST_GROUP:
            rules[row.tag] = _optional(row, options) or _basic(row)
    return rules


def kept(row: KeepRow) -> Rule:
    """Return the rule of a row of a keep list."""
    actions = {
        "items": Action.ITEMS,
        "concept": Action.CONCEPT,
        "pixels": Action.PIXELS,
        "uid": Action.UID,
        "registered": Action.UID,
    }
    action = actions.get(row.rule, Action.CLEAN)
    return Rule(row.tag, row.keyword, row.vrs, action, f"keep list: {row.reason}", row.rule, row.most)


def _basic(row: TableRow) -> Rule:
    return Rule(row.tag, row.name, row.vrs, _basic_action(row), f"table E.1-1: {row.basic}")


def _basic_action(row: TableRow) -> Action:
    codes = set(row.basic.replace("*", "").split("/"))
    vr = row.vrs[0]
    if row.tag == _PATIENT_ID:
        return Action.PSEUDONYM
    if codes & {"D", "U"}:
        return {b"SQ": Action.ITEMS, b"UI": Action.UID}.get(vr, Action.DUMMY)
    return Action.EMPTY if "Z" in codes else Action.DROP


def _optional(row: TableRow, options: tuple[Option, ...]) -> Rule | None:
    """Return the rule of the first option that says something about this attribute and can be done."""
    for option in options:
        code = row.options.get(option.value)
        found = _by_option(row, option) if code else None
        if found and (code == "K" or option in _CLEANING):
            action, check = found
            source = f"table E.1-1: {code} of {option.value}"
            return Rule(row.tag, row.name, row.vrs, action, source, check, None, _basic_action(row))
    return None


def _by_option(row: TableRow, option: Option) -> tuple[Action, str] | None:
    vr = row.vrs[0]
    if vr == b"SQ":
        return Action.ITEMS, ""
    if option in (Option.FULL_DATES, Option.MODIFIED_DATES):
        return _dated(vr, moved=option is Option.MODIFIED_DATES)
    if option is Option.PATIENT:
        return _characteristic(row.tag, vr)
    if vr == b"UI":
        return Action.UID, "kept"
    check = "descriptor" if option is Option.DESCRIPTORS else "name"
    return (Action.CLEAN, check) if vr in _TEXTS.get(option, ()) else None


def _dated(vr: bytes, *, moved: bool) -> tuple[Action, str] | None:
    if vr in (b"DA", b"DT"):
        return (Action.SHIFT if moved else Action.CLEAN), "temporal"
    return (Action.CLEAN, "temporal") if vr in (b"TM", b"SH") else None


def _characteristic(tag: int, vr: bytes) -> tuple[Action, str] | None:
    checks = {b"AS": "age", b"DS": "number", b"IS": "number", b"US": "binary", b"CS": "words:code"}
    check = "words:sex" if tag in _SEX else checks.get(vr)
    return (Action.CLEAN, check) if check else None

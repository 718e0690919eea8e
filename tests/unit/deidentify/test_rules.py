"""The tables and what profiles make of them."""

import pytest

from srm_dicom.errors import NotSupported
from srm_plugin_dicom.deidentify import PROFILES, SiteProfile, current_version, tables
from srm_plugin_dicom.deidentify.options import BY_OPTION, COMPLIANCE, Option, markdown
from srm_plugin_dicom.deidentify.profile import VERSION, Action, profile

# A change of any table is a change of the profiles: give VERSION a new value and pin the new digest.
PINNED = {"v1": "c67a3b87f03e1ba79d648a5a75522ca2bb494bc985b5e6bc24378aa4e835b6cd"}


def test_version_is_pinned_to_the_tables():
    assert tables.digest() == PINNED[VERSION]


def test_the_whole_table_is_there():
    assert len(tables.table()) + len(tables.patterns()) == 656
    assert {tag for tag, _ in tables.patterns()} == {"50xxxxxx", "60xx3000", "60xx4000", "private"}


def test_the_keep_list_does_not_overrule_the_table():
    listed = {row.tag for row in tables.table()}
    kept = [row.tag for row in tables.keep()]
    assert not listed & set(kept)
    assert kept == sorted(set(kept))
    assert all(row.reason for row in tables.keep())


def test_nothing_private_nor_of_a_repeating_group_is_kept():
    groups = {row.tag >> 16 for row in tables.keep()}
    assert not any(group & 1 or group >> 8 in (0x50, 0x60) for group in groups)


@pytest.mark.parametrize(
    ("tag", "action"),
    [
        (0x00080050, Action.EMPTY),  # Accession Number, Z
        (0x00080080, Action.DUMMY),  # Institution Name, X/Z/D
        (0x00080023, Action.DUMMY),  # Content Date, Z/D
        (0x00080022, Action.EMPTY),  # Acquisition Date, X/Z
        (0x00080018, Action.UID),  # SOP Instance UID, U
        (0x00081140, Action.ITEMS),  # Referenced Image Sequence, X/Z/U*
        (0x00100010, Action.EMPTY),
        (0x00100020, Action.PSEUDONYM),
        (0x00104000, Action.DROP),  # Patient Comments, X
        (0x00280010, Action.CLEAN),  # Rows
    ],
)
def test_basic_actions(tag, action):
    assert profile("basic").rules[tag].action is action


def test_every_row_of_the_table_has_a_rule():
    rules = profile("basic").rules
    assert all(row.tag in rules for row in tables.table() if row.tag >> 16 >= 8)


def test_dates_are_shifted_where_the_option_says_so():
    rules = profile("basic-dates").rules
    assert rules[0x00080020].action is Action.SHIFT
    assert rules[0x00080030].action is Action.CLEAN
    assert rules[0x00100030].action is Action.EMPTY


def test_unknown_profiles_and_versions_are_refused():
    with pytest.raises(NotSupported):
        profile("nothing")
    with pytest.raises(NotSupported):
        profile("basic", "v0")
    assert all(current_version(name) == VERSION for name in PROFILES)


def test_profiles_name_only_options_that_are_done():
    assert all(BY_OPTION[option].done for options in PROFILES.values() for option in options)
    assert {row.option for row in COMPLIANCE} == set(Option)
    assert all(row.since for row in COMPLIANCE if row.done)
    assert markdown().count("\n") == len(COMPLIANCE) + 2


def test_profile_fits_the_implementation_version_name():
    assert all(len(str(profile(name))) <= 16 for name in PROFILES)


@pytest.mark.parametrize("option", [Option.FEATURES, Option.PIXELS, Option.BASIC])
def test_options_that_no_profile_can_choose(option):
    site = SiteProfile("own", 1, (option,))
    with pytest.raises(NotSupported, match=option.value):
        profile("own", site.version, (site,))

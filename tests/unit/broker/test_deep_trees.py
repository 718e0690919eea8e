"""Directories may be below each other as deep as a path is long: nothing breaks of it."""

from __future__ import annotations

from typing import Any

import pytest

from srm_dicom.errors import TooLarge
from srm_dicom.ids import SitePath, parse_path
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.encode import envelope
from srm_dicom.srm.operations import OPERATIONS
from srm_dicom.srm.service import answer
from srm_dicom.srm.types import T

TOP = "srm://se.example.org/vo/data/deep"


@pytest.fixture
def deepest(site: Any) -> SitePath:
    """Make a tree of 500 levels; returns its end."""
    path = parse_path("/vo/data/deep")
    with site.stores.database.transaction():
        site.broker.names.make_directory(site.who(), path, "srmMkdir")
        while len(path) < 1000:
            path = parse_path(f"{path}/x")
            site.broker.names.make_directory(site.who(), path, "srmMkdir")
    return path


def call(site: Any, operation: str, **fields: Any) -> Any:
    chosen = OPERATIONS[operation]
    return answer(chosen, T[chosen.request](**fields), Caller(site.who(), site.broker))


@pytest.mark.parametrize(
    "levels", [{"allLevelRecursive": True}, {"numOfLevels": 101}, {"numOfLevels": 2**31 - 1}]
)
def test_a_listing_of_more_levels_than_clients_read_is_refused(
    site: Any, deepest: SitePath, levels: dict[str, Any]
) -> None:
    with pytest.raises(TooLarge, match="levels"):
        call(site, "srmLs", arrayOfSURLs=T.ArrayOfAnyURI(urlArray=[TOP]), **levels)


def test_a_deep_tree_is_listed_in_parts(site: Any, deepest: SitePath) -> None:
    response = call(site, "srmLs", arrayOfSURLs=T.ArrayOfAnyURI(urlArray=[TOP]), numOfLevels=100)
    assert envelope("srmLs", response).count(b"<type>DIRECTORY</type>") == 101
    below = f"srm://se.example.org{deepest[:-180]}"
    response = call(site, "srmLs", arrayOfSURLs=T.ArrayOfAnyURI(urlArray=[below]), allLevelRecursive=True)
    assert envelope("srmLs", response).count(b"<type>DIRECTORY</type>") == 91


def test_a_deep_tree_is_moved_and_removed(site: Any, deepest: SitePath) -> None:
    call(site, "srmMv", fromSURL=TOP, toSURL="srm://se.example.org/vo/data/moved")
    assert site.stores.namespace.find(parse_path(deepest.replace("deep", "moved", 1))) is not None
    call(site, "srmRmdir", SURL="srm://se.example.org/vo/data/moved", recursive=True)
    assert site.stores.namespace.find(parse_path("/vo/data/moved")) is None
    assert site.stores.namespace.find(parse_path(deepest.replace("deep", "moved", 1))) is None

"""Who guesses names is made to wait; who asks for what a listing would have told is not."""

from __future__ import annotations

from typing import Any

import pytest

from srm_dicom.broker.views import PutWish, RequestKind, Wish
from srm_dicom.errors import NotFound, Overloaded
from srm_dicom.ids import parse_path
from srm_dicom.rights.enumeration import Guesses, Patience


@pytest.fixture(autouse=True)
def impatient(site: Any) -> None:
    site.access._guesses = Guesses(Patience(misses=3), site.clock)


def surls(site: Any, count: int, below: str = "") -> tuple[str, ...]:
    return tuple(site.surl(f"{below}{number}") for number in range(count))


def test_names_that_are_not_in_a_directory_that_one_may_list_are_no_guesses(site: Any) -> None:
    """A robot that writes looks at each name first; one that removes comes to some that are gone."""
    site.store("there")
    names = site.broker.names
    for _ in range(3):
        for listing in site.broker.entries(site.who("Reader"), surls(site, 10), "srmLs"):
            assert isinstance(listing.failure, NotFound)
        paths = [parse_path(f"/vo/data/{number}") for number in range(10)]
        assert all(isinstance(one, NotFound) for one in names.remove_files(site.who(), paths, "srmRm"))
        site.broker.submit(site.who(), Wish(RequestKind.GET, surls(site, 10)))
    assert site.read("there") == b"content"


def test_whoever_may_not_list_a_directory_guesses(site: Any) -> None:
    site.broker.entries(site.who("Nobody"), surls(site, 3), "srmLs")
    with pytest.raises(Overloaded):
        site.broker.entries(site.who("Nobody"), surls(site, 1), "srmLs")


def test_names_below_what_is_not_there_are_guesses(site: Any) -> None:
    wish = PutWish(RequestKind.PUT, surls(site, 3, "none/"))
    site.broker.puts.submit(site.who(), wish)
    assert not site.access._guesses._misses, "the directory could have been seen"
    site.broker.entries(site.who(), surls(site, 3, "none/"), "srmLs")
    with pytest.raises(Overloaded):
        site.broker.entries(site.who(), surls(site, 1), "srmLs")

"""Uploads whose bytes come in any order and break off: what never came is not taken for zeros."""

from __future__ import annotations

from typing import Any

import pytest

from srm_dicom.errors import InvalidRequest
from srm_dicom.ids import SitePath, parse_path

CONTENT = bytes(range(1, 101))


@pytest.fixture
def view(site: Any) -> Any:
    return site.put("a.dat")


@pytest.fixture
def turl(view: Any) -> SitePath:
    return parse_path(view.files[0].turl.removeprefix("gsiftp://node:2811"))


def size_of(site: Any, turl: SitePath) -> int | None:
    size: int | None = site.served.stat(site.who(), turl).size_bytes
    return size


def break_off(site: Any, turl: SitePath, *, dies: bool = False) -> None:
    """Write the first ten and the last fifty bytes."""
    with site.written.create(site.who(), turl, scattered=0) as file:
        for start, end in ((50, 100), (0, 10)):
            file.write(start, memoryview(CONTENT[start:end]))
        if not dies:
            file.scattered(10)


@pytest.mark.parametrize(("dies", "known"), [(False, 10), (True, 0)], ids=["breaks off", "the process dies"])
def test_only_what_comes_in_order_counts_as_here(site: Any, turl: SitePath, dies: bool, known: int) -> None:
    break_off(site, turl, dies=dies)
    assert size_of(site, turl) == known
    for keep_bytes in (100, known + 1):
        with pytest.raises(InvalidRequest, match="fewer bytes are here"):
            site.written.create(site.who(), turl, keep_bytes=keep_bytes)
    with site.written.create(site.who(), turl, keep_bytes=None) as file:
        assert file.has_holes


def test_who_goes_on_from_there_sends_the_rest(site: Any, view: Any, turl: SitePath) -> None:
    break_off(site, turl)
    with site.written.create(site.who(), turl, keep_bytes=10) as file:
        assert not file.has_holes
        file.write(10, memoryview(CONTENT[10:]))
        file.finish()
    assert [one.failure for one in site.done(view)] == [None]
    assert site.read("a.dat") == CONTENT


def test_who_knows_what_has_come_sends_what_is_missing(site: Any, view: Any, turl: SitePath) -> None:
    break_off(site, turl, dies=True)
    with site.written.create(site.who(), turl, keep_bytes=None, scattered=10) as file:
        file.write(10, memoryview(CONTENT[10:50]))
        file.finish()
    assert size_of(site, turl) == 100
    assert [one.failure for one in site.done(view)] == [None]
    assert site.read("a.dat") == CONTENT


def test_after_bytes_in_order_all_of_them_are_here(site: Any, turl: SitePath) -> None:
    break_off(site, turl)
    with site.written.create(site.who(), turl) as file:
        file.write(0, memoryview(CONTENT[:70]))
    assert size_of(site, turl) == 70

"""Copies between this site and others, as far as the rows and their carrier agree."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import peewee
import pytest

from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.copies import Errand, Way
from srm_dicom.broker.views import FileState, PutWish, RequestKind
from srm_dicom.errors import TooLarge
from srm_dicom.store.uploads import Uploads

AWAY = "https://elsewhere.example.org/file"


@dataclass
class Porter:
    """A carrier that has a credential of everybody's, and keeps what it is given."""

    name: str = "porter"
    errands: list[Errand] = field(default_factory=list)

    def check(self, principal: Any, url: str) -> None:
        del principal, url

    def delegated(self, principal: Any) -> Any:
        return f"a proxy of {principal.dn}"

    def carry(self, errand: Errand) -> None:
        self.errands.append(errand)


@pytest.fixture
def porter(site: Any) -> Porter:
    made = Porter()
    site.broker.copies.employ(made)
    return made


def fetch(site: Any, name: str) -> Any:
    wish = PutWish(RequestKind.COPY, (site.surl(name),), sources=(AWAY,))
    return site.broker.copies.submit(site.who(), wish)


def test_what_no_carrier_was_given_holds_no_name(
    site: Any, porter: Porter, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_request = Uploads.of_request

    def fails_once(self: Uploads, token: Any) -> Any:
        monkeypatch.setattr(Uploads, "of_request", of_request)
        raise peewee.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(Uploads, "of_request", fails_once)
    with pytest.raises(peewee.OperationalError):
        fetch(site, "a.dat")
    assert (porter.errands, site.stores.errands.of(porter.name)) == ([], [])
    again = fetch(site, "a.dat")
    assert again.states == (FileState.IN_PROGRESS,)
    (errand,) = porter.errands
    assert (errand.way, errand.url, errand.token) == (Way.FETCH, AWAY, again.token)
    assert site.stores.errands.of(porter.name) == [(again.token, 0)]


def test_a_copy_has_no_more_files_than_a_get_whatever_its_names_are_made_of(
    site: Any, porter: Porter, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store("a.dat")
    found = site.access.file

    def made_of_many(*arguments: Any) -> Any:
        entry, rule = found(*arguments)
        return replace(entry, members=(entry,) * (site.settings.max_files // 2 + 1)), rule

    monkeypatch.setattr(FileAccess, "file", lambda _, *arguments: made_of_many(*arguments))
    wish = PutWish(RequestKind.COPY, (f"{AWAY}/1", f"{AWAY}/2"), sources=(site.surl("a.dat"),) * 2)
    with pytest.raises(TooLarge):
        site.broker.copies.submit(site.who(), wish)
    assert porter.errands == []
    assert FileState.PINNED not in site.stores.requests.counts()

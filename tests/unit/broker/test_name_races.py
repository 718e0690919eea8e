"""Names that change after the look at rights, before the transaction: none is left without its directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from srm_dicom.errors import AlreadyExists, InvalidRequest, MdmError, NotADirectory, NotFound
from srm_dicom.ids import SitePath, parse_path


def path(name: str) -> SitePath:
    return parse_path(f"/vo/data/{name}")


def meanwhile(site: Any, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen once, when the rights of the next change have been looked at."""
    database, begun = site.stores.database, []
    transaction = database.transaction

    def first(**options: Any) -> Any:
        if not begun:
            begun.append(True)
            act()
        return transaction(**options)

    monkeypatch.setattr(database, "transaction", first)


def make(site: Any, *names: str) -> None:
    for name in names:
        site.broker.names.make_directory(site.who(), path(name), "srmMkdir")


def orphans(site: Any) -> list[str]:
    """Return the names whose directory is not there, or is a file."""
    rows = site.stores.namespace.called("/vo")
    found = []
    for entry in rows:
        above = site.stores.namespace.find(parse_path(entry.path.rpartition("/")[0] or "/"))
        if above is None or not above.is_directory:
            found.append(entry.path)
    return found


@pytest.mark.parametrize("source", ["a.dat", "tree"])
def test_nothing_moves_into_a_directory_that_is_removed_meanwhile(
    site: Any, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    site.store("a.dat")
    make(site, "tree", "d")
    names = site.broker.names
    meanwhile(site, monkeypatch, lambda: names.remove_directory(site.who(), path("d"), "srmRmdir"))
    with pytest.raises(NotFound):
        names.rename(site.who(), path(source), path("d/x"), "srmMv")
    assert orphans(site) == []
    assert site.stores.namespace.find(path(source)) is not None


def put_a_file_in_its_place(site: Any) -> None:
    """Let the directory ``d`` be gone, and the file ``b.dat`` be called so."""
    site.broker.names.remove_directory(site.who(), path("d"), "srmRmdir")
    site.broker.names.rename(site.who(), path("b.dat"), path("d"), "srmMv")


def test_nothing_moves_below_a_file(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.store("a.dat")
    site.store("b.dat")
    make(site, "d")
    names = site.broker.names
    meanwhile(site, monkeypatch, lambda: put_a_file_in_its_place(site))
    with pytest.raises(NotADirectory):
        names.rename(site.who(), path("a.dat"), path("d/x"), "srmMv")
    assert orphans(site) == []


def test_two_directories_do_not_move_into_each_other(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make(site, "a", "b")
    names = site.broker.names
    meanwhile(site, monkeypatch, lambda: names.rename(site.who(), path("b"), path("a/b"), "srmMv"))
    with pytest.raises(MdmError) as caught:
        names.rename(site.who(), path("a"), path("b/a"), "srmMv")
    assert isinstance(caught.value, NotFound | InvalidRequest | AlreadyExists)
    assert site.stores.namespace.find(path("a/b")) is not None
    assert orphans(site) == []


def test_a_file_that_took_the_place_of_a_directory_is_not_removed_with_it(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store("b.dat")
    make(site, "d")
    names = site.broker.names
    meanwhile(site, monkeypatch, lambda: put_a_file_in_its_place(site))
    with pytest.raises(MdmError):
        names.remove_directory(site.who(), path("d"), "srmRmdir")
    site.work()
    assert site.read("d") == b"content"

"""srmSetPermission over real rows: whatever an owner sets, the name stays usable."""

from __future__ import annotations

from typing import Any

import pytest

from srm_dicom.broker.views import FileState
from srm_dicom.errors import InvalidRequest, NotAuthorised, NotFound
from srm_dicom.ids import parse_path
from srm_dicom.rights.acl import MAX_ENTRIES, Acl, Entry, Tag
from srm_dicom.srm import permissions
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.ops import set_permission
from srm_dicom.srm.types import T, array


def permit(site: Any, name: str, how: str, *users: str, mode: str = "R") -> None:
    """Call srmSetPermission for users of a name of Alice's."""
    each = [T.TUserPermission(userID=user, mode=mode) for user in users]
    users_of = array("ArrayOfTUserPermission", each)
    request = T.srmSetPermissionRequest(
        SURL=site.surl(name), permissionType=how, arrayOfUserPermissions=users_of
    )
    set_permission.run(request, Caller(site.who(), site.broker))


def acl_of(site: Any, name: str) -> Acl:
    acl: Acl = site.stores.namespace.find(parse_path(f"/vo/data/{name}")).acl
    return acl


def some(start: int, count: int) -> list[str]:
    return [f"/CN=User {number}" for number in range(start, start + count)]


def test_an_acl_that_gets_too_long_is_refused_and_leaves_its_name_usable(site: Any) -> None:
    site.store("a.dat")
    permit(site, "a.dat", "ADD", *some(0, 600))
    with pytest.raises(InvalidRequest):
        permit(site, "a.dat", "ADD", *some(600, 600))
    assert str(acl_of(site, "a.dat")).count("User") == 600
    permit(site, "a.dat", "REMOVE", *some(0, 600))
    assert str(acl_of(site, "a.dat")).count("User") == 0
    assert site.put("b.dat").states == (FileState.SPACE_AVAILABLE,)
    assert site.broker.names.remove_files(site.who(), [parse_path("/vo/data/a.dat")], "srmRm") == [None]


def test_a_call_has_no_more_entries_than_an_acl(site: Any) -> None:
    site.store("a.dat")
    with pytest.raises(InvalidRequest):
        permit(site, "a.dat", "REMOVE", *some(0, MAX_ENTRIES + 1))


@pytest.mark.parametrize("user", ["/CN=a\nother::rwx", "/CN=\x00", "/CN=\x85", "/CN=" + "a" * 2000])
def test_a_name_that_nobody_has_is_refused(site: Any, user: str) -> None:
    site.store("a.dat")
    before = acl_of(site, "a.dat")
    with pytest.raises(InvalidRequest):
        permit(site, "a.dat", "ADD", user)
    assert acl_of(site, "a.dat") == before


def test_what_was_stored_before_there_was_a_bound_is_read_and_can_be_mended(site: Any) -> None:
    site.store("a.dat")
    path = parse_path("/vo/data/a.dat")
    long = [Entry(Tag.USER, user, frozenset("r")) for user in ("/CN=a\nb", *some(0, 1200))]
    site.stores.namespace.set_acl(path, Acl((*acl_of(site, "a.dat").entries, *long)))
    permit(site, "a.dat", "REMOVE", *some(0, 600))
    permit(site, "a.dat", "REMOVE", "/CN=a\nb", *some(600, 600))
    assert site.read("a.dat") == b"content"


def test_permissions_of_one_call_follow_each_other(site: Any) -> None:
    site.store("a.dat")
    permit(site, "a.dat", "ADD", "/CN=Carol", mode="R")
    permit(site, "a.dat", "ADD", "/CN=Carol", "/CN=Carol", mode="W")
    (carol,) = [entry for entry in acl_of(site, "a.dat").entries if entry.qualifier == "/CN=Carol"]
    assert carol.permissions == {"r", "w"}
    permit(site, "a.dat", "CHANGE", "/CN=Carol", mode="X")
    permit(site, "a.dat", "REMOVE", "/CN=Carol", mode="X")
    assert "Carol" not in str(acl_of(site, "a.dat"))


def test_two_changes_at_once_are_both_kept(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.store("a.dat")
    administer = type(site.access).administer

    def overtaken(*arguments: Any) -> None:
        administer(*arguments)
        monkeypatch.undo()
        permit(site, "a.dat", "ADD", "/CN=Other")

    monkeypatch.setattr(type(site.access), "administer", overtaken)
    permit(site, "a.dat", "ADD", "/CN=Carol")
    assert {"/CN=Carol", "/CN=Other"} <= {entry.qualifier for entry in acl_of(site, "a.dat").entries}


@pytest.mark.parametrize("name", ["a.dat", "d"])
def test_an_owner_who_took_everything_away_gives_it_back(site: Any, name: str) -> None:
    site.store("a.dat")
    site.broker.names.make_directory(site.who(), parse_path("/vo/data/d"), "srmMkdir")
    for mode in ("NONE", "RWX"):
        request = T.srmSetPermissionRequest(
            SURL=site.surl(name), permissionType="CHANGE", ownerPermission=mode
        )
        set_permission.run(request, Caller(site.who(), site.broker))
        held = {(one.tag, one.qualifier): one.permissions for one in acl_of(site, name).access()}
        assert held.get((Tag.USER, ""), frozenset()) == permissions.letters(mode)


def test_nobody_else_learns_of_a_name_by_setting_its_permissions(site: Any) -> None:
    site.store("a.dat")
    for name in ("a.dat", "none"):
        request = T.srmSetPermissionRequest(
            SURL=site.surl(name), permissionType="CHANGE", ownerPermission="R"
        )
        with pytest.raises(NotFound):
            set_permission.run(request, Caller(site.who("Nobody"), site.broker))


# --- what a name's own ACL refuses is told to the audit, as what its directory's does


def refusals(site: Any) -> list[tuple[str, str, list[str]]]:
    events = [event for event in site.audited() if event["outcome"] == "denied"]
    return [(event["operation"], event["rule"], event["objects"]) for event in events]


def test_a_put_over_a_file_of_somebody_else_is_audited(site: Any) -> None:
    site.store("a.dat")
    permit(site, "a.dat", "CHANGE", "/CN=Bob")
    (refused,) = site.put("a.dat", by="Bob", overwrite=True).files
    assert isinstance(refused.failure, NotAuthorised)
    words = "you may not replace this file"
    assert refusals(site) == [("srmPrepareToPut", words, ["/vo/data/a.dat"])]


def test_a_rename_over_a_file_of_somebody_else_is_audited(site: Any) -> None:
    site.store("a.dat")
    permit(site, "a.dat", "CHANGE", "/CN=Bob")
    view = site.put("b.dat", by="Bob")
    site.upload(view, b"content", by="Bob")
    site.done(view, by="Bob")
    with pytest.raises(NotAuthorised):
        site.broker.names.rename(
            site.who("Bob"),
            parse_path("/vo/data/b.dat"),
            parse_path("/vo/data/a.dat"),
            "MOVE",
            overwrite=True,
        )
    assert refusals(site) == [("MOVE", "you may not replace this file", ["/vo/data/a.dat"])]

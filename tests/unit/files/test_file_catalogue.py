"""A file catalogue over real TLS: names, replicas, renames, pages; and bulk calls that may be repeated."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from mdm_files.access import Access
from srm_dicom.client.files import FileRecord
from srm_dicom.errors import (
    AlreadyExists,
    InvalidRequest,
    IsADirectory,
    MdmError,
    NotADirectory,
    NotEmpty,
    NotFound,
    TooLarge,
)
from srm_dicom.ids import SitePath
from srm_dicom.rights.acl import Acl

TOP = "/grid/vo/mdm/here"
SERIES = f"{TOP}/heart-v1/p1/s1"


def test_a_file_by_lfn_guid_and_surl(site: Any) -> None:
    client, record = site.client("registrar"), site.record(1)
    for reference in (record.lfn, f"lfn:{record.lfn}", f"guid:{record.guid}", record.guid, record.surls[0]):
        assert client.lookup(reference) == record


def test_many_references_of_all_kinds_in_one_call(site: Any) -> None:
    first, second = site.record(1), site.record(2)
    references = [
        second.surls[0],
        first.lfn,
        "srm://nowhere/x",
        f"guid:{second.guid}",
        "/absent",
        first.guid,
        "x",
    ]
    items = list(site.client("registrar").lookup_each([*references, first.lfn]))
    assert [item.record for item in items] == [second, first, None, second, None, first, None, first]
    assert [item.error for item in items if item.record is None] == ["NotFound", "NotFound", "InvalidRequest"]


def test_who_may_see_sees_all_but_the_acl(site: Any) -> None:
    proxy = site.pki.proxy(site.users["researcher"], limited=True)
    assert site.client(proxy).lookup(site.record(1).lfn) == msgspec.structs.replace(site.record(1), acl="")


def test_a_tree_and_its_listings(site: Any) -> None:
    registrar, researcher = site.client("registrar"), site.client("researcher")
    assert [one.lfn for one in registrar.list(TOP)] == [f"{TOP}/heart-v1", f"{TOP}/lung-v1"]
    assert len(registrar.tree("/")) == 7
    assert [one.lfn for one in researcher.list(f"lfn:{TOP}")] == [f"{TOP}/heart-v1"]
    assert [one.kind for one in researcher.list(SERIES)] == ["file"] * 4
    assert [one.guid for one in researcher.tree("/grid")] == [site.record(n).guid for n in range(4)]
    assert researcher.list(site.record(2).lfn) == researcher.tree(f"guid:{site.record(2).guid}")


def test_many_files_come_in_pages(site: Any) -> None:
    client = site.client("registrar")
    records = [
        msgspec.structs.replace(
            site.record(number), lfn=SitePath(f"/many/{number:05d}"), surls=(f"srm://here/{number}",)
        )
        for number in range(100, 2400)
    ]
    assert {one.status for one in client.register(records)} == {"done"}
    assert [one.lfn for one in client.list("/many")] == [one.lfn for one in records]
    assert client.tree("/many") == records
    found = site.client("researcher").lookup_many([f"guid:{one.guid}" for one in records])
    assert [one.lfn for one in found] == [one.lfn for one in records]
    assert {one.status for one in client.unregister([one.lfn for one in records])} == {"done"}
    client.remove(["/many"])


def test_registering_again_only_adds_replicas(site: Any) -> None:
    client, record = site.client("registrar"), site.record(1)
    assert [one.status for one in client.register([record, record])] == ["unchanged"] * 2
    more = msgspec.structs.replace(record, surls=("srm://elsewhere/x",), acl="other::rw")
    assert client.register([more])[0].status == "done"
    again = client.lookup(record.lfn)
    assert set(again.surls) == {*record.surls, "srm://elsewhere/x"}
    assert again.acl == record.acl


def test_one_refused_item_does_not_hinder_the_others(site: Any) -> None:
    client = site.client("registrar")
    other_guid = msgspec.structs.replace(site.record(1), guid=site.record(99).guid)
    other_key = msgspec.structs.replace(site.record(1), key_id="another")
    their_surl = msgspec.structs.replace(site.record(98), surls=site.record(1).surls)
    below_a_file = msgspec.structs.replace(site.record(97), lfn=SitePath(f"{site.record(1).lfn}/x"))
    for bad in (other_guid, other_key, their_surl, below_a_file):
        with pytest.raises((AlreadyExists, NotADirectory)):
            client.register([bad, site.record(5)])
        assert client.lookup(site.record(5).lfn)
        client.unregister([site.record(5).lfn])


def test_unregister_takes_the_replicas_along(site: Any) -> None:
    client, record = site.client("registrar"), site.record(1)
    assert [one.status for one in client.unregister([record.lfn, record.lfn])] == ["done", "unchanged"]
    with pytest.raises(NotFound):
        client.lookup(record.surls[0])
    client.register([record])
    assert client.lookup(record.surls[0]) == record


def test_renaming_a_directory_moves_what_is_below(site: Any) -> None:
    client = site.client("registrar")
    client.rename(f"{TOP}/heart-v1", f"{TOP}/heart-v2")
    assert client.lookup(f"guid:{site.record(1).guid}").lfn == f"{TOP}/heart-v2/p1/s1/1.dcm.c4gh"
    assert len(client.tree(f"{TOP}/heart-v2")) == 4
    assert len(site.client("researcher").tree(f"{TOP}/heart-v2/p1")) == 4
    for source, target in ((f"{TOP}/heart-v2", f"{TOP}/lung-v1"), (f"{TOP}/lung-v1", f"{TOP}/lung-v1/x")):
        with pytest.raises((AlreadyExists, InvalidRequest)):
            client.rename(source, target)
    with pytest.raises(NotFound):
        client.rename(f"{TOP}/heart-v2", "/nowhere/x")


def test_a_file_that_was_renamed_is_registered_again_under_its_new_name(site: Any) -> None:
    """Its archive forwards it once more; the series that it is of must not wait for ever."""
    client = site.client("registrar")
    client.rename(f"{TOP}/heart-v1/p1", f"{TOP}/heart-v1/renamed")
    client.register([site.record(number) for number in (1, 9)])
    record = client.lookup(f"guid:{site.record(1).guid}")
    assert (record.lfn, record.surls) == (f"{TOP}/heart-v1/renamed/s1/1.dcm.c4gh", site.record(1).surls)
    assert client.lookup(f"guid:{site.record(9).guid}").lfn == site.record(9).lfn
    with pytest.raises(AlreadyExists):
        client.register([replace(site.record(1), key_id="another")])
    with pytest.raises(NotFound):
        client.lookup(f"{TOP}/heart-v1/p1/s1/1.dcm.c4gh")


def meanwhile(monkeypatch: pytest.MonkeyPatch, decided: str, do: Callable[[], object]) -> threading.Thread:
    """Have something done after a call has looked at what it changes; it may have to wait for the call."""
    other, look = threading.Thread(target=do), getattr(Access, decided)

    def slowly(access: Access, *args: Any) -> Any:
        found = look(access, *args)
        monkeypatch.setattr(Access, decided, look)
        other.start()
        other.join(1)
        return found

    monkeypatch.setattr(Access, decided, slowly)
    return other


def test_no_name_is_left_without_its_directory(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.client("registrar")
    client.make_directory("/d")

    def remove() -> None:
        with suppress(NotEmpty):
            site.client("owner").remove(["/d"])

    client.set_acl(["/", "/d"], Acl.parse(f'user:"{site.dns["owner"]}":rwx'))
    other = meanwhile(monkeypatch, "directory_of", remove)
    client.make_directory("/d/e")
    other.join()
    assert [record.lfn for record in client.list("/d")] == ["/d/e"]


def test_no_location_is_left_without_its_file(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be in the way of the file when that is registered anew."""
    client, more = site.client("registrar"), "srm://here:8446/another/place"
    client.set_acl(
        [f"{TOP}/heart-v1/p1/s1", site.record(1).lfn], Acl.parse(f'user:"{site.dns["owner"]}":rwx')
    )
    other = meanwhile(
        monkeypatch, "writable", lambda: site.client("owner").unregister([f"guid:{site.record(1).guid}"])
    )
    client.add_replica(site.record(1).lfn, more)
    other.join()
    client.register([replace(site.record(1), surls=(*site.record(1).surls, more))])
    assert len(client.lookup(site.record(1).lfn).surls) == 2


def test_directories(site: Any) -> None:
    client = site.client("registrar")
    client.make_directory("/d", Acl.parse("other::x,default:other::r"))
    client.make_directory("/d/e")
    assert str(client.acl("/d/e")) == "other::r\ndefault:other::r"
    client.register([FileRecord(SitePath("/d/e/f"), site.record(50).guid)])
    assert str(client.acl("/d/e/f")) == "other::r"
    with pytest.raises(NotFound):
        client.make_directory("/no/parent")
    client.make_directory("/no/parent", parents=True)
    with pytest.raises(NotADirectory):
        client.make_directory("/d/e/f")
    with pytest.raises(NotEmpty):
        client.remove(["/d/e"])
    with pytest.raises(IsADirectory):
        client.unregister(["/d/e"])
    client.remove(["/d/e/f", "/d/e", "/d"])


def test_comments_and_replicas(site: Any) -> None:
    client, record = site.client("registrar"), site.record(1)
    client.set_comment(record.lfn, "nice")
    assert site.client("researcher").lookup(record.lfn).comment == "nice"
    client.delete_comment(record.lfn)
    client.add_replica(record.lfn, "srm://there/1")
    client.add_replica(record.lfn, "srm://there/1")
    assert client.lookup("srm://there/1").guid == record.guid
    client.remove_replica(record.lfn, "srm://there/1")
    assert client.lookup(record.lfn) == record
    with pytest.raises(AlreadyExists):
        client.add_replica(record.lfn, site.record(2).surls[0])
    with pytest.raises(NotFound):
        client.remove_replica(record.lfn, site.record(2).surls[0])
    for bad in ("two\nlines", "x" * 256):
        with pytest.raises(InvalidRequest):
            client.set_comment(record.lfn, bad)


@pytest.mark.parametrize(
    ("call", "body", "error"),
    [
        ("lookup", b"{", InvalidRequest),
        ("lookup", b"[]", InvalidRequest),
        ("lookup", b'{"references": [1]}', InvalidRequest),
        ("lookup", b'{"references": [], "more": 1}', InvalidRequest),
        ("lookup", b'{"references": [' + b",".join([b'"/x"'] * 1001) + b"]}", TooLarge),
        ("list", b'{"reference": "/", "count": 0}', InvalidRequest),
        ("list", b'{"reference": "/", "count": 1001}', InvalidRequest),
        ("list", b'{"reference": "/../x"}', InvalidRequest),
        ("list", b'{"reference": "/a b"}', InvalidRequest),
        ("mkdir", b'{"path": "/x", "acl": "other::n"}', InvalidRequest),
        ("mkdir", b'{"path": "/x", "acl": "everybody"}', InvalidRequest),
        ("register", b'{"records": [{"lfn": "/a/../b", "guid": ""}]}', InvalidRequest),
        ("register", b'{"records": [{"lfn": "/a", "guid": "1"}]}', InvalidRequest),
        ("register", b'{"records": [{"lfn": "/a", "guid": "", "surls": ["x y"]}]}', InvalidRequest),
        ("nothing", b"{}", NotFound),
        ("lookup", b" " * 2_000_000, TooLarge),
    ],
)
def test_what_is_no_call_is_refused(site: Any, call: str, body: bytes, error: type[MdmError]) -> None:
    http = site.client("registrar")._http
    with pytest.raises(error) as refused:
        http.request("POST", f"/v1/{call}", body).raise_for_problem()
    assert "everybody" not in refused.value.message
    with pytest.raises(InvalidRequest):
        http.request("GET", "/v1/lookup").raise_for_problem()


def test_a_bad_reference_is_one_item(site: Any) -> None:
    answers = list(
        site.client("registrar").lookup_each(["lfn:relative", "x", "srm://a b", site.record(1).lfn])
    )
    assert [one.error for one in answers] == ["InvalidRequest"] * 3 + [""]

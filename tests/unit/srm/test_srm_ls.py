"""srmLs as gfal2, ARC and S2 need it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from srm_dicom.srm.contract import contract


def ls(surls: str | list[str], extra: str = "") -> str:
    asked = [surls] if isinstance(surls, str) else surls
    return "<arrayOfSURLs>" + "".join(f"<urlArray>{s}</urlArray>" for s in asked) + "</arrayOfSURLs>" + extra


FULL = "<fullDetailedList>true</fullDetailedList>"
TOP = "details/pathDetailArray"


def test_file_with_facts(site) -> None:
    answer = site.call("srmLs", ls("srm://localhost/d/known", FULL + "<numOfLevels>0</numOfLevels>"))
    assert answer.code == "SRM_SUCCESS"
    told = {child.tag: child.text for child in answer.part.find(TOP) if child.text}
    assert told == {
        "path": "/d/known",
        "size": "524300",
        "createdAtTime": "2026-11-01T00:00:00Z",
        "lastModificationTime": "2026-11-01T00:00:00Z",
        "fileStorageType": "PERMANENT",
        "fileLocality": "ONLINE_AND_NEARLINE",
        "type": "FILE",
        "lifetimeAssigned": "-1",
        "lifetimeLeft": "-1",
        "otherPermission": "NONE",
        "checkSumType": "ADLER32",
        "checkSumValue": "0d370270",
    }
    assert answer.text(f"{TOP}/retentionPolicyInfo/retentionPolicy") == "REPLICA"
    assert answer.text(f"{TOP}/retentionPolicyInfo/accessLatency") == "NEARLINE"


def test_indexed_file_has_no_size_and_no_checksum(site) -> None:
    answer = site.call("srmLs", ls("srm://localhost/d/indexed", FULL))
    detail = answer.part.find(TOP)
    assert {e.tag for e in detail} & {"size", "checkSumType", "checkSumValue"} == set()
    assert detail.findtext("fileLocality") == "NEARLINE"


def test_permissions_name_the_caller_s_own_group_and_nobody_else(site) -> None:
    answer = site.call("srmLs", ls("srm://localhost/d", FULL))
    assert answer.text(f"{TOP}/ownerPermission/userID") == "service"
    assert answer.text(f"{TOP}/groupPermission/groupID") == "/biomed"
    assert answer.text(f"{TOP}/groupPermission/mode") == "R"
    assert b"Secret Colleague" not in answer.body


def test_short_listing_has_no_details(site) -> None:
    answer = site.call("srmLs", ls("srm://localhost/d/known"))
    assert {e.tag for e in answer.part.find(TOP)} == {"path", "status", "size", "type"}


def test_order_of_fields_is_the_contract_s(site) -> None:
    answer = site.call("srmLs", ls("srm://localhost/d", FULL))
    order = [field.name for field in contract().types["TMetaDataPathDetail"]]
    for detail in answer.part.iter("pathDetailArray"):
        tags = [e.tag for e in detail]
        assert tags == sorted(tags, key=order.index)


@pytest.mark.parametrize(
    ("levels", "paths"),
    [
        ("<numOfLevels>0</numOfLevels>", ["/d"]),
        ("", ["/d", "/d/indexed", "/d/known", "/d/sub"]),
        ("<numOfLevels>1</numOfLevels>", ["/d", "/d/indexed", "/d/known", "/d/sub"]),
        ("<numOfLevels>2</numOfLevels>", ["/d", "/d/indexed", "/d/known", "/d/sub", "/d/sub/deep"]),
        (
            "<allLevelRecursive>true</allLevelRecursive><numOfLevels>0</numOfLevels>",
            ["/d", "/d/indexed", "/d/known", "/d/sub", "/d/sub/deep"],
        ),
        ("<offset>1</offset><count>1</count>", ["/d", "/d/known"]),
        ("<offset>2</offset>", ["/d", "/d/sub"]),
        ("<count>2</count>", ["/d", "/d/indexed", "/d/known"]),
        ("<offset>99</offset>", ["/d"]),
    ],
)
def test_levels_offset_count(site, levels: str, paths: list[str]) -> None:
    answer = site.call("srmLs", ls("srm://localhost/d", levels))
    assert answer.code == "SRM_SUCCESS"
    assert [d.findtext("path") for d in answer.part.iter("pathDetailArray")] == paths


def test_children_are_nested_where_clients_look(site) -> None:
    answer = site.call("srmLs", ls("srm://localhost/d", "<numOfLevels>2</numOfLevels>"))
    deep = f"{TOP}/arrayOfSubPaths/pathDetailArray/arrayOfSubPaths/pathDetailArray/path"
    assert answer.text(deep) == "/d/sub/deep"


@pytest.mark.parametrize("field", ["offset", "count", "numOfLevels"])
def test_negative_numbers_make_no_sense(site, field: str) -> None:
    answer = site.call("srmLs", ls("srm://localhost/d", f"<{field}>-1</{field}>"))
    assert answer.code == "SRM_INVALID_REQUEST"
    assert field in (answer.text("returnStatus/explanation") or "")


@pytest.mark.parametrize("inner", ["", "<arrayOfSURLs/>", "<arrayOfSURLs></arrayOfSURLs><offset>1</offset>"])
def test_no_surl_is_an_invalid_request(site, inner: str) -> None:
    assert site.call("srmLs", inner).code == "SRM_INVALID_REQUEST"


def test_several_surls_each_with_its_status(site) -> None:
    surls = ["srm://localhost/d/known", "srm://localhost/none", "gopher://x"]
    answer = site.call("srmLs", ls(surls))
    assert answer.code == "SRM_PARTIAL_SUCCESS"
    codes = [d.findtext("status/statusCode") for d in answer.part.findall(TOP)]
    assert codes == ["SRM_SUCCESS", "SRM_INVALID_PATH", "SRM_INVALID_PATH"]


def test_nothing_found_is_failure_with_the_reason_at_the_file(site) -> None:
    answer = site.call("srmLs", ls("srm://localhost/none"))
    assert answer.code == "SRM_FAILURE"
    assert answer.text(f"{TOP}/status/statusCode") == "SRM_INVALID_PATH"
    assert answer.text(f"{TOP}/path") == "/none"


def test_a_stranger_learns_the_same_of_what_is_there_and_what_is_not(site, stranger) -> None:
    there = site.call("srmLs", ls("srm://localhost/d/known", FULL), stranger)
    absent = site.call("srmLs", ls("srm://localhost/d/other", FULL), stranger)
    assert there.body.replace(b"known", b"other") == absent.body


def test_too_long_for_one_answer(small_site) -> None:
    answer = small_site.call("srmLs", ls("srm://localhost/d"))
    assert answer.code == "SRM_TOO_MANY_RESULTS"
    assert answer.part.find("details") is None


def test_too_long_with_a_count_beyond_the_bound(small_site) -> None:
    assert small_site.call("srmLs", ls("srm://localhost/d", "<count>999</count>")).code == (
        "SRM_TOO_MANY_RESULTS"
    )


def test_parts_cover_the_whole(small_site) -> None:
    seen: list[str | None] = []
    for offset in range(0, 12, 4):
        part = f"<offset>{offset}</offset><count>4</count>"
        answer = small_site.call("srmLs", ls("srm://localhost/d", part))
        assert answer.code == "SRM_SUCCESS"
        seen += [d.findtext("path") for d in answer.part.findall(f"{TOP}/arrayOfSubPaths/pathDetailArray")]
    assert sorted(filter(None, seen)) == sorted(f"/d/f{n}" for n in range(12))


def test_a_deep_tree_is_read_no_further_than_the_bound(small_site) -> None:
    path = "/t"
    for _ in range(20):
        small_site.broker.add(replace(small_site.broker.entries_at["/d"], path=path))
        path += "/t"
    deep = "<allLevelRecursive>true</allLevelRecursive>"
    assert small_site.call("srmLs", ls("srm://localhost/t", deep)).code == "SRM_TOO_MANY_RESULTS"
    assert len(small_site.broker.listed) <= 6

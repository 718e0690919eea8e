"""Default deny, and nothing to be learned from being denied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mdm_files.calls import CALLS
from srm_dicom.errors import MdmError, NotAuthorised, NotFound
from srm_dicom.ids import SitePath
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.declare import Right

TOP = "/grid/vo/mdm/here"
FILE = f"{TOP}/heart-v1/p1/s1/1.dcm.c4gh"
GUID = "guid:00000000-0000-4000-8000-000000000001"
SURL = "srm://here:8446/vo/mdm/here/heart-v1/1.dcm.c4gh"

BODIES: dict[str, list[dict[str, Any]]] = {
    "lookup": [{"references": [one]} for one in (FILE, GUID, SURL, TOP, f"{TOP}/heart-v1")],
    "list": [{"reference": TOP}, {"reference": FILE}, {"reference": GUID}],
    "tree": [{"reference": TOP}, {"reference": FILE}],
    "register": [{"records": [{"lfn": f"{TOP}/heart-v1/x", "guid": GUID[5:-1] + "9"}]}],
    "unregister": [{"references": [FILE]}],
    "remove": [{"references": [FILE]}, {"references": [GUID]}],
    "mkdir": [{"path": f"{TOP}/heart-v1/x"}, {"path": f"{TOP}/heart-v1/x", "acl": "other::rwx"}],
    "rename": [{"source": FILE, "target": f"{TOP}/heart-v1/x"}],
    "getacl": [{"reference": FILE}, {"reference": TOP}],
    "setacl": [{"references": [FILE], "acl": "other::rwx"}],
    "setcomment": [{"reference": FILE, "comment": "x"}],
    "delcomment": [{"reference": FILE}],
    "addreplica": [{"reference": FILE, "surl": "srm://x/y"}],
    "delreplica": [{"reference": FILE, "surl": SURL}],
}
CASES = [(call, body) for call, bodies in BODIES.items() for body in bodies]


def test_every_call_declares_a_right_and_has_a_case() -> None:
    assert set(CALLS) == set(BODIES)
    for call in CALLS.values():
        assert isinstance(call.right, Right)
        assert call.since


def said(site: Any, who: Any, call: str, body: dict[str, Any]) -> str:
    """Return what a caller is told."""
    http = site.client(who)._http
    response = http.request("POST", f"/v1/{call}", msgspec.json.encode(body), repeatable=True)
    return response.body.decode()


def elsewhere(body: dict[str, Any]) -> dict[str, Any]:
    text = msgspec.json.encode(body).decode()
    text = text.replace(TOP, "/never/was").replace(GUID[5:], GUID[5:-2] + "77").replace("here:8446", "x:1")
    return dict(msgspec.json.decode(text))


@pytest.mark.parametrize(("call", "body"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_stranger_cannot_tell_what_is_there(site: Any, call: str, body: dict[str, Any]) -> None:
    before = site.client("registrar").tree("/")
    told = said(site, "stranger", call, body)
    assert "NotFound" in told or "NotAuthorised" in told or told == '{"outcomes":[{"status":"unchanged"}]}'
    assert told == said(site, "stranger", call, elsewhere(body))
    assert site.client("registrar").tree("/") == before


@pytest.mark.parametrize("who", ["stranger", "researcher"])
@pytest.mark.parametrize("hidden", [f"{TOP}/lung-v1", f"{TOP}/lung-v1/p1", f"{TOP}/lung-v1/p1/s1"])
def test_making_names_does_not_tell_which_directories_there_are(site: Any, who: str, hidden: str) -> None:
    record = msgspec.to_builtins(site.record(0))
    for below in ("x", "x/y"):
        for call, body in (
            ("mkdir", {"path": "{}", "parents": True}),
            ("mkdir", {"path": "{}"}),
            ("register", {"records": [{**record, "lfn": "{}", "guid": GUID[5:-1] + "9"}]}),
        ):
            text = msgspec.json.encode(body).decode()
            there, not_there = (
                said(site, who, call, msgspec.json.decode(text.replace("{}", f"{directory}/{below}")))
                for directory in (hidden, hidden.replace("lung-v1", "none-v1"))
            )
            assert there == not_there
            assert "NotAuthorised" in there or "right to change" in there


@pytest.mark.parametrize(
    ("call", "body"), [case for case in CASES if CALLS[case[0]].right is Right.NAME_WRITE], ids=lambda _: ""
)
@pytest.mark.parametrize("who", ["researcher", "limited registrar"])
def test_seeing_is_not_changing(site: Any, who: str, call: str, body: dict[str, Any]) -> None:
    before = site.client("registrar").tree("/")
    told = said(site, site.limited("registrar") if " " in who else who, call, body)
    assert "NotAuthorised" in told
    assert site.client("registrar").tree("/") == before


def test_the_root_is_empty_for_a_stranger(site: Any) -> None:
    assert site.client("stranger").list("/") == []
    assert site.client("stranger").tree("/") == []


def test_a_researcher_sees_one_project(site: Any) -> None:
    researcher = site.client("researcher")
    for reference in (f"{TOP}/lung-v1", site.record(10, "lung-v1").lfn, site.record(10, "lung-v1").surls[0]):
        with pytest.raises(NotFound):
            researcher.lookup(reference)
    answers = list(researcher.lookup_each([FILE, site.record(10, "lung-v1").lfn, "/nothing"]))
    assert [one.error for one in answers] == ["", "NotFound", "NotFound"]
    assert answers[1] == answers[2]


def test_who_lists_a_directory_learns_names_and_no_more(site: Any) -> None:
    registrar, stranger = site.client("registrar"), site.client("stranger")
    registrar.set_acl([f"{TOP}/heart-v1/p1/s1"], Acl.parse(f'user:"{site.dns["stranger"]}":r'))
    listed = stranger.list(f"{TOP}/heart-v1/p1/s1")
    assert [one.lfn for one in listed] == [site.record(number).lfn for number in range(4)]
    assert {(one.guid, one.surls, one.key_id) for one in listed} == {("", (), "")}
    with pytest.raises(NotAuthorised):
        stranger.lookup(FILE)
    with pytest.raises(NotFound):
        stranger.lookup(f"{TOP}/heart-v1/p1/s1/none")
    assert stranger.tree(f"{TOP}/heart-v1") == []


def test_a_mask_limits_and_an_owner_may_give(site: Any) -> None:
    registrar, owner, stranger = (site.client(who) for who in ("registrar", "owner", "stranger"))
    registrar.make_directory("/home", Acl.parse(f'user:"{site.dns["owner"]}":rwx,default:user::rw'))
    owner.make_directory("/home/mine")
    record = msgspec.structs.replace(site.record(60), lfn=SitePath("/home/mine/f"), acl="")
    owner.register([record])
    with pytest.raises(NotFound):
        stranger.lookup("/home/mine/f")
    to_stranger = f'user:"{site.dns["stranger"]}":rw'
    owner.set_acl(["/home/mine/f"], Acl.parse(f"user::rw,{to_stranger},mask::r"))
    assert stranger.lookup("/home/mine/f").acl == ""
    with pytest.raises(NotAuthorised):
        stranger.set_comment("/home/mine/f", "x")
    with pytest.raises(NotAuthorised):
        stranger.set_acl(["/home/mine/f"], Acl.parse("other::rwx"))
    assert owner.lookup("/home/mine/f").acl.startswith("user::rw")
    limited = site.client(site.limited("owner"))
    assert limited.lookup("/home/mine/f").acl == ""
    with pytest.raises(NotAuthorised):
        limited.set_comment("/home/mine/f", "x")
    assert [one.lfn for one in stranger.tree("/")] == ["/home/mine/f"]


def test_no_name_is_a_way_into_the_database(site: Any) -> None:
    for text in ("' or 1=1 --", "/x' or '1'='1", "guid:' or 1=1", "srm://x/'or'1'='1", "/%", "/_"):
        with pytest.raises(MdmError):
            site.client("stranger").lookup(text)
        assert "heart" not in said(site, "stranger", "tree", {"reference": "/", "after": text})


def test_the_audit_trail_has_decisions_and_no_words(site: Any) -> None:
    site.client("researcher").lookup(FILE)
    said(site, "stranger", "lookup", {"references": [FILE, "/typed/by/somebody"]})
    site.client("registrar").set_acl([FILE], Acl.parse(f'user:"{site.dns["researcher"]}":r'))
    trail = [msgspec.json.decode(line) for line in Path(site.audit.path).read_text().splitlines()]
    events = [line["event"] for line in trail]
    assert any(e["outcome"] == "denied" and e["objects"] == [GUID[5:]] for e in events)
    assert any(e["action"] == "rights_changed" for e in events)
    assert "typed" not in Path(site.audit.path).read_text()

"""Default deny, and nothing to be learned from being denied."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mdm_metadata.access import Access
from mdm_metadata.codes import CODES
from mdm_metadata.commands import COMMANDS
from mdm_metadata.entries import Entries
from srm_dicom import errors
from srm_dicom.client.amga import AmgaChannel
from srm_dicom.errors import AlreadyExists, MdmError, NotAuthorised, NotFound
from srm_dicom.rights.declare import OpenAccess, Right

HEART = "/mdm/here/heart-v1/image"
LUNG = "/mdm/here/lung-v1/image"
ENTRY = f"{HEART}/00000000-0000-4000-8000-000000000000"
NAME = 'PatientName = "Doe^John0"'

CALLS: dict[str, list[list[str]]] = {
    "createdir": [["createdir", f"{HEART}/x"], ["createdir", "/x"]],
    "rmdir": [["rmdir", HEART]],
    "setvalidity": [["setvalidity", HEART, "2040-01-01T00:00:00Z"]],
    "getvalidity": [["getvalidity", HEART]],
    "addattr": [["addattr", HEART, "x", "int"]],
    "addnominative": [["addnominative", HEART, "x", "int"]],
    "listattr": [["listattr", HEART]],
    "dir": [["dir", HEART], ["dir", "/mdm"]],
    "listentries": [["listentries", HEART]],
    "cd": [["cd", HEART], ["cd", "/mdm"]],
    "addentry": [["addentry", f"{HEART}/x"]],
    "addentries": [["addentries", f"{HEART}/x"]],
    "setattr": [["setattr", ENTRY, "Modality", "PT"]],
    "updateattr": [["updateattr", ENTRY, "Modality", '"PT"', ""]],
    "rm": [["rm", ENTRY], ["rm", f"{HEART}/*"]],
    "upload": [],
    "put": [],
    "commit": [],
    "abort": [],
    "getattr": [["getattr", ENTRY, "Modality"], ["getattr", f"{HEART}/*", "Modality"]],
    "find": [["find", HEART], ["find", f"{HEART}/*", 'Modality = "CT"']],
    "selectattr": [
        ["selectattr", f"{HEART}:Modality", ""],
        ["selectattr", f"{LUNG}:FILE", f"{HEART}:{NAME}"],
    ],
    "findall": [],
    "myrights": [["myrights", HEART]],
    "acl_show": [["acl_show", HEART]],
    "acl_add": [["acl_add", HEART, 'user:"/CN=x"', "r"]],
    "acl_remove": [["acl_remove", HEART, 'user:"/CN=x"']],
    "setacl": [["setacl", HEART, 'user:"/CN=x":rn']],
}
"""Of each command calls that need its right; bulk commands and findall have tests of their own."""

WRITES = {Right.METADATA_WRITE, Right.METADATA_ADMIN}


def test_every_command_declares_a_right_and_has_a_case() -> None:
    for name, command in COMMANDS.items():
        assert isinstance(command.right, Right | OpenAccess), name
        assert command.since
        assert isinstance(command.right, OpenAccess) or name in CALLS, f"{name} has no case"


def test_every_leaf_has_a_code() -> None:
    assert set(errors.leaves()) <= set(CODES)


def said(site: Any, who: Any, words: list[str]) -> tuple[str, str]:
    """Return what a caller is told, class and text."""
    try:
        rows = site.channel(who).call(*words)
    except MdmError as error:
        return type(error).__name__, error.message
    return "OK", "\n".join(rows)


@pytest.mark.parametrize("words", [call for calls in CALLS.values() for call in calls], ids=" ".join)
def test_a_stranger_cannot_tell_what_is_there(site: Any, words: list[str]) -> None:
    absent = [word.replace("/mdm/here/heart-v1", "/not/ever/there").replace("/mdm", "/not") for word in words]
    assert said(site, "stranger", words) == said(site, "stranger", absent)
    assert said(site, "stranger", words)[0] in ("NotFound", "NotAuthorised")


def test_a_stranger_finds_nothing(site: Any) -> None:
    for condition in ("", 'Modality = "CT"', NAME, "Colour = 1"):
        assert said(site, "stranger", ["findall", "LFN", "PatientName", condition]) == ("OK", "text\ntext")
    assert said(site, "stranger", ["dir", "/"]) == ("OK", "")


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.right in WRITES])
@pytest.mark.parametrize("who", ["physician", "researcher", "limited registrar"])
def test_searching_is_not_writing(site: Any, who: str, name: str) -> None:
    credential = site.limited("registrar") if " " in who else who
    for words in CALLS[name]:
        assert said(site, credential, words)[0] in ("NotAuthorised", "NotFound")


@pytest.mark.parametrize("who", ["physician", "stranger", "limited registrar"])
def test_nobody_else_uploads(site: Any, who: str) -> None:
    credential = site.limited("registrar") if " " in who else who
    upload = [["upload", HEART, "Modality"], ["put", "x", "PT"], ["commit"]]
    with pytest.raises((NotAuthorised, NotFound)):
        site.channel(credential).batch(upload)
    assert len(site.client("physician").search("")) == 6


def test_a_right_that_ends_during_an_upload_is_gone(site: Any) -> None:
    registrar = site.channel("registrar")
    registrar.call("createdir", "/ends")
    registrar.call("acl_add", "/ends", f'user:"{site.dns["researcher"]}"', "rw")
    researcher = site.channel("researcher")
    researcher.call("addentry", "/ends/a")
    registrar.call("acl_add", "/ends", f'user:"{site.dns["researcher"]}"', "r")
    with pytest.raises(NotAuthorised):
        researcher.batch([["upload", "/ends"], ["put", "b"], ["commit"]])
    assert researcher.call("find", "/ends") == ("a",)


# --- nominative ----------------------------------------------------------------------------------

PROBES = [
    ["getattr", ENTRY, "{}"],
    ["selectattr", f"{HEART}:{{}}", ""],
    ["selectattr", f"{HEART}:FILE", '{} = "Doe^John0"'],
    ["selectattr", f"{HEART}:FILE", 'Modality = "CT" or {} = "Doe^John0"'],
    ["selectattr", f"{HEART}:FILE", 'not {} like "Doe%"'],
    ["selectattr", f"{HEART}:FILE", "{} is null"],
    ["selectattr", f"{HEART}:FILE", '{} in ("Doe^John0")'],
    ["selectattr", f"{HEART}:FILE", '{} between "A" and "Z"'],
    ["selectattr", f"{HEART}:FILE", "Modality = {}"],
    ["selectattr", f"{HEART}:FILE", "{} = 5"],
    ["find", HEART, f'{HEART}:{{}} = "Doe^John0" limit 1'],
    ["findall", '{} = "Doe^John0"'],
    ["findall", "FILE", "{} is not null limit 1"],
    ["findall", "{}", 'Modality = "CT"'],
    ["listattr", HEART],
]


@pytest.mark.parametrize("words", PROBES, ids=" ".join)
@pytest.mark.parametrize("who", ["researcher", "limited physician"])
def test_a_nominative_attribute_is_not_there_without_n(site: Any, who: str, words: list[str]) -> None:
    credential = site.limited("physician") if " " in who else who
    nominative = [word.format("PatientName") if "{" in word else word for word in words]
    absent = [word.format("NobodyKnowsThis") if "{" in word else word for word in words]
    assert said(site, credential, nominative) == said(site, credential, absent)
    assert "Doe" not in said(site, credential, nominative)[1]
    assert "PatientName" not in said(site, credential, nominative)[1]


def test_n_alone_shows_no_search_attribute(site: Any) -> None:
    registrar = site.channel("registrar")
    registrar.call("createdir", "/n")
    registrar.call("addattr", "/n", "Modality", "text")
    registrar.call("addnominative", "/n", "PatientName", "text")
    registrar.call("addentry", "/n/a", "Modality", "CT", "PatientName", "Roe")
    registrar.call("acl_add", "/n", f'user:"{site.dns["researcher"]}"', "n")
    researcher = site.channel("researcher")
    assert researcher.call("getattr", "/n/a", "PatientName") == ("a", "Roe")
    with pytest.raises(NotFound, match="no such attribute"):
        researcher.call("getattr", "/n/a", "Modality")
    registrar.call("acl_remove", "/n", f'user:"{site.dns["researcher"]}"')
    assert said(site, "researcher", ["cd", "/n"]) == ("NotFound", "no such collection")


def test_a_registrar_cannot_read_what_it_was_not_granted(site: Any) -> None:
    for words in (
        ["getattr", ENTRY, "PatientName"],
        ["find", HEART],
        ["selectattr", f"{HEART}:Modality", ""],
    ):
        assert said(site, "registrar", words)[0] == "NotAuthorised"
    assert said(site, "registrar", ["findall", "FILE", ""]) == ("OK", "text")
    words = ["updateattr", f"{HEART}/*", "Modality", '"XX"', 'PatientName = "Doe^John0"']
    assert said(site, "registrar", words)[0] == "NotAuthorised"


# --- collections ---------------------------------------------------------------------------------


def test_a_researcher_sees_one_project(site: Any) -> None:
    researcher = site.channel("researcher")
    assert researcher.call("dir", "/mdm/here") == ("heart-v1", "collection")
    assert researcher.call("dir", "/mdm/*") == ("here", "collection")
    assert {one["collection"] for one in site.client("researcher").search("LFN is not null")} == {HEART}
    assert said(site, "researcher", ["cd", "/mdm/here/lung-v1"]) == ("NotFound", "no such collection")
    lung = ["selectattr", f"{HEART}:FILE", f'{LUNG}:Modality = "CT"']
    other = ["selectattr", f"{HEART}:FILE", '/mdm/here/none-v1/image:Modality = "CT"']
    assert said(site, "researcher", lung) == said(site, "researcher", other)
    assert said(site, "physician", lung)[0] == "NotSupported"


def test_after_its_end_a_collection_grants_nothing(site: Any) -> None:
    registrar, physician = site.client("registrar"), site.client("physician")
    now = datetime.now(UTC)
    registrar.set_valid_until(HEART, now - timedelta(seconds=1))
    try:
        assert {one["collection"] for one in physician.search("")} == {LUNG}
        gone = said(site, "physician", ["getattr", ENTRY, "Modality"])
        assert gone == said(site, "physician", ["getattr", "/mdm/here/no/image/x", "Modality"])
        assert registrar.acl(HEART).entries
    finally:
        registrar.set_valid_until(HEART, now + timedelta(days=30))
    assert len(physician.search("")) == 6


def test_the_owner_entry_of_an_acl_is_nobody(site: Any) -> None:
    registrar = site.channel("registrar")
    registrar.call("createdir", "/owner")
    registrar.call("setacl", "/owner", "user::rnwp,group::rnwp,mask::rnwp")
    for who in ("physician", "stranger"):
        assert said(site, who, ["cd", "/owner"])[0] == "NotFound"


def test_names_that_are_taken(site: Any) -> None:
    registrar = site.channel("registrar")
    registrar.call("createdir", "/taken")
    registrar.call("addentry", "/taken/a")
    registrar.call("addattr", "/taken", "x", "int")
    for words in (["createdir", "/taken"], ["addentry", "/taken/a"], ["addattr", "/taken", "x", "text"]):
        with pytest.raises(AlreadyExists):
            registrar.call(*words)


# --- the trail -----------------------------------------------------------------------------------


def test_the_audit_trail_has_decisions_and_no_words(site: Any) -> None:
    site.channel("physician").call("selectattr", f"{HEART}:FILE", 'PatientName = "Secret^Typed"')
    said(site, "stranger", ["getattr", "/typed/by/somebody", "Secret"])
    trail = Path(site.audit.path).read_text()
    assert site.dns["physician"] in trail
    assert HEART in trail
    for word in ("Secret", "typed/by", "PatientName"):
        assert word not in trail


def test_a_right_that_is_taken_while_another_is_given_stays_taken(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = AmgaChannel(site.endpoint, site.users["registrar"], timeout_s=60)
    researcher = f'user:"{site.dns["researcher"]}"'
    real = Access.require

    def overtaken(self: Access, *arguments: Any) -> Any:
        collection = real(self, *arguments)
        monkeypatch.setattr(Access, "require", real)
        other.call("acl_remove", HEART, researcher)
        return collection

    monkeypatch.setattr(Access, "require", overtaken)
    site.channel("registrar").call("acl_add", HEART, 'user:"/CN=x"', "r")
    other.close()
    entries = site.channel("registrar").call("acl_show", HEART)
    assert 'user:"/CN=x":r' in entries
    assert not [entry for entry in entries if entry.startswith(researcher)]


def test_a_collection_is_made_with_its_schema_or_not_at_all(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    registrar, made = site.channel("registrar"), f"{HEART}/made"
    with monkeypatch.context() as patched:
        patched.setattr(Entries, "add_column", lambda *_, **__: (_ for _ in ()).throw(errors.NoSpace("full")))
        with pytest.raises(MdmError):
            registrar.call("createdir", made)
    registrar.call("createdir", made)
    assert registrar.call("listattr", made) == registrar.call("listattr", HEART)
    registrar.call("rmdir", made)

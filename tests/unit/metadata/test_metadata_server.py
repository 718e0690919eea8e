"""A metadata server over real TLS: what is registered is found, by those who may."""

from __future__ import annotations

import ssl
import time
from typing import Any

import pytest

from mdm_metadata.commands import scope
from srm_dicom.errors import InvalidRequest, NotAuthenticated, NotFound, TooLarge
from srm_dicom.ids import SitePath
from srm_dicom.wire.query import MAX_CONDITIONS, MAX_DEPTH

HEART = SitePath("/mdm/here/heart-v1/image")


def test_a_physician_finds_over_all_collections(site: Any) -> None:
    condition = 'Modality = "CT" and SliceThickness < 5'
    found = site.client("physician").search(condition, ["Rows", "PatientName"])
    assert [one["collection"] for one in found] == ["/mdm/here/heart-v1/image"] * 2 + [
        "/mdm/here/lung-v1/image"
    ]
    assert found[0] == {
        "guid": "00000000-0000-4000-8000-000000000000",
        "lfn": "lfn:/grid/mdm/here/heart/0.dcm.c4gh",
        "surl": "srm://here:8446/mdm/here/heart/0.dcm.c4gh",
        "collection": "/mdm/here/heart-v1/image",
        "Rows": None,
        "PatientName": "Doe^John0",
    }
    assert found[1]["Rows"] == 512


def test_a_proxy_is_its_user(site: Any) -> None:
    proxy = site.pki.proxy(site.users["physician"])
    assert site.client(proxy).whoami() == site.dns["physician"]
    assert len(site.client(proxy).search("")) == 6


def test_why_a_credential_is_refused_is_heard_also_when_it_is_said_at_once(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS 1.3's handshake is over for a client before the server has looked at its certificate."""
    handshake = ssl.SSLSocket.do_handshake

    def slow(sock: ssl.SSLSocket, *more: Any) -> None:
        handshake(sock, *more)
        time.sleep(0.3)  # a server that refuses has closed the connection by then

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", slow)
    expired = site.pki.proxy(site.users["physician"], lifetime_s=-60)
    with pytest.raises(NotAuthenticated, match="certificate expired"):
        site.client(expired).search("")


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("", 6),
        ('Modality = "CT"', 3),
        ('Modality <> "CT"', 3),
        ('"CT" = Modality', 3),
        ("3 > SliceThickness", 3),
        ("SliceThickness between 1 and 2.5", 2),
        ("Rows is null", 1),
        ("Rows is not null", 5),
        ("not Rows = 512", 0),
        ('Modality in ("MR", "PT")', 3),
        ('Modality not in ("MR", "PT")', 3),
        ('like(FILE, "%5")', 1),
        ('FILE like "%-00000000000_" limit 4', 4),
        ('LFN like "lfn:/grid/MDM/%" offset 4', 2),
        ('(Modality = "CT" or Modality = "MR") and not (Rows = 512)', 0),
        ('PatientName = "Doe^John3"', 1),
        ('SURL like "%here%" limit 1 offset 5', 1),
        ("Rows >= 512 and Rows <= SliceThickness", 0),
        ("Rows < 99999999999999999999", 5),
        ('Modality < "a"', 6),
        ('Modality > "a"', 0),
    ],
)
def test_conditions(site: Any, condition: str, count: int) -> None:
    assert len(site.client("physician").search(condition)) == count


@pytest.mark.parametrize("condition", ["Modality = 5", 'Rows = "5"', 'Rows like "5%"', "Modality =", "1 = 1"])
def test_a_bad_condition_is_refused(site: Any, condition: str) -> None:
    with pytest.raises(InvalidRequest):
        site.client("physician").search(condition)


def test_an_attribute_that_nobody_has(site: Any) -> None:
    with pytest.raises(NotFound, match="no such attribute"):
        site.client("physician").search("Colour = 1")


def test_limit_is_over_all_collections(site: Any) -> None:
    client = site.client("physician")
    assert len(client.search("", limit=5)) == 5
    assert len(client.search("limit 2", limit=5)) == 2
    everything = client.search("")
    for condition, chosen in (("", everything), ('Modality = "CT"', everything[::2])):
        for offset in range(len(chosen) + 2):
            assert client.search(f"{condition} limit 2 offset {offset}") == chosen[offset : offset + 2]
            assert client.search(f"{condition} offset {offset}") == chosen[offset:]


def test_registering_again_changes_values_and_adds_nothing(site: Any) -> None:
    registrar, physician = site.client("registrar"), site.client("physician")
    before = physician.search("", ["Modality"])
    site.fill()
    assert physician.search("", ["Modality"]) == before
    assert registrar.acl("/mdm/here/lung-v1/image").entries


def test_rows_are_bounded(site: Any) -> None:
    registrar = site.channel("registrar")
    registrar.call("createdir", "/many")
    for start in (0, 2000):
        puts = [["put", f"e{number}"] for number in range(start, start + 2000)]
        registrar.batch([["upload", "/many"], *puts, ["commit"]])
    registrar.call("acl_add", "/many", f'user:"{site.dns["registrar"]}"', "r")
    with pytest.raises(TooLarge):
        registrar.call("find", "/many")
    assert len(registrar.call("find", "/many", "limit 10")) == 10
    assert len(registrar.call("find", "/many", 'like(FILE, "e%") limit 2000 offset 3990')) == 10
    assert len(registrar.call("find", "/many/e399?")) == 10
    with pytest.raises(TooLarge):
        registrar.call("rm", "/many/*")
    puts = [["put", f"e{number}"] for number in range(2001)]
    with pytest.raises(TooLarge):
        registrar.batch([["upload", "/many"], *puts, ["commit"]])


@pytest.mark.parametrize("word", ["or", "and"])
def test_the_largest_conditions_are_answered(site: Any, word: str) -> None:
    many = f" {word} ".join(f"Rows = {number}" for number in range(313, 313 + MAX_CONDITIONS))
    nested = "Rows = 512"
    for number in range(MAX_DEPTH // 2 - 2):
        nested = f"not (SliceThickness = {number} {word} {nested})" if number % 2 else f"not ({nested})"
    client = site.client("physician")
    assert len(client.search(many)) == (5 if word == "or" else 0)
    client.search(f"({nested})")


def test_a_reply_has_a_bound_however_wide_it_is(site: Any) -> None:
    """A few words for each of many rows would fill the memory of the server."""
    researcher = site.channel("researcher")
    for count in (1001, 2100, 15_000):
        with pytest.raises(TooLarge):
            researcher.call("selectattr", *[f"{HEART}:Modality"] * count, "limit 1")
    assert len(researcher.call("selectattr", *[f"{HEART}:Modality"] * 1000, "limit 1")) == 1000


def test_values_of_a_reply_are_bounded(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "MOST_VALUES", 12)
    researcher = site.channel("researcher")
    shown = [f"{HEART}:Modality", f"{HEART}:Rows", f"{HEART}:FILE"]
    assert len(researcher.call("selectattr", *shown, "")) == 12
    with pytest.raises(TooLarge):
        researcher.call("selectattr", *shown, f"{HEART}:SliceThickness", "")
    assert len(researcher.call("selectattr", *shown, f"{HEART}:SliceThickness", "limit 3")) == 12
    with pytest.raises(TooLarge):
        researcher.call("getattr", f"{HEART}", "Modality", "Rows", "SliceThickness")
    with pytest.raises(TooLarge):
        site.channel("physician").call("findall", "FILE", "Modality", "")


def test_pages_of_a_pattern_go_on_to_the_end(site: Any) -> None:
    registrar = site.channel("registrar")
    registrar.call("createdir", "/pages")
    for start in (0, 2000):
        puts = [["put", f"{'eE'[number % 2]}{number}"] for number in range(start, start + 2000)]
        registrar.batch([["upload", "/pages"], *puts, ["commit"]])
    registrar.call("acl_add", "/pages", f'user:"{site.dns["registrar"]}"', "r")
    for pattern, first in (("e*", "e"), ("E*", "E"), ("[eE]*", ""), ("?[0-9]*", "")):
        if not first:
            with pytest.raises(InvalidRequest):
                registrar.call("find", f"/pages/{pattern}")
            continue
        found = [
            name
            for start in range(0, 2500, 500)
            for name in registrar.call("find", f"/pages/{pattern}", f"limit 500 offset {start}")
        ]
        assert len(found) == len(set(found)) == 2000
        assert {name[0] for name in found} == {first}
    assert len(registrar.call("find", "/pages/?3999", "limit 10 offset 0")) == 1
    assert len(registrar.call("find", "/pages/*", "limit 10 offset 3995")) == 5


def test_remove(site: Any) -> None:
    registrar, physician = site.client("registrar"), site.client("physician")
    guid = physician.search("SliceThickness = 4.5")[0]["guid"]
    registrar.remove("/mdm/here/lung-v1/image", [guid, guid])
    registrar.remove("/mdm/here/lung-v1/image", [guid])
    assert len(physician.search("")) == 5
    site.fill()
    assert len(physician.search("")) == 6


def test_a_wide_collection(site: Any) -> None:
    registrar = site.channel("registrar")
    names = [f"a{number}" for number in range(400)]
    registrar.call("createdir", "/wide")
    registrar.call("addattr", "/wide", *(word for name in names for word in (name, "int")))
    puts = [["put", f"e{number}", *(str(number) for _ in names)] for number in range(100)]
    registrar.batch([["upload", "/wide", *names], *puts, ["commit"]])
    registrar.call("acl_add", "/wide", f'user:"{site.dns["registrar"]}"', "r")
    assert registrar.call("find", "/wide", "a399 = 99") == ("e99",)
    with pytest.raises(TooLarge):
        registrar.call("addattr", "/wide", *(f"b{n} int".split()[i] for n in range(101) for i in (0, 1)))
    registrar.call("acl_remove", "/wide", f'user:"{site.dns["registrar"]}"')

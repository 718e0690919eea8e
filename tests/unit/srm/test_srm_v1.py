"""SRM v1.1 on the wire: its WSDL, what odd clients send, and numbers that outlive a restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from srm_dicom.broker.numbers import Numbers
from srm_dicom.broker.owned import Owned
from srm_dicom.broker.surls import OwnSurls
from srm_dicom.broker.views import FileState, RequestKind
from srm_dicom.errors import InvalidRequest, RequestUnknown
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Token
from srm_dicom.soap.rpc import Operation
from srm_dicom.srm.v1.codec import Codec
from srm_dicom.srm.v1.contract import MESSAGES, SIGNATURES
from srm_dicom.srm.v1.wsdl import document
from srm_dicom.store.requests import Request, RequestFile
from srm_dicom.store.stores import Stores
from srm_dicom.testing.databases import database_url

WSDL = "{http://schemas.xmlsoap.org/wsdl/}"
ROOT = Path(__file__).parents[3]


def test_committed_file_is_what_the_code_writes() -> None:
    assert (ROOT / "wsdl" / "srm.v1.1.wsdl").read_bytes() == document()


def test_wsdl_has_every_operation_and_no_loose_end() -> None:
    root = etree.fromstring(document())
    messages = {message.get("name") for message in root.iterfind(f"{WSDL}message")}
    for holder in ("portType", "binding"):
        found = [one.get("name") for one in root.iterfind(f"{WSDL}{holder}/{WSDL}operation")]
        assert found == list(SIGNATURES)
    assert messages == {f"{name}{end}" for name in SIGNATURES for end in ("Request", "Response")}
    declared = {one.get("name") for one in root.iterfind(".//{*}complexType")}
    used = {one.get("type").partition(":")[2] for one in root.iterfind(f"{WSDL}message/{WSDL}part")}
    assert {name for name in used if name[0].isupper() or name.startswith("ArrayOf")} <= declared


def read(name: str, inner: str) -> Any:
    text = f'<m:{name} xmlns:m="{MESSAGES}">{inner}</m:{name}>'
    return Codec().decode(Operation(name, {}, None, print), etree.fromstring(text))


def test_items_may_have_any_name_and_arguments_any_order() -> None:
    got = read("get", "<arg1><x>gsiftp</x></arg1><arg0><string>a</string><y> b </y></arg0>")
    assert (got.arg0, got.arg1) == (["a", "b"], ["gsiftp"])


def test_one_number_may_come_as_an_array() -> None:
    got = read("setFileStatus", "<arg0><item>7</item></arg0><arg1>8</arg1><arg2><item>Done</item></arg2>")
    assert (got.arg0, got.arg1, got.arg2) == (7, 8, "Done")


def test_what_is_left_out_is_nothing() -> None:
    assert read("put", "<arg0/>").arg2 == []
    assert read("getRequestStatus", "").arg0 is None


@pytest.mark.parametrize("text", ["x", "", "2147483648", "9" * 5000, "1.0"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="arg0 is not an xsd:int"):
        read("getRequestStatus", f"<arg0>{text}</arg0>")


def test_numbers_outlive_a_restart_and_are_their_owners(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    alice, bob = (Principal(f"/CN={name}", (), False, now) for name in ("Alice", "Bob"))
    url = database_url(tmp_path, "names")
    request = Request(Token("abc"), RequestKind.GET, alice.dn, "https", now, now + timedelta(hours=1), 60)
    files = [RequestFile(f"srm://localhost/{name}", None, None, FileState.QUEUED) for name in "ab"]
    Stores.open(url).requests.add(request, files)
    requests = Stores.open(url).requests
    numbers = Numbers(requests, Owned(requests, OwnSurls("localhost")))
    first, second = numbers.of(request.token)
    assert numbers.token(alice, first) == request.token
    for who, number in ((bob, first), (alice, second), (alice, 0), (alice, -1), (alice, 2**31 - 1)):
        with pytest.raises(RequestUnknown):
            numbers.token(who, number)

"""The edge itself: captured requests, lenient reading, hostile bodies, who calls."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from srm_dicom.errors import Overloaded
from srm_dicom.srm.checks import complete
from srm_dicom.srm.contract import NAMESPACE, contract
from srm_dicom.srm.encode import envelope
from srm_dicom.srm.operations import OPERATIONS
from srm_dicom.srm.types import T, array, items

XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
SOAPENV = "http://schemas.xmlsoap.org/soap/envelope/"
LS = "<arrayOfSURLs><urlArray>srm://localhost/d</urlArray></arrayOfSURLs>"


def message(body: str, prolog: str = "") -> bytes:
    names = f'xmlns:e="{SOAPENV}" xmlns:s="{NAMESPACE}"'
    return f"{prolog}<e:Envelope {names}><e:Body>{body}</e:Body></e:Envelope>".encode()


def test_captured_requests_are_answered(site, samples) -> None:
    if not samples:
        pytest.skip("the captured requests are not at hand")
    for name, body in samples.items():
        answer = site.http("POST", body)
        assert answer.status == "200 OK", name
        assert answer.part.tag == f"{name.split('.')[1]}Response"
    assert len(samples) > 60


@pytest.mark.parametrize(
    "inner",
    [
        # as ARC: no storageSystemInfo, another order
        "<numOfLevels>0</numOfLevels><fullDetailedList>true</fullDetailedList>" + LS,
        # as gSOAP clients: nil where nothing is meant
        f'<authorizationID {XSI} xsi:nil="true"/>{LS}<storageSystemInfo {XSI} xsi:nil="true"/>',
        # as Axis: types told at every element
        LS.replace("<arrayOfSURLs", f'<arrayOfSURLs {XSI} xsi:type="s:ArrayOfAnyURI"'),
        LS.replace("<urlArray", f'<urlArray {XSI} xsi:type="xsd:anyURI"'),
        # qualified children and an element nobody knows
        LS.replace("<", "<s:").replace("<s:/", "</s:") + "<unheardOf>1</unheardOf>",
        # white space and comments of a person
        "<!-- look --> <arrayOfSURLs> <urlArray>srm://localhost/d</urlArray> </arrayOfSURLs>",
    ],
)
def test_reading_is_lenient(site, inner: str) -> None:
    assert site.call("srmLs", inner).code == "SRM_SUCCESS"


def test_soap_references_of_axis(site) -> None:
    body = '<s:srmLs><srmLsRequest href="#a"/></s:srmLs><multiRef id="a">' + LS + "</multiRef>"
    answer = site.http("POST", message(body))
    assert answer.code == "SRM_SUCCESS"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<a/>",
        message(""),
        message("<s:srmNoSuchThing/>"),
        message("<srmLs/>"),
        message('<s:srmLs><srmLsRequest href="#a" id="a"/></s:srmLs>'),
        message(f"<s:srmLs><srmLsRequest>{LS}</srmLsRequest></s:srmLs>", '<!DOCTYPE e [<!ENTITY x "y">]>'),
        message("<s:srmPing>" + "<a>" * 200 + "</a>" * 200 + "</s:srmPing>"),
        message(
            "<s:srmPing><srmPingRequest><authorizationID>"
            + "x" * 9_000_000
            + "</authorizationID></srmPingRequest></s:srmPing>"
        ),
    ],
    ids=["empty", "text", "no-envelope", "no-body", "unknown", "unqualified", "cycle", "dtd", "deep", "long"],
)
def test_hostile_and_broken_bodies_get_a_clean_fault(site, body: bytes) -> None:
    answer = site.http("POST", body)
    assert answer.status.startswith("500")
    fault = etree.fromstring(answer.body).find("{*}Body/{*}Fault")
    assert fault.findtext("faultstring")
    assert len(answer.body) < 2000
    assert b"Traceback" not in answer.body


def test_wrapper_without_its_part_is_an_empty_request(site) -> None:
    assert site.http("POST", message("<s:srmLs/>")).code == "SRM_INVALID_REQUEST"
    assert site.http("POST", message("<s:srmPing/>")).text("versionInfo") == "v2.2"


def test_identity_comes_from_the_connection_alone(site) -> None:
    answer = site.http(
        "POST", message(f"<s:srmLs><srmLsRequest>{LS}</srmLsRequest></s:srmLs>"), principal=None
    )
    assert answer.status.startswith("500")
    assert b"no verified credential" in answer.body


def test_wsdl_is_served(site, reference) -> None:
    answer = site.http("GET", query="wsdl")
    assert answer.status == "200 OK"
    assert len(list(etree.fromstring(answer.body).iter("{*}portType"))) == 1
    assert site.http("GET").status.startswith("405")


def test_defect_is_told_with_an_incident_and_nothing_else(site) -> None:
    site.broker.failure = RuntimeError("Doe^Jane in a variable")
    answer = site.call("srmLs", LS)
    assert answer.code == "SRM_FATAL_INTERNAL_ERROR"
    assert b"Jane" not in answer.body


def test_what_may_heal_is_internal_error(site) -> None:
    site.broker.failure = Overloaded("too many requests are open")
    assert site.call("srmLs", LS).code == "SRM_INTERNAL_ERROR"


def test_ping(site) -> None:
    answer = site.call("srmPing")
    assert answer.text("versionInfo") == "v2.2"
    about = {e.findtext("key"): e.findtext("value") for e in answer.part.iter("extraInfoArray")}
    assert about["backend_type"] == "srm-dicom"
    assert about["backend_version"]


def test_transfer_protocols(site) -> None:
    answer = site.call("srmGetTransferProtocols")
    assert [e.text for e in answer.part.iter("transferProtocol")] == ["gsiftp", "https"]


def test_permission_modes_as_digits() -> None:
    request = T.srmSetPermissionRequest(
        SURL="srm://h/f", permissionType="CHANGE", ownerPermission="7", otherPermission="0"
    )
    complete("srmSetPermissionRequest", request)
    assert (request.ownerPermission, request.otherPermission) == ("RWX", "NONE")


def test_records_refuse_misprints() -> None:
    with pytest.raises(TypeError, match="statuscode"):
        T.TReturnStatus(statuscode="SRM_SUCCESS")
    with pytest.raises(AttributeError, match="TNoSuchType"):
        T.TNoSuchType  # noqa: B018
    assert T.TReturnStatus(statusCode="SRM_DONE").explanation is None
    assert items(array("ArrayOfString", ["a"])) == ["a"]
    assert items(None) == items(T.ArrayOfString()) == []


@pytest.mark.parametrize("name", contract().operations)
def test_every_response_type_can_be_written_in_full(name: str) -> None:
    """Fill every element of the response type, recursive ones once, and read it back."""
    value = filled(f"{name}Response", depth=4)
    part = etree.fromstring(envelope(name, value)).find("{*}Body/{*}" + f"{name}Response")[0]
    assert [child.tag for child in part] == [field.name for field in contract().types[f"{name}Response"]]
    assert all("{" not in element.tag for element in part.iter())


def filled(type_name: str, depth: int) -> object:
    model = contract()
    if type_name in model.enums:
        return model.enums[type_name][0]
    if type_name not in model.types:
        simple = {
            "int": 1,
            "unsignedLong": 2**63,
            "boolean": True,
            "dateTime": datetime(2026, 1, 1, tzinfo=UTC),
        }
        return simple.get(type_name, "text")
    values = {}
    for field in model.types[type_name]:
        if depth or field.type not in model.types:
            value = filled(field.type, depth - 1)
            values[field.name] = [value] if field.many else value
    return T[type_name](**values)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_well_formed_request_gets_a_response(site, data) -> None:
    """Whatever stands in the elements of a request, the answer is a response of that operation."""
    operation = OPERATIONS[data.draw(st.sampled_from(sorted(OPERATIONS)))]
    text = st.text(
        st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"),
        max_size=20,
    )
    root = etree.Element("r")
    for field in contract().types[operation.request]:
        if data.draw(st.booleans()):
            fill(etree.SubElement(root, field.name), field.type, data, text)
    inner = b"".join(etree.tostring(child) for child in root).decode()
    assert site.call(operation.name, inner).part.tag == operation.response


def fill(element, type_name: str, data, text, depth: int = 3) -> None:
    fields = contract().types.get(type_name)
    if fields is None or depth == 0 or data.draw(st.integers(0, 9)) == 0:
        element.text = data.draw(text)
        return
    for field in fields:
        for _ in range(data.draw(st.integers(0, 2))):
            fill(etree.SubElement(element, field.name), field.type, data, text, depth - 1)

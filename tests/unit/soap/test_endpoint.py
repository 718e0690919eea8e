import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from srm_dicom import errors
from srm_dicom.soap.compat import Boolean, DateTime, Integer32, Unicode, UnsignedLong
from srm_dicom.soap.endpoint import application
from srm_dicom.soap.envelope import SOAP_ENVELOPE, body_entry
from srm_dicom.soap.faults import FAULT_CODES, error_of, fault
from srm_dicom.soap.rpc import Operation, complex_type, rpc_operation

TNS = "urn:test"
INNER = complex_type(TNS, "Inner", {"flag": Boolean, "when": DateTime})
REQUEST = complex_type(TNS, "lookRequest", {"names": [Unicode], "depth": Integer32, "inner": INNER})
RESPONSE = complex_type(TNS, "lookResponse", {"status": Unicode, "sizes": [UnsignedLong], "inner": INNER})
HEAD = f'<s:Envelope xmlns:s="{SOAP_ENVELOPE}" xmlns:t="{TNS}" xmlns:i="http://www.w3.org/2001/XMLSchema-instance">'


def look(environ, request):
    name = (request.names or [""])[0]
    if name in FAILURES:
        raise FAILURES[name]
    return RESPONSE(status=f"{environ['caller']} {request.depth}", sizes=[2**63, 0], inner=request.inner)


FAILURES = {
    "missing": errors.NotFound("no such name", advice="look elsewhere"),
    "defect": RuntimeError("secret"),
    "deep": RecursionError("secret"),
}
OPERATIONS = [
    rpc_operation("look", REQUEST, RESPONSE, look),
    Operation("version", {}, ("version", Unicode), lambda _environ: "1"),
    Operation("join", {"a": Unicode, "b": Unicode}, ("joined", Unicode), lambda _environ, a, b: f"{a}+{b}"),
    Operation("drop", {"a": Unicode}, None, lambda _environ, _a: None),
]


def call(body, *, app=None, method="POST", query="", raw=None):
    data = raw if raw is not None else f"{HEAD}<s:Body>{body}</s:Body></s:Envelope>".encode()
    environ = {
        "REQUEST_METHOD": method,
        "QUERY_STRING": query,
        "wsgi.input": io.BytesIO(data),
        "caller": "alice",
    }
    started = []
    app = app or application(OPERATIONS, TNS, "Test")
    answer = b"".join(app(environ, lambda status, headers: started.append((status, dict(headers)))))
    ((status, headers),) = started
    assert headers["Content-Length"] == str(len(answer))
    assert headers["Content-Type"] == "text/xml; charset=utf-8"
    return status[:3], answer


def entry(answer):
    return etree.fromstring(answer)[0][0]


def shape(element):
    """Tags and texts as nested lists."""
    return [element.tag, *([shape(child) for child in element] or [element.text])]


def test_children_are_unqualified_and_may_come_in_any_order():
    status, answer = call(
        "<t:look><lookRequest><depth>3</depth><names>a</names>"
        "<inner><when>2026-01-02T03:04:05Z</when><flag>true</flag></inner><names>b</names></lookRequest></t:look>"
    )
    assert status == "200"
    expected = [
        f"{{{TNS}}}lookResponse",
        [
            "lookResponse",
            ["status", "alice 3"],
            ["sizes", str(2**63)],
            ["sizes", "0"],
            ["inner", ["flag", "true"], ["when", "2026-01-02T03:04:05+00:00"]],
        ],
    ]
    assert shape(entry(answer)) == expected


@pytest.mark.parametrize(
    "body",
    [
        "<t:look/>",
        "<t:look><lookRequest/></t:look>",
        "<t:look><lookRequest i:nil='true'/></t:look>",
        "<t:look><lookRequest><depth i:nil='true'/><unknown>1</unknown></lookRequest></t:look>",
        "<t:look s:encodingStyle='http://schemas.xmlsoap.org/soap/encoding/'><lookRequest/></t:look>",
        "<t:look><lookRequest i:type='t:other'><names i:type='xsd:string'>a</names></lookRequest></t:look>",
    ],
)
def test_what_is_absent_nil_or_unknown_does_no_harm(body):
    status, answer = call(body)
    assert status == "200", answer
    assert entry(answer).findtext(".//status") == "alice None"


def test_references_of_axis_clients_are_followed():
    status, answer = call(
        "<t:look><lookRequest href='#r'/></t:look>"
        "<multiRef id='r'><depth href='#d'/></multiRef><multiRef id='d'>9</multiRef>"
    )
    assert (status, entry(answer).findtext(".//status")) == ("200", "alice 9")


def test_operations_of_no_one_and_several_parts():
    assert shape(entry(call("<t:version/>")[1]))[1:] == [["version", "1"]]
    assert shape(entry(call("<t:join><b>2</b><a>1</a></t:join>")[1]))[1:] == [["joined", "1+2"]]
    assert shape(entry(call("<t:join><b>2</b></t:join>")[1]))[1:] == [["joined", "None+2"]]
    assert shape(entry(call("<t:drop><a>1</a></t:drop>")[1])) == [f"{{{TNS}}}dropResponse", None]


def test_a_result_may_bring_its_own_writer():
    def written(result):
        return f"{HEAD}<s:Body><t:own>{result}</t:own></s:Body></s:Envelope>".encode()

    own = rpc_operation("look", REQUEST, RESPONSE, lambda _environ, _request: 5, encode=written)
    assert entry(call("<t:look/>", app=application([own], TNS, "Test"))[1]).text == "5"


def test_an_error_becomes_a_fault_that_can_be_raised_again():
    status, answer = call("<t:look><lookRequest><names>missing</names></lookRequest></t:look>")
    assert status == "500"
    found = entry(answer)
    assert found.findtext("faultcode") == "soapenv:Client"
    again = error_of(found)
    assert (type(again), again.message, again.advice) == (errors.NotFound, "no such name", "look elsewhere")


@pytest.mark.parametrize("name", ["defect", "deep"])
def test_a_defect_tells_nothing(name):
    status, answer = call(f"<t:look><lookRequest><names>{name}</names></lookRequest></t:look>")
    assert status == "500"
    assert isinstance(error_of(entry(answer)), errors.InternalError)
    assert b"secret" not in answer


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<t:confidential/>",
        "<look/>",
        f"<s:Fault xmlns:s='{SOAP_ENVELOPE}'><faultcode>confidential</faultcode></s:Fault>",
        "<t:look><lookRequest><depth>confidential</depth></lookRequest></t:look>",
        "<t:look><lookRequest><depth>99999999999</depth></lookRequest></t:look>",
        "<t:look><lookRequest><depth>1</depth><depth>confidential</depth></lookRequest></t:look>",
        "<t:look><lookRequest><inner><when>confidential</when></inner></lookRequest></t:look>",
        "<t:look><lookRequest><inner><flag>confidential</flag></inner></lookRequest></t:look>",
        "<t:look><lookRequest href='#confidential'/></t:look>",
        "<t:look><unclosed></t:look>",
    ],
)
def test_a_malformed_message_gets_a_fault_that_quotes_nothing(body):
    status, answer = call(body)
    assert status in ("500", "200")
    assert b"confidential" not in answer
    assert b"Traceback" not in answer
    if status == "500":
        assert FAULT_CODES[type(error_of(entry(answer)))] == "Client", answer


def test_an_oversized_message_gets_a_fault():
    app = application(OPERATIONS, TNS, "Test", max_message_bytes=1000)
    status, answer = call("<t:version/>" + " " * 1000, app=app)
    assert (status, type(error_of(entry(answer)))) == ("500", errors.TooLarge)


def test_errors_may_be_turned_into_responses():
    app = application(
        OPERATIONS, TNS, "Test", recover=lambda name, error: RESPONSE(status=f"{name}: {error.message}")
    )
    for names, said in (("missing", "look: no such name"), ("defect", "look: the server failed")):
        status, answer = call(f"<t:look><lookRequest><names>{names}</names></lookRequest></t:look>", app=app)
        assert status == "200"
        assert entry(answer).findtext(".//status").startswith(said)


def test_get_answers_the_wsdl_where_there_is_one():
    app = application(OPERATIONS, TNS, "Test", wsdl=b"<wsdl/>")
    assert call("", app=app, method="GET", query="WSDL") == ("200", b"<wsdl/>")
    assert call("", app=app, method="GET")[0] == "405"
    assert call("", method="GET", query="wsdl")[0] == "405"


@pytest.mark.parametrize("leaf", list(errors.leaves()))
def test_every_leaf_has_a_fault_code_and_comes_back(leaf):
    found = body_entry(fault(leaf("what", advice="do")))
    assert found.findtext("faultcode") == f"soapenv:{FAULT_CODES[leaf]}"
    assert type(error_of(found)) is leaf
    assert set(FAULT_CODES) == set(errors.leaves())


def test_other_faults_are_not_ours():
    assert error_of(etree.fromstring(f'<s:Fault xmlns:s="{SOAP_ENVELOPE}"><faultcode/></s:Fault>')) is None
    assert error_of(etree.fromstring("<x/>")) is None


@given(st.text(max_size=40), st.text(max_size=10))
def test_any_value_is_read_or_refused_with_a_fault(value, tag):
    element = etree.Element("lookRequest")
    try:
        etree.SubElement(element, tag).text = value
        etree.SubElement(element, "depth").text = value
    except ValueError:
        return
    body = f"<t:look>{etree.tostring(element, encoding='unicode')}</t:look>"
    assert call(body)[0] in ("200", "500")


def test_spyne_is_silent(capfd):
    call("<t:look><lookRequest><depth>confidential</depth></lookRequest></t:look>")
    call("<t:look><lookRequest><names>defect</names></lookRequest></t:look>")
    captured = capfd.readouterr()
    assert "confidential" not in captured.out + captured.err
    assert "secret" not in captured.out + captured.err
    assert "spyne" in sys.modules

"""Requests of 50,000 SURLs: each has an answer of its own type, and what is larger still has a reason."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from lxml import etree

from srm_dicom.identity.principal import Principal
from srm_dicom.srm.contract import NAMESPACE
from srm_dicom.srm.service import Settings, application
from srm_dicom.testing.element import ROOT, StorageElement
from srm_dicom.web.environ import PRINCIPAL

COUNT = 50_000
URLS = "".join(f"<urlArray>srm://localhost{ROOT}/{number}</urlArray>" for number in range(COUNT))
GETS = "".join(
    f"<requestArray><sourceSURL>srm://localhost{ROOT}/{number}</sourceSURL></requestArray>"
    for number in range(COUNT)
)
ENVELOPE = (
    '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:s="{0}"><e:Body>'
    "<s:{1}><{1}Request>{2}</{1}Request></s:{1}></e:Body></e:Envelope>"
)

CASES = {
    "srmPrepareToGet": (f"<arrayOfFileRequests>{GETS}</arrayOfFileRequests>", "SRM_TOO_MANY_RESULTS"),
    "srmLs": (f"<arrayOfSURLs>{URLS}</arrayOfSURLs>", "SRM_TOO_MANY_RESULTS"),
    "srmRm": (f"<arrayOfSURLs>{URLS}</arrayOfSURLs>", "SRM_FAILURE"),
}
"""The last is done: there is no such file."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("operation", CASES)
def test_fifty_thousand_names(element: StorageElement, operation: str) -> None:
    inside, expected = CASES[operation]
    body = ENVELOPE.format(NAMESPACE, operation, inside).encode()
    status, answer = call(element, body)
    assert status == "200 OK"
    code = answer.findtext(f"{{*}}Body/{{*}}{operation}Response/{operation}Response/returnStatus/statusCode")
    assert code == expected


def test_more_than_a_message_may_have(element: StorageElement) -> None:
    body = ENVELOPE.format(NAMESPACE, "srmRm", f"<arrayOfSURLs>{URLS * 4}</arrayOfSURLs>").encode()
    assert len(body) > Settings().max_message_bytes
    status, answer = call(element, body)
    assert status.startswith("500")
    assert "bytes" in answer.findtext("{*}Body/{*}Fault/faultstring", "")


def call(element: StorageElement, body: bytes) -> tuple[str, etree._Element]:
    until = element.clock.now() + timedelta(hours=1)
    who = Principal(element.pki.dn(element.bob), (), limited=False, expires=until)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/srm/managerv2",
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        PRINCIPAL: who,
    }
    statuses: list[str] = []
    content = b"".join(application(element.broker)(environ, lambda status, _: statuses.append(status)))
    return statuses[0], etree.fromstring(content)

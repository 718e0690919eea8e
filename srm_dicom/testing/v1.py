"""zeep as a client of SRM v1.1 over httpg, without a look at the internet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zeep

from srm_dicom.client.http import HttpClient
from srm_dicom.srm.v1.service import PATH
from srm_dicom.srm.v1.wsdl import document
from srm_dicom.srm.wsdl import ENCODING, XSD
from srm_dicom.testing.over_httpg import OverHttpg

_ENCODING_SCHEMA = f"""
<schema xmlns="{XSD}" xmlns:soapenc="{ENCODING}" targetNamespace="{ENCODING}">
  <attribute name="arrayType" type="string"/>
  <complexType name="Array">
    <sequence><any minOccurs="0" maxOccurs="unbounded"/></sequence>
    <attribute ref="soapenc:arrayType"/>
  </complexType>
</schema>
"""
"""What of the schema of SOAP encoding a reader of the WSDL needs; zeep would fetch the whole."""


class _WithoutInternet(OverHttpg):
    """Reads the one schema that is not ours from above."""

    def load(self, url: str) -> Any:
        """Read a document: a file, or that schema."""
        return _ENCODING_SCHEMA.encode() if url == ENCODING else super().load(url)  # type: ignore[no-untyped-call]


class V1:
    """One user's SRM v1.1; a call takes lists and gives what zeep makes of the answer."""

    def __init__(self, http: HttpClient, directory: Path) -> None:
        wsdl = directory / "srm.v1.1.wsdl"
        wsdl.write_bytes(document())
        self._service = zeep.Client(str(wsdl), transport=_WithoutInternet(http, PATH)).service  # type: ignore[no-untyped-call]

    def call(self, operation: str, *arguments: Any) -> Any:
        """Call an operation."""
        parts = ({"item": part} if isinstance(part, list) else part for part in arguments)
        return getattr(self._service, operation)(*parts)

"""GridSite's delegation service (`delegation-1` and `delegation-2`): its calls as messages, without I/O.

By it, davix and whatever is built on it give a proxy to a server that shall copy for them. rpc/literal SOAP:
the element in the body is named as the operation, the parameters have no namespace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

from lxml import etree

from srm_dicom.errors import InvalidRequest
from srm_dicom.rights.declare import Declaration, OpenAccess

NAMESPACES = tuple(f"http://www.gridsite.org/namespaces/delegation-{version}" for version in (1, 2))
CONTENT_TYPE = "text/xml; charset=utf-8"
INTERFACE_VERSION = "2.0.0"

_ENVELOPE = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"><SOAP-ENV:Body>'
    "{}</SOAP-ENV:Body></SOAP-ENV:Envelope>\n"
)
_OWN = OpenAccess("everybody's own credential")
_FACT = OpenAccess("a fact about this service")

OPERATIONS: Mapping[str, Declaration] = {
    "getVersion": _FACT,
    "getInterfaceVersion": _FACT,
    "getServiceMetadata": _FACT,
    "getProxyReq": _OWN,
    "getNewProxyReq": _OWN,
    "renewProxyReq": _OWN,
    "putProxy": _OWN,
    "getTerminationTime": _OWN,
    "destroy": _OWN,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the operation, the namespace that it came in, its parameters as text."""

    operation: str
    namespace: str
    parameters: Mapping[str, str]

    @classmethod
    def read(cls, entry: etree._Element) -> Call:
        """Read the element in the body of a message.

        Raises:
            InvalidRequest: no operation of this service.
        """
        name = etree.QName(entry)
        if name.namespace not in NAMESPACES or name.localname not in OPERATIONS:
            raise InvalidRequest("the delegation service has no such operation")
        parameters = {etree.QName(one).localname: one.text or "" for one in entry}
        return cls(name.localname, name.namespace or "", parameters)

    @property
    def delegation_id(self) -> str:
        """What the caller calls this credential."""
        return self.parameters.get("delegationID", "").strip()

    def answer(self, value: str | Mapping[str, str] | None) -> bytes:
        """Return the answering message; a mapping is a structure, None is nothing."""
        inside = "" if value is None else _element(f"{self.operation}Return", value)
        name = f"{self.operation}Response"
        return _ENVELOPE.format(f'<tns:{name} xmlns:tns="{self.namespace}">{inside}</tns:{name}>').encode()


def _element(name: str, value: str | Mapping[str, str]) -> str:
    if isinstance(value, str):
        return f"<{name}>{escape(value)}</{name}>"
    return f"<{name}>{''.join(_element(key, inside) for key, inside in value.items())}</{name}>"

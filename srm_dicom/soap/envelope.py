"""From the bytes of a SOAP 1.1 message to its body entry, without I/O and within bounds.

No DTD, no entity, no network, no nesting beyond reason. References of SOAP encoding (SOAP 1.1 section
5.4.1), which Axis clients send, are replaced by copies of what they name; a cycle, a reference to
nothing and an expansion beyond the bound are refused.
"""

from __future__ import annotations

from copy import deepcopy

from lxml import etree

from srm_dicom.errors import InvalidRequest, TooLarge

SOAP_ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
MAX_DEPTH = 48
MAX_COPIED_ELEMENTS = 50_000

_TOO_DEEP = etree.XPath("boolean(" + "/*" * (MAX_DEPTH + 1) + ")")
_HAS_REFERENCES = etree.XPath("boolean(.//@href)")
_MAX_CHAIN = 16


def body_entry(data: bytes) -> etree._Element:
    """Return the first element inside the Body of a message, its references resolved.

    Raises:
        InvalidRequest: not well-formed, a DTD, no SOAP 1.1 envelope, an empty body, more in it than one call
            and what that refers to (section 7.1: the others would not be answered), bad references.
        TooLarge: nested too deeply, or references that multiply.
    """
    envelope = _parsed(data)
    if envelope.tag != f"{{{SOAP_ENVELOPE}}}Envelope":
        raise InvalidRequest("a SOAP 1.1 envelope was expected")
    body = envelope.find(f"{{{SOAP_ENVELOPE}}}Body")
    if body is None or len(body) == 0:
        raise InvalidRequest("the SOAP body is empty")
    entry = body[0]
    if any(other is not entry and other.get("id") is None for other in body):
        raise InvalidRequest("the SOAP body has more than one call")
    if _HAS_REFERENCES(body):
        _References(body).resolve(entry, ())
    return entry


def _parsed(data: bytes) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise InvalidRequest("the message is not well-formed XML") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise InvalidRequest("a SOAP message has no document type declaration")
    if _TOO_DEEP(root):
        raise TooLarge(f"the message is nested deeper than {MAX_DEPTH} elements")
    return root


class _References:
    """The multi-reference values of one body."""

    def __init__(self, body: etree._Element) -> None:
        self._targets = {str(element.get("id")): element for element in body.iterfind(".//*[@id]")}
        self._left = MAX_COPIED_ELEMENTS

    def resolve(self, element: etree._Element, chain: tuple[str, ...]) -> None:
        """Replace every reference at and below `element`; `chain` names what it is inside of."""
        href = element.get("href")
        if href is not None:
            self._fill(element, href.removeprefix("#"), chain)
        named = href or element.get("id")
        if named is not None:
            chain = (*chain, named.removeprefix("#"))
        for child in element:
            self.resolve(child, chain)

    def _fill(self, element: etree._Element, name: str, chain: tuple[str, ...]) -> None:
        target = self._targets.get(name)
        if target is None or name in chain or target.get("href") is not None:
            raise InvalidRequest("a reference in the message leads nowhere or to itself")
        self._left -= sum(1 for _ in target.iter())
        if self._left < 0 or len(chain) > _MAX_CHAIN:
            raise TooLarge("the references in the message multiply beyond reason")
        del element.attrib["href"]
        for key, value in target.items():
            if key != "id":
                element.set(key, value)
        element.text = target.text
        element.extend(deepcopy(child) for child in target)

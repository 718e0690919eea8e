r"""Distinguished names: structured inside, one canonical slash form outside.

The canonical form is ``/TYPE=value/TYPE=value`` in the order of the certificate, values as they are
in UTF-8, unescaped. That is unambiguous only because names that could be read in two ways are refused
where they enter: multi-valued RDNs, control characters, backslashes, and values that themselves hold
``/type=``. Names compare by exact characters: some servers fold case and so log one user in as another.

On input (ACLs, ban files, grid-mapfiles, signing policies) the older spellings are understood:
``\/``, ``\xC3\xA9``, ``/Email=``, ``/E=``, ``/USERID=``.
"""

from __future__ import annotations

import re

from cryptography import x509

from srm_dicom.errors import InvalidRequest, NotAuthenticated

_SHORT = {
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.17": "postalCode",
    "2.5.4.42": "GN",
}
_OLD_SPELLINGS = {"Email": "emailAddress", "E": "emailAddress", "USERID": "UID"}
_TYPE = r"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)"
_LOOKS_LIKE_A_TYPE = re.compile(rf"/{_TYPE}=")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\\]")
_ESCAPE = re.compile(r"(?:\\x[0-9A-Fa-f]{2})+|\\([/+\\,])")
MAX_NAME_CHARS = 1024


def canonical(name: x509.Name) -> str:
    """Return the canonical slash form of a name out of a certificate.

    Raises:
        NotAuthenticated: the name could be read in more than one way, or is empty.
    """
    text = "".join(_relative(rdn) for rdn in name.rdns)
    if not text:
        raise NotAuthenticated("a certificate has an empty name")
    if len(text) > MAX_NAME_CHARS:
        raise NotAuthenticated(f"{printable(name)}: the name has more than {MAX_NAME_CHARS} characters")
    return text


def _relative(rdn: x509.RelativeDistinguishedName) -> str:
    attributes = list(rdn)
    if len(attributes) != 1:
        raise NotAuthenticated("a certificate's name has a component with several values")
    oid, value = attributes[0].oid.dotted_string, attributes[0].value
    if not isinstance(value, str):
        raise NotAuthenticated(f"a certificate's name has a component {oid} that is not text")
    if not value:
        raise NotAuthenticated(f"a certificate's name has an empty component {oid}")
    if _FORBIDDEN.search(value):
        raise NotAuthenticated(f"a certificate's name has a forbidden character in {oid}: {value!a}")
    if _LOOKS_LIKE_A_TYPE.search(value):
        raise NotAuthenticated(f"a certificate's name is ambiguous, {oid} holds another name: {value!a}")
    return f"/{_SHORT.get(oid, oid)}={value}"


def printable(name: x509.Name) -> str:
    """Return a bounded ASCII form of any name, for messages about names that were refused."""
    parts = []
    for rdn in name.rdns:
        pairs = (f"{_SHORT.get(one.oid.dotted_string, one.oid.dotted_string)}={one.value!a}" for one in rdn)
        parts.append("+".join(pairs).replace("'", ""))
    return ("/" + "/".join(parts))[:300]


def normalise(text: str) -> str:
    """Bring a name written by a person or an older program into the canonical form.

    Raises:
        InvalidRequest: not a name in slash form.
    """
    parts = re.split(rf"(?<!\\)/(?={_TYPE}=)", text.strip())
    if parts[0] != "" or len(parts) < 2 or len(text) > MAX_NAME_CHARS:
        raise InvalidRequest("a name is written /TYPE=value/TYPE=value")
    return "".join(_normal_component(part) for part in parts[1:])


def _normal_component(part: str) -> str:
    kind, _, value = part.partition("=")
    value = unescape(value)
    if not value or _FORBIDDEN.search(value) or _LOOKS_LIKE_A_TYPE.search(value):
        raise InvalidRequest("a name has an empty, ambiguous or forbidden value")
    return f"/{_OLD_SPELLINGS.get(kind, kind)}={value}"


def modern_types(pattern: str) -> str:
    """Rewrite the old type names of a pattern with wildcards, e.g. ``/Email=`` to ``/emailAddress=``."""
    return re.sub(r"/(Email|E|USERID)=", lambda match: f"/{_OLD_SPELLINGS[match[1]]}=", pattern)


def unescape(text: str) -> str:
    r"""Undo the escapes that OpenSSL's one-line form uses: ``\/``, ``\+`` and UTF-8 as ``\xC3\xA9``.

    Raises:
        InvalidRequest: the escaped bytes are not UTF-8.
    """

    def plain(match: re.Match[str]) -> str:
        if match[1] is not None:
            return match[1]
        return bytes.fromhex(match[0].replace("\\x", "")).decode("utf-8")

    try:
        return _ESCAPE.sub(plain, text)
    except UnicodeDecodeError as error:
        raise InvalidRequest("a name has an escape that is not UTF-8") from error

"""What must be decided about a chain after OpenSSL has verified it. Pure.

OpenSSL checks signatures, dates, revocation, key sizes, usages and most of RFC 3820. It does not know
signing policies, limited proxies or policy languages, accepts a proxyCertInfo that is not critical,
compares names without regard to case, and gives out names that text forms confuse. Those are decided
here, in one walk from the leaf to the root:

1. leading certificates with a proxyCertInfo are proxies: known language, critical, nothing else asked;
2. the first one without is the end entity: a person or a host, no authority, no old-style proxy;
3. the rest are authorities, and each may sign what is below it.

The identity is the end entity's; nothing is ever stripped off the text of a name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.x509.oid import NameOID

from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity import dn
from srm_dicom.identity.policy import SigningPolicies
from srm_dicom.identity.proxyinfo import (
    DRAFT_PROXY_CERT_INFO,
    INDEPENDENT,
    INHERIT_ALL,
    LIMITED,
    PROXY_CERT_INFO,
    ProxyInfo,
)

MALFORMED = (ValueError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)
"""What `cryptography` raises, sometimes late, for a certificate that is not well-formed."""

_OLD_PROXY = re.compile(r"/CN=(?:limited )?proxy\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a chain proves.

    Attributes:
        dn: canonical name of the end entity.
        limited: some proxy of the chain is limited; a proxy below a limited one inherits that.
        expires: earliest end of validity, of the whole chain.
        proxies: proxies from the leaf up; empty when the end entity came itself.
        end_entity: its certificate.
        authorities: from the end entity's issuer up to the root.
    """

    dn: str
    limited: bool
    expires: datetime
    proxies: tuple[x509.Certificate, ...]
    end_entity: x509.Certificate
    authorities: tuple[x509.Certificate, ...]

    @property
    def authority_dns(self) -> tuple[str, ...]:
        """Canonical names of the authorities."""
        return tuple(dn.canonical(authority.subject) for authority in self.authorities)


def decide(ders: Sequence[bytes], policies: SigningPolicies, *, max_proxies: int = 10) -> Standing:
    """Decide about a chain that OpenSSL has verified.

    Args:
        ders: certificates from the leaf to the root, DER.
        policies: whom the authorities may sign.
        max_proxies: the longest row of proxies that is taken.

    Raises:
        NotAuthenticated: naming the certificate and the reason.
    """
    try:
        chain = [x509.load_der_x509_certificate(der) for der in ders]
        return _decide(chain, policies, max_proxies)
    except MALFORMED as error:
        raise NotAuthenticated(f"a certificate of the chain is malformed: {error}") from error


def _decide(chain: Sequence[x509.Certificate], policies: SigningPolicies, max_proxies: int) -> Standing:
    count, limited = 0, False
    while count < len(chain) and (info := proxy_info(chain[count])) is not None:
        limited |= is_limited(chain[count], info)
        count += 1
        if count > max_proxies:
            raise _refused(chain[0], f"more than {max_proxies} proxies in a row")
    if count >= len(chain) - 1:
        raise NotAuthenticated("the chain has no end entity that an authority has signed")
    for lower, upper in pairwise(chain):
        if lower.issuer != upper.subject:
            raise _refused(lower, "its issuer is not written like the name of the certificate above it")
    for proxy, issuer in pairwise(chain[: count + 1]):
        check_proxy_name(proxy, issuer)
    end_entity, authorities = chain[count], tuple(chain[count + 1 :])
    name = _end_entity_name(end_entity)
    for lower, upper in pairwise(chain[count:]):
        policies.check(dn.canonical(upper.subject), dn.canonical(lower.subject))
    expires = min(certificate.not_valid_after_utc for certificate in chain)
    return Standing(name, limited, expires, tuple(chain[:count]), end_entity, authorities)


def proxy_info(certificate: x509.Certificate) -> ProxyInfo | None:
    """Return what a proxy says about itself, None for a certificate that is no proxy.

    Raises:
        NotAuthenticated: it tries to be a proxy in a way that is not RFC 3820's.
        ValueError: an extension is malformed.
    """
    found = None
    for extension in certificate.extensions:
        if extension.oid == DRAFT_PROXY_CERT_INFO:
            raise _refused(certificate, "a draft (GSI-3) proxy; make an RFC 3820 proxy")
        if extension.oid == PROXY_CERT_INFO:
            found = extension
    if found is None:
        return None
    if not found.critical:
        raise _refused(certificate, "its proxyCertInfo is not critical (RFC 3820, 3.8)")
    return ProxyInfo.parse(found.value.public_bytes())


def is_limited(proxy: x509.Certificate, info: ProxyInfo) -> bool:
    """Say whether a proxy is limited.

    Raises:
        NotAuthenticated: its policy is none that we can hold it to.
    """
    if info.language == INDEPENDENT:
        raise _refused(proxy, "an independent proxy carries no right of its issuer")
    if info.language not in (INHERIT_ALL, LIMITED):
        raise _refused(proxy, f"unknown proxy policy language {info.language}")
    if info.text is not None:
        raise _refused(proxy, "a proxy policy that has a text which nobody here can read")
    if info.path_length is not None and info.path_length < 0:  # to OpenSSL that is no limit
        raise _refused(proxy, "a negative path length")
    return info.language == LIMITED


def check_proxy_name(proxy: x509.Certificate, issuer: x509.Certificate) -> None:
    """Hold RFC 3820, 3.4: the issuer's name and exactly one more CN.

    Raises:
        NotAuthenticated: any other name.
    """
    names = list(proxy.subject.rdns)
    own = list(names.pop()) if names else []
    if names != list(issuer.subject.rdns) or len(own) != 1 or own[0].oid != NameOID.COMMON_NAME:
        raise _refused(proxy, "a proxy is named like its issuer and one more CN")


def _end_entity_name(certificate: x509.Certificate) -> str:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        constraints = None
    if constraints is not None and constraints.value.ca:
        raise _refused(certificate, "an authority does not log in")
    name = dn.canonical(certificate.subject)
    if _OLD_PROXY.search(name):
        raise _refused(certificate, "an old-style (GT2) proxy; make an RFC 3820 proxy")
    return name


def _refused(certificate: x509.Certificate, reason: str) -> NotAuthenticated:
    return NotAuthenticated(f"{dn.printable(certificate.subject)}: {reason}")

"""Names that are unusual and good, and names that could be read in two ways."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from srm_dicom.identity.credential import Credential
from srm_dicom.identity.proxyinfo import INHERIT_ALL
from srm_dicom.testing.cases.case import Case, Make, bad, good
from srm_dicom.testing.cases.workshop import ALICE, BASE, SIGNS, Workshop
from srm_dicom.testing.certificates import Authority, name_of, new_ec_key, proxy_info

_ABOVE = "/DC=test/DC=mdm"


def user(*common_names: str) -> Make:
    """Issue a user of these names."""
    return lambda shop: shop.user(*common_names)


def proxy_of(*common_names: str) -> Make:
    """Sign a proxy with a user of these names."""
    return lambda shop: shop.below(shop.user(*common_names))


def _typed(value: str, kind: _ASN1Type) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.COMMON_NAME, value, _type=kind)


def _encoded(value: str, kind: _ASN1Type) -> Make:
    def make(shop: Workshop) -> Credential:
        own = x509.RelativeDistinguishedName([_typed(value, kind)])
        return shop.named(x509.Name([*name_of(*BASE).rdns, own]))

    return make


def _issuer_encoded(kind: _ASN1Type) -> Make:
    """Write the authority's name in another string type than the authority does itself."""

    def make(shop: Workshop) -> Credential:
        own = x509.RelativeDistinguishedName([_typed("MDM Test CA", kind)])
        return shop.user("Alice", issuer=x509.Name([*name_of(*BASE).rdns, own]))

    return make


def _proxy_encoded(shop: Workshop) -> Credential:
    """Write the user's name in another string type than the user's certificate does."""
    mine = [
        *name_of(*BASE).rdns,
        x509.RelativeDistinguishedName([_typed("Alice", _ASN1Type.PrintableString)]),
    ]
    subject = x509.Name([*mine, *name_of(("CN", "1")).rdns])
    return shop.forged(
        shop.user("Alice"), (proxy_info(INHERIT_ALL), True), SIGNS, subject=subject, issuer=x509.Name(mine)
    )


def _folded_issuer(shop: Workshop) -> Credential:
    return shop.user("Alice", issuer=name_of(*BASE, ("CN", "mdm test ca")))


def _folded_proxy(shop: Workshop) -> Credential:
    """Name the user in small letters: servers that fold case take this for the user."""
    mine = name_of(*BASE, ("CN", "alice"))
    subject = name_of(*BASE, ("CN", "alice"), ("CN", "1"))
    return shop.forged(shop.alice(), (proxy_info(INHERIT_ALL), True), SIGNS, subject=subject, issuer=mine)


def _multi_valued(shop: Workshop) -> Credential:
    both = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Alice"), x509.NameAttribute(NameOID.USER_ID, "alice")]
    )
    return shop.named(x509.Name([*name_of(*BASE).rdns, both]))


def _email(shop: Workshop) -> Credential:
    return shop.named(name_of(*BASE, ("CN", "Eve"), ("emailAddress", "eve@example.org")))


def _old_email_policy(shop: Workshop) -> Credential:
    authority = Authority.create(name_of(("O", "other"), ("CN", "Other CA")), key=new_ec_key())
    authority.install(shop.trust_dir, "/O=other/CN=*/Email=*@example.org")
    subject = name_of(("O", "other"), ("CN", "Eve"), ("emailAddress", "eve@example.org"))
    return shop.named(subject, authority=authority)


def _user_id(shop: Workshop) -> Credential:
    own = x509.NameAttribute(NameOID.USER_ID, "alice")
    return shop.named(x509.Name([*name_of(*BASE).rdns, x509.RelativeDistinguishedName([own])]))


def _email_as_text(shop: Workshop) -> Credential:
    own = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "eve@example.org", _type=_ASN1Type.UTF8String)
    above = name_of(*BASE, ("CN", "Eve"))
    return shop.named(x509.Name([*above.rdns, x509.RelativeDistinguishedName([own])]))


def _domains_as_text(shop: Workshop) -> Credential:
    """Write the user's domain components in another string type than the authority does."""
    typed = (
        x509.NameAttribute(NameOID.DOMAIN_COMPONENT, value, _type=_ASN1Type.UTF8String) for _, value in BASE
    )
    above = [x509.RelativeDistinguishedName([one]) for one in typed]
    return shop.below(shop.named(x509.Name([*above, *name_of(("CN", "Alice")).rdns])))


def _attributes(*oids: x509.ObjectIdentifier) -> Make:
    """Issue a user of more attributes, each with the value ``x``."""
    more = [x509.RelativeDistinguishedName([x509.NameAttribute(oid, "x")]) for oid in oids]
    return lambda shop: shop.below(shop.named(x509.Name([*name_of(*BASE).rdns, *more])))


def _empty(shop: Workshop) -> Credential:
    return shop.named(x509.Name([]))


def _patched(old: bytes, new: bytes) -> Make:
    return lambda shop: shop.patched(shop.user("Alice"), old, new)


CASES: Mapping[str, Case] = {
    "plain": good(user("Alice")),
    "two CNs": good(user("Alice", "Bob"), f"{ALICE}/CN=Bob"),
    "numeric CN of a person": good(user("Alice", "123456"), f"{ALICE}/CN=123456"),
    "proxy of a numeric name": good(proxy_of("Alice", "123456"), f"{ALICE}/CN=123456"),
    "slash": good(user("Robot/gw.example.org"), f"{_ABOVE}/CN=Robot/gw.example.org"),
    "host": good(user("host/gw.example.org"), f"{_ABOVE}/CN=host/gw.example.org"),
    "slash at the end": good(user("Alice/"), f"{ALICE}/"),
    "other alphabets": good(user("Zoë Łukasz 李"), f"{_ABOVE}/CN=Zoë Łukasz 李"),
    "comma": good(user("Example, Alice"), f"{_ABOVE}/CN=Example, Alice"),
    "quotation mark": good(user('Alice "Al" O\'Neil'), f'{_ABOVE}/CN=Alice "Al" O\'Neil'),
    "equals sign": good(user("a=b"), f"{_ABOVE}/CN=a=b"),
    "plus": good(user("Alice+CN=Bob"), f"{_ABOVE}/CN=Alice+CN=Bob"),
    "parentheses and colon": good(user("Alice (robot:mdm)"), f"{_ABOVE}/CN=Alice (robot:mdm)"),
    "named like a proxy, nearly": good(user("Proxy Smith"), f"{_ABOVE}/CN=Proxy Smith"),
    "lower case is somebody else": good(user("alice"), f"{_ABOVE}/CN=alice"),
    "64 characters": good(user("x" * 64), f"{_ABOVE}/CN={'x' * 64}"),
    "email": good(_email, f"{_ABOVE}/CN=Eve/emailAddress=eve@example.org"),
    "old spelling in the signing policy": good(
        _old_email_policy, "/O=other/CN=Eve/emailAddress=eve@example.org"
    ),
    "email as UTF8String": good(_email_as_text, f"{_ABOVE}/CN=Eve/emailAddress=eve@example.org"),
    "email in the middle": good(
        lambda shop: shop.named(name_of(*BASE, ("emailAddress", "e@x.org"), ("CN", "Eve"))),
        f"{_ABOVE}/emailAddress=e@x.org/CN=Eve",
    ),
    "surname, given name, title, serial number": good(
        _attributes(NameOID.SURNAME, NameOID.GIVEN_NAME, NameOID.TITLE, NameOID.SERIAL_NUMBER),
        f"{_ABOVE}/SN=x/GN=x/title=x/serialNumber=x",
    ),
    "attribute without a short name": good(
        _attributes(NameOID.PSEUDONYM, NameOID.COMMON_NAME), f"{_ABOVE}/2.5.4.65=x/CN=x"
    ),
    "country and organisation": good(
        lambda shop: shop.named(name_of(("DC", "test"), ("DC", "mdm"), ("C", "CH"), ("O", "Uni"))),
        f"{_ABOVE}/C=CH/O=Uni",
    ),
    "spaces at the ends": good(user(" Alice "), f"{_ABOVE}/CN= Alice "),
    "two spaces": good(user("Alice  Example"), f"{_ABOVE}/CN=Alice  Example"),
    "hash sign": good(user("#1 Alice"), f"{_ABOVE}/CN=#1 Alice"),
    "domain components as UTF8String": good(_domains_as_text),
    "user id": good(_user_id, f"{_ABOVE}/UID=alice"),
    "PrintableString": good(_encoded("Alice", _ASN1Type.PrintableString)),
    "IA5String": good(_encoded("Alice", _ASN1Type.IA5String)),
    "TeletexString": good(_encoded("Alice", _ASN1Type.T61String)),
    "BMPString": good(_encoded("Renée", _ASN1Type.BMPString), f"{_ABOVE}/CN=Renée"),
    "UniversalString": good(_encoded("Renée", _ASN1Type.UniversalString), f"{_ABOVE}/CN=Renée"),
    "issuer as PrintableString": good(_issuer_encoded(_ASN1Type.PrintableString)),
    "issuer as BMPString": good(_issuer_encoded(_ASN1Type.BMPString)),
    "proxy as PrintableString": good(_proxy_encoded),
    "slash injection": bad(user("Mallory/CN=Alice"), "ambiguous"),
    "slash injection in the middle": bad(user("Mallory/O=x", "Alice"), "ambiguous"),
    "slash injection with an OID": bad(user("Mallory/2.5.4.3=Alice"), "ambiguous"),
    "slash injection, other type": bad(user("x/DC=test/DC=mdm/CN=Alice"), "ambiguous"),
    "proxy of a slash injection": bad(proxy_of("Mallory/CN=Alice"), "ambiguous"),
    "multi-valued": bad(_multi_valued, "several values"),
    "proxy of a multi-valued name": bad(lambda shop: shop.below(_multi_valued(shop)), "several values"),
    "NUL": bad(user("Alice\0.example.org"), "forbidden character"),
    "newline": bad(user("Alice\nCN=Bob"), "forbidden character"),
    "tab": bad(user("Alice\tBob"), "forbidden character"),
    "DEL": bad(user("Alice\x7f"), "forbidden character"),
    "C1 control": bad(user("Alice\x85"), "forbidden character"),
    "backslash": bad(user("Alice\\/CN"), "forbidden character"),
    "line separator": bad(user("Alice\u2028Bob"), "forbidden character"),
    "direction override": bad(user("Alice\u202eboB"), "forbidden character"),
    "NUL in a BMPString": bad(_encoded("Alice\0", _ASN1Type.BMPString), "forbidden character"),
    "Latin-1 in a TeletexString": bad(_patched(b"\x0c\x05Alice", b"\x14\x05Ren\xe9e"), "malformed"),
    "Latin-1 in a UTF8String": bad(_patched(b"\x0c\x05Alice", b"\x0c\x05Ren\xe9e")),
    "bytes for a name": bad(_patched(b"\x0c\x05Alice", b"\x04\x05Alice")),
    "very long": bad(
        lambda shop: shop.named(name_of(*BASE, *[("OU", f"{number:060}") for number in range(20)])),
        "more than 1024 characters",
    ),
    "issuer with other spaces": bad(
        lambda shop: shop.user("Alice", issuer=name_of(*BASE, ("CN", "MDM  Test CA"))), "not written like"
    ),
    "nothing": bad(_empty, "empty name"),
    "end entity named proxy": bad(user("Alice", "proxy"), "old-style"),
    "end entity named Limited Proxy": bad(user("Alice", "Limited Proxy"), "old-style"),
    "proxy of an end entity named proxy": bad(proxy_of("Alice", "proxy"), "old-style"),
    "issuer in another case": bad(_folded_issuer, "not written like"),
    "proxy's issuer in another case": bad(_folded_proxy, "not written like"),
}

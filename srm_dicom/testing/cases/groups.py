"""VOMS attribute certificates: groups that are proved, and groups that only are said.

A bad attribute certificate costs its owner the groups and not the login.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asn1crypto import core
from cryptography import x509

from srm_dicom.identity.attributecert import (
    ATTRIBUTE_CERTIFICATES,
    GENERIC_ATTRIBUTES,
    NO_REVOCATION,
    TARGETS,
)
from srm_dicom.identity.credential import Credential
from srm_dicom.testing.cases.case import Case, Make, bad, good, groupless
from srm_dicom.testing.cases.workshop import AUTHORITY, BASE, DAY, EVERYTHING, HOST, USER, VO, Workshop, now
from srm_dicom.testing.certificates import (
    Authority,
    key_usage,
    name_of,
    read_credential,
    subject_hash,
    tlv,
)
from srm_dicom.testing.voms import TestVo, extension

_VO = f"/{VO}"
ROLE = f"{_VO}/radiology/Role=physician"
GROUPS = (ROLE, _VO, f"{_VO}/radiology")
_SERVER = "/DC=test/DC=mdm/CN=voms2"


def carrying(shop: Workshop, *certificates: bytes, **options: Any) -> Credential:
    """Sign a proxy of Alice with these attribute certificates."""
    return shop.pki.proxy(shop.alice(), extensions=[(extension(certificates), False)], **options)


def proving(*fqans: str, **options: Any) -> Make:
    """Sign a proxy with one good attribute certificate; `options` are those of `TestPki.proxy`."""
    return lambda shop: shop.vo.proxy(shop.alice(), *fqans, **options)


def saying(*fqans: str, **changes: Any) -> Make:
    """Sign an attribute certificate with other fields than it should have."""
    return lambda shop: carrying(shop, shop.vo.attributes(shop.alice(), *(fqans or (_VO,)), **changes))


def then(make: Make, change: Callable[[Workshop], object]) -> Make:
    """Make a credential, and change something about the trust in it afterwards."""

    def changed(shop: Workshop) -> Credential:
        credential = make(shop)
        change(shop)
        return credential

    return changed


def raw(value: bytes) -> Make:
    """Put any bytes where the attribute certificates are."""
    broken = x509.UnrecognizedExtension(ATTRIBUTE_CERTIFICATES, value)
    return lambda shop: shop.pki.proxy(shop.alice(), extensions=[(broken, False)])


def aimed_at(*uris: str, deep: bool = True, tag: int = 0x86) -> Make:
    """Restrict to hosts; RFC 5755 and the VOMS C API nest the list at different depths."""
    names = tlv(0x30, b"".join(tlv(0xA0, tlv(tag, uri.encode())) for uri in uris))
    return saying(extensions=[(TARGETS, True, tlv(0x30, names) if deep else names)])


def lsc(text: str, name: str = "voms.mdm.test.lsc") -> Callable[[Workshop], object]:
    """Replace a list of the organisation's servers."""
    return lambda shop: (shop.vo.vomsdir / VO / name).write_text(text, "utf-8")


# --- servers ---------------------------------------------------------------------------------------


def _server(authority: Authority, shop: Workshop, **options: Any) -> Credential:
    return shop.named(name_of(*BASE, ("CN", "voms2")), authority=authority, **options)


def by_server(authority_of: Callable[[Workshop], Authority], *, send: bool = False, **options: Any) -> Make:
    """Have another server sign, one of another authority, and list it."""

    def make(shop: Workshop) -> Credential:
        authority = authority_of(shop)
        chain, key = read_credential(_server(authority, shop, **options))
        issuer = "".join(f"/{one.rfc4514_attribute_name}={one.value!s}" for one in chain[0].issuer)
        lsc(f"{_SERVER}\n{issuer}\n", "second.lsc")(shop)
        embedded = [chain[0], authority.certificate] if send else [chain[0]]
        made = shop.vo.attributes(shop.alice(), _VO, signer=chain[0], key=key, embedded=embedded)
        return carrying(shop, made)

    return make


def below_root(*patterns: str, install: bool = True, **options: Any) -> Callable[[Workshop], Authority]:
    """Make an authority below the usual one."""
    return lambda shop: shop.authority(
        "Sub CA", *(patterns or (EVERYTHING,)), below=shop.pki.authority, install=install, **options
    )


def _other_root(*patterns: str, install: bool = True) -> Callable[[Workshop], Authority]:
    return lambda shop: shop.authority("Far CA", *patterns, install=install)


def _user_as_authority(shop: Workshop) -> Authority:
    chain, key = read_credential(shop.pki.user("Mallory"))
    return Authority(chain[0], key)


def _without_crl(shop: Workshop) -> Authority:
    made = below_root()(shop)
    (shop.trust_dir / f"{subject_hash(made.certificate.subject)}.r0").unlink()
    return made


def _usual(shop: Workshop) -> Authority:
    return shop.pki.authority


def _by_root_itself(shop: Workshop) -> Credential:
    root = shop.pki.authority
    return carrying(shop, shop.vo.attributes(shop.alice(), _VO, signer=root.certificate, key=root.key))


def _by_alice_herself(shop: Workshop) -> Credential:
    chain, key = read_credential(shop.alice())
    return carrying(shop, shop.vo.attributes(shop.alice(), _VO, signer=chain[0], key=key))


# --- holders and organisations -----------------------------------------------------------------------


def _for_bob(shop: Workshop) -> Credential:
    return carrying(shop, shop.vo.attributes(shop.pki.user("Bob"), _VO))


def _for_the_proxy(shop: Workshop) -> Credential:
    proxy = shop.pki.proxy(shop.alice())
    serial = read_credential(proxy)[0][0].serial_number
    made = shop.vo.attributes(shop.alice(), _VO, holder_serial=serial)
    return shop.pki.proxy(proxy, extensions=[(extension([made]), False)])


def _two_organisations(shop: Workshop) -> Credential:
    other = TestVo(shop.pki, "astro.test")
    both = shop.vo.attributes(shop.alice(), _VO), other.attributes(shop.alice(), "/astro.test/dark")
    return carrying(shop, *both)


def _twice(shop: Workshop) -> Credential:
    """Carry two attribute certificates of one server."""
    both = shop.vo.attributes(shop.alice(), _VO), shop.vo.attributes(shop.alice(), ROLE, _VO)
    return carrying(shop, *both)


def _one_bad_of_two(shop: Workshop) -> Credential:
    late = shop.vo.attributes(shop.alice(), f"{_VO}/a", not_after=now() - DAY)
    return carrying(shop, late, shop.vo.attributes(shop.alice(), _VO))


def _foreign_groups(shop: Workshop) -> Credential:
    """Have the server of one organisation speak for another that it is not listed for."""
    other = TestVo(shop.pki, "astro.test")
    return carrying(shop, other.attributes(shop.alice(), _VO, uri="astro.test://x:1"))


def _listed_for_another(shop: Workshop) -> Credential:
    """Have a server that is listed for another organisation only speak for this one."""
    TestVo(shop.pki, "astro.test")
    lsc("/CN=somebody\n/CN=else\n")(shop)
    return shop.vo.proxy(shop.alice(), _VO)


def _nearest_counts(shop: Workshop) -> Credential:
    return shop.vo.proxy(shop.vo.proxy(shop.alice(), *GROUPS), _VO)


def _bad_one_nearest(shop: Workshop) -> Credential:
    late = shop.vo.attributes(shop.alice(), _VO, not_after=now() - DAY)
    inner = shop.vo.proxy(shop.alice(), *GROUPS)
    return shop.pki.proxy(inner, extensions=[(extension([late]), False)])


def _in_the_user_certificate(shop: Workshop) -> Credential:
    """Take groups out of the end entity itself, as some portals' robots carry them."""
    serial = 4711
    key = shop.key()
    plain = shop.user("Alice", serial=serial, key=key)
    groups = extension([shop.vo.attributes(plain, _VO)])
    return shop.user("Alice", serial=serial, key=key, extensions=[*USER, (groups, False)])


def _tampered(shop: Workshop) -> Credential:
    made = shop.vo.attributes(shop.alice(), f"{_VO}/radiology")
    return carrying(shop, made.replace(b"/radiology", b"/physician"))


def _refusing(make: Make) -> Make:
    def set_to_refuse(shop: Workshop) -> Credential:
        shop.settings["voms_on_bad_ac"] = "refuse"
        return make(shop)

    return set_to_refuse


def _deep(levels: int) -> bytes:
    value = b""
    for _ in range(levels):
        value = core.Sequence(contents=value).dump()
    return bytes(value)


_LISTED = f"{_SERVER.replace('voms2', 'voms.mdm.test')}\n/DC=test/DC=mdm/CN=MDM Test CA\n"
_ONLY_SIGNS = [USER[0], (key_usage("digital_signature"), True)]

CASES: Mapping[str, Case] = {
    "role first": good(proving(*GROUPS), fqans=GROUPS),
    "without NULLs": good(
        proving(f"{_VO}/a/Role=NULL/Capability=NULL", f"{_VO}/Role=NULL"), fqans=(f"{_VO}/a", _VO)
    ),
    "limited": good(proving(*GROUPS, limited=True), limited=True, fqans=GROUPS),
    "limited below": good(
        lambda shop: shop.pki.proxy(proving(*GROUPS)(shop), limited=True), limited=True, fqans=GROUPS
    ),
    "two proxies below": good(lambda shop: shop.below(shop.below(proving(*GROUPS)(shop))), fqans=GROUPS),
    "nearest to the leaf counts": good(_nearest_counts, fqans=(_VO,)),
    "in the user's certificate": good(_in_the_user_certificate, fqans=(_VO,)),
    "two organisations": good(_two_organisations, fqans=(_VO, "/astro.test/dark")),
    "one bad of two": good(_one_bad_of_two, fqans=(_VO,)),
    "900 groups": good(
        proving(*(f"{_VO}/{number}" for number in range(900))),
        fqans=tuple(f"{_VO}/{number}" for number in range(900)),
    ),
    "for this host": good(aimed_at(f"https://{HOST}:8446/srm", "x.example.org"), fqans=(_VO,)),
    "for this host, as VOMS writes it": good(aimed_at(f"x://{HOST}", deep=False), fqans=(_VO,)),
    "for this host by its name": good(aimed_at(HOST, tag=0x82), fqans=(_VO,)),
    "unknown extension": good(saying(extensions=[("1.2.3.4", False, b"\x05\x00")]), fqans=(_VO,)),
    "SHA-512": good(saying(hash_name="sha512"), fqans=(_VO,)),
    "server below another authority": good(by_server(below_root(), send=True), fqans=(_VO,)),
    "authority of the server not sent": good(by_server(below_root()), fqans=(_VO,)),
    "server for signing only": good(by_server(_usual, extensions=_ONLY_SIGNS), fqans=(_VO,)),
    "server in a second chain": good(
        then(proving(_VO), lsc(f"/CN=a\n/CN=b\n------ NEXT CHAIN ------\n{_LISTED}")), fqans=(_VO,)
    ),
    "generic attributes": good(saying(extensions=[(GENERIC_ATTRIBUTES, False, b"\x30\x00")]), fqans=(_VO,)),
    "capability": good(proving(f"{_VO}/Role=x/Capability=y"), fqans=(f"{_VO}/Role=x/Capability=y",)),
    "group of digits, dashes and underscores": good(
        proving(f"{_VO}/2026-a_b/c.d"), fqans=(f"{_VO}/2026-a_b/c.d",)
    ),
    "server without a port": good(saying(uri=f"{VO}://voms.mdm.test"), fqans=(_VO,)),
    "twice the same organisation": good(_twice, fqans=(_VO, ROLE)),
    "longer than its proxy": good(saying(not_after=now() + 30 * DAY), fqans=(_VO,)),
    "list with lines of DOS": good(then(proving(_VO), lsc(_LISTED.replace("\n", "\r\n"))), fqans=(_VO,)),
    "list of a whole chain": good(
        then(proving(_VO), lsc(_LISTED + _LISTED.splitlines()[1] + "\n" + _LISTED.splitlines()[1])),
        fqans=(_VO,),
    ),
    "list with a comment": good(then(proving(_VO), lsc(f"# ours\n\n{_LISTED}")), fqans=(_VO,)),
    "another list that cannot be read": good(then(proving(_VO), lsc("nothing\n", "a.lsc")), fqans=(_VO,)),
    "bad one nearest to the leaf": groupless(_bad_one_nearest, "not valid now"),
    "for another user": groupless(_for_bob, "made for another certificate"),
    "for the proxy": groupless(_for_the_proxy, "made for another certificate"),
    "for a user of another authority": groupless(
        saying(holder_issuer=name_of(("CN", "Other"))), "somebody of another authority"
    ),
    "for another serial number": groupless(saying(holder_serial=7), "made for another certificate"),
    "expired": groupless(saying(not_before=now() - 2 * DAY, not_after=now() - DAY), "not valid now"),
    "not yet valid": groupless(saying(not_before=now() + DAY, not_after=now() + 2 * DAY), "not valid now"),
    "unknown critical extension": groupless(
        saying(extensions=[("1.2.3.4", True, b"\x05\x00")]), "unknown critical extension"
    ),
    "extension twice": groupless(saying(extensions=[(NO_REVOCATION, False, b"\x05\x00")]), "twice"),
    "for other hosts": groupless(aimed_at("https://x.example.org"), "restricted"),
    "for a host that begins like this": groupless(aimed_at(f"x://{HOST}.evil.org"), "restricted"),
    "for no host": groupless(saying(extensions=[(TARGETS, True, b"\x30\x00")]), "restricted"),
    "targets nested deep": groupless(saying(extensions=[(TARGETS, True, _deep(40))]), "nested too deep"),
    "groups of another organisation": groupless(saying("/astro.test/dark"), "another virtual organisation"),
    "one group of another organisation": groupless(
        saying(_VO, "/biomed.testing/x"), "another virtual organisation"
    ),
    "server of another organisation": groupless(_foreign_groups, "another virtual organisation"),
    "server listed for another organisation": groupless(_listed_for_another, "not a server of"),
    "organisation that is not listed": groupless(saying("/no.test", uri="no.test://v:1"), "not a server of"),
    "organisation with a path": groupless(saying("/../x", uri="../x://v:1"), "not the name"),
    "organisation of dots": groupless(saying("/../x", uri="..://v:1"), "not the name"),
    "organisation with a slash": groupless(saying("/a/b", uri=f"{VO}/../{VO}://v:1"), "not the name"),
    "no organisation": groupless(saying(uri="nothing"), "not the name"),
    "group with a newline": groupless(saying(f"{_VO}/a\n"), "not written like one"),
    "group with a NUL": groupless(saying(f"{_VO}/a\0b"), "not written like one"),
    "group with a space": groupless(saying(f"{_VO}/a b"), "not written like one"),
    "group without a slash": groupless(saying(VO), "not written like one"),
    "group with an empty part": groupless(saying(f"{_VO}//a"), "not written like one"),
    "group of other letters": groupless(saying(f"{_VO}/ä"), "malformed"),
    "role before group": groupless(saying(f"{_VO}/Role=x/a"), "not written like one"),
    "too many groups": groupless(saying(*(f"{_VO}/{number}" for number in range(1001))), "more than 1000"),
    "no server certificate": groupless(saying(embedded=[]), "without the certificate of its server"),
    "issuer is not the server": groupless(saying(issuer=name_of(("CN", "x"))), "issuer is not the server"),
    "server not listed": groupless(then(proving(_VO), lsc("/CN=a\n/CN=b\n")), "not a server of"),
    "list without the issuer": groupless(
        then(proving(_VO), lsc(_LISTED.partition("\n")[0])), "not a server of"
    ),
    "list of another issuer": groupless(
        then(proving(_VO), lsc(_LISTED.replace("MDM Test CA", "Other CA"))), "not a server of"
    ),
    "list upside down": groupless(
        then(proving(_VO), lsc("\n".join(reversed(_LISTED.splitlines())))), "not a server of"
    ),
    "list that cannot be read": groupless(then(proving(_VO), lsc("nothing\n")), "not a server of"),
    "tampered": groupless(_tampered, "the signature is wrong"),
    "signed with another key": groupless(lambda shop: saying(key=shop.key())(shop), "the signature is wrong"),
    "SHA-1": groupless(saying(hash_name="sha1"), "weak hash sha1"),
    "outer algorithm is another": groupless(saying(outer_hash_name="sha512"), "algorithm differ"),
    "revoked server": groupless(
        then(proving(_VO), lambda shop: shop.pki.revoke(shop.vo.server)), "certificate revoked"
    ),
    "server of an untrusted authority": groupless(
        by_server(_other_root(install=False)), "issuer is not known"
    ),
    "server of an untrusted authority that is sent": groupless(
        by_server(_other_root(install=False), send=True), "no signing policy"
    ),
    "server signed by a user": groupless(by_server(_user_as_authority, send=True), "issuer is not known"),
    "server outside the signing policy": groupless(by_server(_other_root("/DC=far/*")), "does not cover"),
    "server of an authority without policy": groupless(by_server(_other_root()), "no signing policy"),
    "server of an authority without CRL": groupless(by_server(_without_crl), "no current revocation list"),
    "server not for signing": groupless(
        by_server(_usual, extensions=[USER[0], (key_usage("key_encipherment"), True)]), "not for signing"
    ),
    "expired server": groupless(by_server(_usual, not_after=now() - DAY / 2), "not valid now"),
    "authority of the server is none": groupless(
        by_server(below_root(extensions=[USER[0], AUTHORITY[1]]), send=True),
        "issuer is not known",
    ),
    "signed by the root": groupless(_by_root_itself, "not an authority that is trusted here"),
    "signed by its holder": groupless(_by_alice_herself, "not a server of"),
    "not DER": groupless(raw(b"junk"), "malformed"),
    "empty": groupless(raw(b""), "malformed"),
    "no certificates": groupless(raw(b"\x30\x00"), "malformed"),
    "nested deep": groupless(raw(_deep(3000)), "malformed"),
    "nine certificates": groupless(raw(b"\x30\x14\x30\x12" + b"\x30\x00" * 9), "malformed"),
    "bad one where that refuses": bad(_refusing(saying(holder_serial=7)), "made for another certificate"),
    "good one where a bad one refuses": good(_refusing(proving(_VO)), fqans=(_VO,)),
}

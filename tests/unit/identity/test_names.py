"""Distinguished names: one canonical form, old spellings understood, ambiguity refused."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.errors import InvalidRequest, NotAuthenticated
from srm_dicom.identity import dn
from srm_dicom.testing.certificates import name_of, subject_hash


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("/DC=org/CN=Alice", "/DC=org/CN=Alice"),
        ("  /DC=org/CN=Alice ", "/DC=org/CN=Alice"),
        ("/CN=host\\/x.org", "/CN=host/x.org"),
        ("/CN=host/x.org", "/CN=host/x.org"),
        ("/CN=a\\+b", "/CN=a+b"),
        ("/CN=Zo\\xC3\\xAB", "/CN=Zoë"),
        ("/O=x/Email=a@b", "/O=x/emailAddress=a@b"),
        ("/O=x/E=a@b", "/O=x/emailAddress=a@b"),
        ("/USERID=u/CN=x", "/UID=u/CN=x"),
        ("/1.2.3.4=x", "/1.2.3.4=x"),
    ],
)
def test_old_spellings(written: str, canonical: str) -> None:
    assert dn.normalise(written) == canonical


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "Alice",
        "CN=Alice",
        "/Alice",
        "/CN=",
        "/CN=a\nb",
        "/CN=\\xFF",
        "/CN=a\\/CN=b",
        "/CN=\\q",
        "/CN=" + "x" * 2000,
    ],
)
def test_what_is_no_name(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        dn.normalise(bad)


VALUES = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("Cs",)), min_size=1, max_size=20
)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_a_canonical_name_reads_back_as_itself(values: list[str]) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value) for value in values])
    try:
        canonical = dn.canonical(name)
    except NotAuthenticated:
        return
    if values[-1].rstrip() == values[-1]:
        assert dn.normalise(canonical) == canonical


@given(st.lists(VALUES, min_size=1, max_size=3), st.lists(VALUES, min_size=1, max_size=3))
def test_two_names_never_share_a_form(one: list[str], other: list[str]) -> None:
    forms = []
    for values in (one, other):
        try:
            forms.append(
                dn.canonical(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, v) for v in values]))
            )
        except NotAuthenticated:
            return
    assert (forms[0] == forms[1]) == (one == other)


@given(VALUES)
def test_printable_is_printable(value: str) -> None:
    text = dn.printable(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value)]))
    assert text.isascii()
    assert text.isprintable()


def test_subject_hash_is_that_of_openssl() -> None:
    """Values printed by ``openssl x509 -subject_hash`` for these names."""
    assert subject_hash(name_of(("DC", "test"), ("DC", "mdm"), ("CN", "MDM Test CA"))) == "d5e28a8d"

"""Delegation over https: GridSite's messages, what is kept for whom, and for how long."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from srm_dicom.errors import InvalidRequest, NotAuthenticated, NotSupported, Overloaded, RequestExpired
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import parse
from srm_dicom.testing.certificates import proxy_certificate, read_credential
from srm_dicom.testing.clock import FakeClock
from srm_dicom.transfer.delegations import DelegationBounds, Delegations, DelegationService
from srm_dicom.wire.gridsite import NAMESPACES, OPERATIONS, Call

END = datetime(2040, 1, 1, tzinfo=UTC)
BOB = Principal("/CN=Bob", (), False, END)
ENVELOPE = '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>{}</e:Body></e:Envelope>'


@pytest.fixture
def clock():
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def chain(pki, alice):
    certificates, _ = read_credential(alice)
    return tuple(one.public_bytes(Encoding.DER) for one in (*certificates, pki.authority.certificate))


@pytest.fixture
def me(pki, alice):
    return Principal(pki.dn(alice), ("/biomed",), False, END)


def signed(credential, request, **options):
    certificates, key = read_credential(credential)
    csr = x509.load_pem_x509_csr(request) if request.startswith(b"--") else x509.load_der_x509_csr(request)
    return proxy_certificate(certificates[0], key, csr.public_key(), **options)


def der(certificate):
    return certificate.public_bytes(Encoding.DER)


def test_delegate_and_find(clock, chain, alice, me):
    delegations = Delegations(clock)
    delegations.end(me, "1234", der(signed(alice, delegations.begin(me, "1234", chain))))
    assert delegations.find(me, "1234") is delegations.best(me)
    delegations.drop(me, "1234")
    assert delegations.best(me) is None


def test_a_credential_is_for_its_owner_with_the_same_groups(clock, chain, alice, me):
    delegations = Delegations(clock)
    delegations.end(me, "x", der(signed(alice, delegations.begin(me, "x", chain))))
    others = (
        *(BOB, Principal(me.dn, (), False, END), Principal(me.dn, me.fqans, True, END)),
        replace(me, scopes=parse("storage.read:/", "/")),
    )
    for other in others:
        assert delegations.best(other) is None
        with pytest.raises(RequestExpired, match="submit again"):
            delegations.find(other, "x")


def test_what_is_over_is_gone(clock, chain, alice, me):
    delegations = Delegations(clock)
    made = signed(alice, delegations.begin(me, "x", chain), lifetime_s=600)
    delegations.end(me, "x", der(made))
    assert delegations.best(me).expires <= clock.now() + timedelta(seconds=601)
    clock.advance(602)
    assert delegations.best(me) is None


def test_another_process_knows_nothing(clock, chain, alice, me):
    request = Delegations(clock).begin(me, "x", chain)
    with pytest.raises(RequestExpired, match="the delegated credential is gone, submit again"):
        Delegations(clock).end(me, "x", der(signed(alice, request)))


def test_somebody_elses_signature(clock, chain, pki, me):
    delegations = Delegations(clock)
    bob = pki.proxy(pki.user("Bob"))
    with pytest.raises(NotAuthenticated):
        delegations.end(me, "x", der(signed(bob, delegations.begin(me, "x", chain))))
    assert delegations.best(me) is None


def test_what_was_begun_and_never_ended_keeps_nobody_out_for_ever(clock, chain, alice, me):
    delegations = Delegations(clock)
    for number in range(DelegationBounds().of_one):
        delegations.begin(me, str(number), chain)
    with pytest.raises(Overloaded):
        delegations.begin(me, "one more", chain)
    clock.advance(601)
    delegations.end(me, "one more", der(signed(alice, delegations.begin(me, "one more", chain))))


def test_what_was_begun_is_destroyed_like_what_is_held(clock, chain, alice, me):
    delegations = Delegations(clock)
    made = signed(alice, delegations.begin(me, "x", chain))
    delegations.drop(me, "x")
    with pytest.raises(RequestExpired):
        delegations.end(me, "x", der(made))


def test_a_token_has_nothing_to_delegate(clock, me):
    with pytest.raises(NotSupported):
        Delegations(clock).begin(me, "x", ())


def test_who_is_narrowed_by_a_token_delegates_nothing(clock, chain, me):
    with pytest.raises(NotSupported):
        Delegations(clock).begin(replace(me, scopes=parse("storage.read:/", "/")), "x", chain)


def test_bounds(clock, chain, alice, me):
    delegations = Delegations(clock, DelegationBounds(at_once=3, of_one=2))
    for name in ("a", "b", "a"):
        delegations.begin(me, name, chain)
    with pytest.raises(Overloaded):
        delegations.begin(me, "c", chain)
    delegations.begin(BOB, "a", chain)
    with pytest.raises(Overloaded):
        delegations.begin(Principal("/CN=Eve", (), False, END), "a", chain)


# --- the service


@pytest.fixture
def say(clock, chain, me):
    service = DelegationService(Delegations(clock))

    def said(operation, *, namespace=NAMESPACES[1], principal=me, **parameters):
        inside = "".join(f"<{name}>{value}</{name}>" for name, value in parameters.items())
        body = ENVELOPE.format(f'<d:{operation} xmlns:d="{namespace}">{inside}</d:{operation}>').encode()
        environ = {
            "REQUEST_METHOD": "POST",
            "wsgi.input": io.BytesIO(body),
            "srm_dicom.principal": principal,
            "srm_dicom.chain": chain,
        }
        head = []
        content = b"".join(service(environ, lambda *args: head.append(args)))
        return head[0][0], etree.fromstring(content)[0][0]

    return said


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_whole_delegation(say, alice, namespace):
    assert say("getInterfaceVersion", namespace=namespace)[1].findtext("*") == "2.0.0"
    status, answer = say("getTerminationTime", namespace=namespace, delegationID="1234")
    assert (status, "submit again" in answer.findtext("faultstring")) == ("500 Internal Server Error", True)
    request = say("getProxyReq", namespace=namespace, delegationID="1234")[1].findtext("getProxyReqReturn")
    proxy = signed(alice, request.encode()).public_bytes(Encoding.PEM).decode()
    status, answer = say("putProxy", namespace=namespace, delegationID="1234", proxy=proxy)
    assert (status, answer.tag) == ("200 OK", f"{{{namespace}}}putProxyResponse")
    end = say("getTerminationTime", namespace=namespace, delegationID="1234")[1].findtext("*")
    assert datetime.fromisoformat(end) > datetime.now(UTC)
    assert say("destroy", namespace=namespace, delegationID="1234")[0] == "200 OK"
    assert say("destroy", namespace=namespace, delegationID="1234")[0].startswith("500")


def test_a_name_that_the_service_draws(say, alice):
    new = say("getNewProxyReq")[1].find("getNewProxyReqReturn")
    proxy = signed(alice, new.findtext("proxyRequest").encode()).public_bytes(Encoding.PEM).decode()
    assert say("putProxy", delegationID=new.findtext("delegationID"), proxy=proxy)[0] == "200 OK"


@pytest.mark.parametrize("proxy", ["", "nothing", "-----BEGIN CERTIFICATE-----"])
def test_what_is_no_proxy(say, proxy):
    say("getProxyReq", delegationID="x")
    assert say("putProxy", delegationID="x", proxy=proxy)[0].startswith("500")


def test_what_is_no_operation(say):
    status, answer = say("rm")
    assert (status, answer.tag.rpartition("}")[2]) == ("500 Internal Server Error", "Fault")


def test_every_operation_has_a_handler(clock):
    assert set(DelegationService(Delegations(clock)).handlers) == set(OPERATIONS)


def test_another_namespace():
    with pytest.raises(InvalidRequest):
        Call.read(etree.fromstring('<getVersion xmlns="urn:other"/>'))

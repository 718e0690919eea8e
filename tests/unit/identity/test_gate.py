"""The gate over real sockets: versions, resumption, sessions, delegation."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError, NotAuthenticated
from srm_dicom.identity.credential import Credential, HostCredential
from srm_dicom.identity.delegation import DelegatedCredential, DelegationAcceptor
from srm_dicom.identity.gate import Gate, TrustSettings, verified_chain
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.proxyinfo import INDEPENDENT, LIMITED, ProxyInfo
from srm_dicom.identity.refusal import _entries
from srm_dicom.testing.certificates import (
    Key,
    new_ec_key,
    proxy_certificate,
    read_credential,
    sign_certificate,
)
from srm_dicom.testing.pki import TestPki

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def pki(tmp_path: Path) -> TestPki:
    return TestPki(tmp_path, fast=True)


@pytest.fixture
def gate(pki: TestPki) -> Gate:
    return Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())


@dataclass
class Outcome:
    principal: Principal | None = None
    chain: tuple[bytes, ...] = ()
    refusal: str = ""
    reused: bool = False


@contextmanager
def connection(context: ssl.SSLContext, gate: Gate) -> Iterator[tuple[socket.socket, Outcome]]:
    """A listening side that identifies one client and echoes one byte."""
    outcome = Outcome()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connected, _ = listener.accept()
        connected.settimeout(10)
        try:
            with context.wrap_socket(connected, server_side=True) as tls:
                outcome.reused = bool(tls.session_reused)
                outcome.principal = gate.identify(tls)
                outcome.chain = tuple(verified_chain(tls))
                tls.sendall(tls.recv(1))
                tls.unwrap()
        except ssl.SSLError as error:
            outcome.refusal = gate.refusal(context, error).message
        except NotAuthenticated as error:
            outcome.refusal = error.message
        except OSError:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    with socket.create_connection(listener.getsockname(), timeout=10) as client:
        yield client, outcome
    thread.join(10)
    listener.close()


def meet(
    gate: Gate,
    client: ssl.SSLContext,
    *,
    context: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
) -> tuple[Outcome, ssl.SSLSession | None]:
    kept = None
    with connection(context or gate.server_context(), gate) as (raw, outcome):
        try:
            with client.wrap_socket(raw, server_hostname="localhost", session=session) as tls:
                tls.sendall(b"x")
                tls.recv(1)
                kept = tls.session
                tls.unwrap()  # a session that ends without this is never resumed
        except (ssl.SSLError, OSError):
            pass
    return outcome, kept


@pytest.mark.parametrize("maximum", VERSIONS)
def test_a_proxy_is_its_owner(pki: TestPki, gate: Gate, maximum: ssl.TLSVersion) -> None:
    proxy = pki.proxy(pki.user("Alice"), limited=True, lifetime_s=600)
    outcome, _ = meet(gate, proxy.client_context(maximum=maximum))
    assert outcome.principal is not None
    assert outcome.principal.dn == "/DC=test/DC=mdm/CN=Alice"
    assert outcome.principal.limited
    assert outcome.principal.expires < datetime.now(UTC) + timedelta(seconds=601)


@pytest.mark.parametrize("maximum", VERSIONS)
def test_the_maximum_version_holds(pki: TestPki, gate: Gate, maximum: ssl.TLSVersion) -> None:
    client = pki.user("Alice").client_context()
    with (
        connection(gate.server_context(maximum=maximum), gate) as (raw, _),
        client.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        assert tls.version() == {VERSIONS[0]: "TLSv1.2", VERSIONS[1]: "TLSv1.3"}[maximum]


@pytest.mark.parametrize("maximum", VERSIONS)
def test_no_session_is_ever_resumed(pki: TestPki, gate: Gate, maximum: ssl.TLSVersion) -> None:
    alice = pki.user("Alice")
    client = alice.client_context(maximum=maximum)
    first, session = meet(gate, client)
    assert first.principal is not None
    assert session is not None
    assert not session.has_ticket
    second, _ = meet(gate, client, session=session)
    assert not second.reused
    pki.revoke(alice)
    third, _ = meet(gate, client, session=session)
    assert third.principal is None
    assert "/DC=test/DC=mdm/CN=Alice: certificate revoked" in third.refusal


def test_a_resumed_session_would_be_refused(pki: TestPki, gate: Gate) -> None:
    """What the gate relies on: a context that is used twice resumes in TLS 1.2 and has no chain."""
    context = gate.server_context(maximum=ssl.TLSVersion.TLSv1_2)
    client = pki.user("Alice").client_context()
    _, session = meet(gate, client, context=context)
    again, _ = meet(gate, client, context=context, session=session)
    assert again.reused
    assert again.principal is None
    assert "no certificate was verified" in again.refusal


def test_a_refusal_names_the_certificate(pki: TestPki, gate: Gate) -> None:
    stranger = TestPki(pki.directory / "other", fast=True)
    foreign = stranger.proxy(stranger.user("Eve"))
    client = Credential(foreign.certificate, foreign.key, pki.trust_dir).client_context()
    outcome, _ = meet(gate, client)
    assert outcome.refusal.startswith("/DC=test/DC=mdm/CN=Eve: ")


def test_a_client_checks_the_server(pki: TestPki, gate: Gate) -> None:
    client = pki.user("Alice").client_context()
    with (
        connection(gate.server_context(), gate) as (raw, _),
        pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
    ):
        client.wrap_socket(raw, server_hostname="elsewhere.example.org")


def test_an_unusable_host_credential_is_a_config_error(pki: TestPki, tmp_path: Path) -> None:
    host = HostCredential(tmp_path / "none.pem", tmp_path / "none.pem")
    with pytest.raises(ConfigError, match="not usable"):
        Gate(TrustSettings(pki.trust_dir), host, SystemClock()).server_context()


def test_a_long_session_is_asked_again(pki: TestPki, tmp_path: Path) -> None:
    bans = tmp_path / "bans"
    bans.write_text("")
    gate = Gate(TrustSettings(pki.trust_dir, ban_file=bans), pki.host(), SystemClock())
    now = datetime.now(UTC)
    alice = Principal("/CN=Alice", (), False, now + timedelta(hours=1))
    gate.recheck(alice)
    with pytest.raises(NotAuthenticated, match="expired"):
        gate.recheck(Principal("/CN=Alice", (), False, now))
    bans.write_text('"/CN=Alice"\n')
    with pytest.raises(NotAuthenticated, match="banned"):
        gate.recheck(alice)


# --- delegation ------------------------------------------------------------------------------------


def answer(credential: Credential, request: bytes, **options: object) -> bytes:
    chain, key = read_credential(credential)
    public_key = x509.load_der_x509_csr(request).public_key()
    made = proxy_certificate(chain[0], key, public_key, **options)  # type: ignore[arg-type]
    return made.public_bytes(Encoding.DER)


@pytest.fixture
def session(pki: TestPki, gate: Gate) -> tuple[Credential, DelegationAcceptor]:
    proxy = pki.proxy(pki.user("Alice"))
    outcome, _ = meet(gate, proxy.client_context())
    return proxy, DelegationAcceptor(outcome.chain)


def test_a_delegated_credential_logs_in_as_its_owner(
    gate: Gate, pki: TestPki, session: tuple[Credential, DelegationAcceptor]
) -> None:
    proxy, acceptor = session
    received = acceptor.accept(answer(proxy, acceptor.request(), language=LIMITED), datetime.now(UTC))
    assert isinstance(received, DelegatedCredential)
    assert received.limited
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(capath=str(pki.trust_dir))
    received.load_into(client)
    outcome, _ = meet(gate, client)
    assert outcome.principal is not None
    assert outcome.principal.dn == "/DC=test/DC=mdm/CN=Alice"
    assert outcome.principal.limited


def other_key(proxy: Credential, _request: bytes) -> bytes:
    key: Key = new_ec_key()
    csr = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    return answer(proxy, csr.public_bytes(Encoding.DER))


def by_another(pki: TestPki, request: bytes) -> bytes:
    return answer(pki.proxy(pki.user("Bob")), request)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"language": INDEPENDENT}, "independent"),
        ({"language": "1.2.3"}, "unknown proxy policy"),
        ({"lifetime_s": -100}, "not valid now"),
    ],
)
def test_bad_delegations(
    session: tuple[Credential, DelegationAcceptor], options: dict[str, object], reason: str
) -> None:
    proxy, acceptor = session
    with pytest.raises(NotAuthenticated, match=reason):
        acceptor.accept(answer(proxy, acceptor.request(), **options), datetime.now(UTC))


def test_delegations_that_are_not_the_callers(
    pki: TestPki, session: tuple[Credential, DelegationAcceptor]
) -> None:
    proxy, acceptor = session
    now = datetime.now(UTC)
    with pytest.raises(NotAuthenticated, match="another key"):
        acceptor.accept(other_key(proxy, b""), now)
    for bad in (by_another(pki, acceptor.request()), b"", b"junk", b"\x30" * 200_000):
        with pytest.raises(NotAuthenticated):
            acceptor.accept(bad, now)


def test_a_delegation_without_a_name(session: tuple[Credential, DelegationAcceptor]) -> None:
    proxy, acceptor = session
    chain, key = read_credential(proxy)
    public_key = x509.load_der_x509_csr(acceptor.request()).public_key()
    made = proxy_certificate(chain[0], key, public_key)
    nameless = sign_certificate(
        subject=x509.Name([]),
        public_key=public_key,
        issuer=chain[0].subject,
        issuer_key=key,
        not_before=made.not_valid_before_utc,
        not_after=made.not_valid_after_utc,
        extensions=[(one.value, one.critical) for one in made.extensions],
        serial=1,
    )
    with pytest.raises(NotAuthenticated):
        acceptor.accept(nameless.public_bytes(Encoding.DER), datetime.now(UTC))


# --- small parsers ---------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.booleans())
def test_any_certificate_message_is_walked(message: bytes, tls13: bool) -> None:
    assert sum(map(len, _entries(message, tls13=tls13))) <= len(message)


@given(st.binary(max_size=60))
def test_any_proxy_info_is_read_or_refused(der: bytes) -> None:
    with contextlib.suppress(ValueError):
        ProxyInfo.parse(der)


@given(
    st.sampled_from([LIMITED, INDEPENDENT, "1.2.3"]),
    st.none() | st.integers(0, 100),
    st.none() | st.binary(max_size=10),
)
def test_proxy_info_reads_back(language: str, path_length: int | None, text: bytes | None) -> None:
    info = ProxyInfo(language, path_length, text)
    assert ProxyInfo.parse(info.der()) == info


# --- finding a credential --------------------------------------------------------------------------


def test_the_environment_names_a_proxy(pki: TestPki) -> None:
    proxy = pki.proxy(pki.user("Alice"))
    found = Credential.from_environment(pki.environment(proxy))
    assert found == proxy


def test_the_environment_names_certificate_and_key(pki: TestPki) -> None:
    user = pki.user("Alice")
    assert Credential.from_environment(pki.environment(user)) == user


def test_a_missing_credential_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotAuthenticated, match="no credential at"):
        Credential.from_environment({"X509_USER_PROXY": str(tmp_path / "none")})
    with pytest.raises(NotAuthenticated, match="usercert"):
        Credential.from_environment({"HOME": str(tmp_path), "X509_USER_KEY": "x", "X509_USER_CERT": ""})


def test_what_cannot_be_shown_is_told(pki: TestPki, tmp_path: Path) -> None:
    alice, bob = pki.user("Alice"), pki.user("Bob")
    nonsense = tmp_path / "proxy"
    nonsense.write_text("no proxy")
    for wrong, words in (
        (Credential(nonsense, nonsense, pki.trust_dir), r"no certificate with its key in \S+/proxy$"),
        (Credential(alice.certificate, bob.key, pki.trust_dir), r"no certificate .* \S+pem and \S+pem$"),
        (Credential(alice.certificate, tmp_path / "none", pki.trust_dir), "No such file"),
        (Credential(alice.certificate, alice.key, tmp_path / "none"), "none is no directory"),
    ):
        with pytest.raises(NotAuthenticated, match=words):
            wrong.client_context()

"""Rules D, E and F on real sockets: who may be at the other end of a data connection."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity.delegation import DelegatedCredential
from srm_dicom.identity.gate import Gate, HostCredential, TrustSettings
from srm_dicom.testing.certificates import new_ec_key, proxy_certificate, read_credential
from srm_dicom.transfer.security import DataSecurity
from srm_dicom.wire.gridftp import datapeer
from srm_dicom.wire.gridftp.datapeer import SameUser, verify_same_user


def now():
    return datetime.now(UTC)


def delegated(credential):
    chain, key = read_credential(credential)
    return DelegatedCredential(tuple(chain), key, limited=False, expires=now() + timedelta(hours=1))


def end_entity(credential):
    return read_credential(credential)[0][-1].public_bytes(Encoding.DER)


def chain_of(credential):
    return [certificate.public_bytes(Encoding.DER) for certificate in read_credential(credential)[0]]


def connect(acceptor, initiator, *, private, subjects=("", "")):
    """Secure both ends of a connection at once; return what each end got."""
    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    listener.close()
    for sock in (near, far):
        sock.settimeout(5)
    with ThreadPoolExecutor(2) as pool:
        ends = [
            pool.submit(acceptor.secure, far, accepted=True, private=private, subject=subjects[0]),
            pool.submit(initiator.secure, near, accepted=False, private=private, subject=subjects[1]),
        ]
    return [end.exception() or end.result() for end in ends]


def security(credential, user):
    clock = SystemClock()
    gate = Gate(TrustSettings(user.trust), HostCredential(user.certificate, user.key), clock)
    return DataSecurity(delegated(credential), end_entity(user), gate, clock)


@pytest.mark.parametrize("private", [True, False], ids=["private", "clear"])
@pytest.mark.parametrize("limited", [True, False])
def test_two_proxies_of_one_user_meet(pki, private, limited):
    user = pki.user("Alice")
    one, other = pki.proxy(user), pki.proxy(pki.proxy(user), limited=limited)
    acceptor, initiator = connect(security(one, user), security(other, user), private=private)
    for source, sink in ((acceptor, initiator), (initiator, acceptor)):
        source.sendall(b"x" * 1000)
        assert sink.recv(1000, socket.MSG_WAITALL if not private else 0) == b"x" * 1000
    acceptor.close()
    initiator.close()


@pytest.mark.parametrize("private", [True, False], ids=["private", "clear"])
def test_another_user_of_the_same_authority_is_refused_by_the_acceptor(pki, private):
    alice, bob = pki.user("Alice"), pki.user("Bob")
    acceptor, _ = connect(security(pki.proxy(alice), alice), security(pki.proxy(bob), alice), private=private)
    assert isinstance(acceptor, NotAuthenticated)


@pytest.mark.parametrize("private", [True, False], ids=["private", "clear"])
def test_another_user_of_the_same_authority_is_refused_by_the_initiator(pki, private):
    alice, bob = pki.user("Alice"), pki.user("Bob")
    _, initiator = connect(
        security(pki.proxy(bob), alice), security(pki.proxy(alice), alice), private=private
    )
    assert isinstance(initiator, NotAuthenticated)


def test_a_peer_without_a_certificate_is_refused(pki):
    alice = pki.user("Alice")
    sock, other = socket.socketpair()
    sock.settimeout(5)

    def plain_text():
        other.recv(4000)
        other.sendall(b"150 what is this?\r\n")
        other.close()

    thread = threading.Thread(target=plain_text)
    thread.start()
    with pytest.raises(NotAuthenticated):
        security(pki.proxy(alice), alice).secure(sock, accepted=False, private=True)
    thread.join()


def test_the_chain_must_lead_to_the_very_certificate(pki):
    alice = pki.user("Alice")
    good = chain_of(pki.proxy(pki.proxy(alice)))
    verify_same_user(good, end_entity(alice), now())
    verify_same_user(chain_of(alice), end_entity(alice), now())
    for chain in ([], good[:-1], good[:1], chain_of(pki.proxy(pki.user("Bob")))):
        with pytest.raises(NotAuthenticated):
            verify_same_user(chain, end_entity(alice), now())


def test_a_proxy_with_the_right_name_and_another_signature_is_refused(pki):
    alice = pki.user("Alice")
    certificate = read_credential(alice)[0][0]
    forged = proxy_certificate(certificate, new_ec_key(), new_ec_key().public_key())
    with pytest.raises(NotAuthenticated, match="not valid"):
        verify_same_user([forged.public_bytes(Encoding.DER), *chain_of(alice)], end_entity(alice), now())


def test_a_link_may_not_be_missing(pki):
    alice = pki.user("Alice")
    chain = chain_of(pki.proxy(pki.proxy(alice)))
    with pytest.raises(NotAuthenticated):
        verify_same_user([chain[0], chain[2]], end_entity(alice), now())


def test_somebody_elses_chain_with_our_certificate_appended_is_refused(pki):
    alice = pki.user("Alice")
    bob = chain_of(pki.proxy(pki.user("Bob")))
    for chain in ([*bob, *chain_of(alice)], [bob[0], *chain_of(alice)]):
        with pytest.raises(NotAuthenticated):
            verify_same_user(chain, end_entity(alice), now())


def test_an_end_entity_that_is_signed_by_the_user_is_no_proxy(pki):
    alice = pki.user("Alice")
    chain, key = read_credential(alice)
    child = x509.CertificateBuilder(
        issuer_name=chain[0].subject,
        subject_name=proxy_certificate(chain[0], key, key.public_key()).subject,
        public_key=key.public_key(),
        serial_number=7,
        not_valid_before=now() - timedelta(hours=1),
        not_valid_after=now() + timedelta(hours=1),
    ).sign(key, hashes.SHA256())
    with pytest.raises(NotAuthenticated, match="not a proxy"):
        verify_same_user([child.public_bytes(Encoding.DER), *chain_of(alice)], end_entity(alice), now())


def test_an_expired_proxy_is_refused(pki):
    alice = pki.user("Alice")
    chain = chain_of(pki.proxy(alice, lifetime_s=60))
    with pytest.raises(NotAuthenticated, match="not valid now"):
        verify_same_user(chain, end_entity(alice), now() + timedelta(hours=1))


def test_a_proxy_may_not_be_deeper_than_its_issuer_allows(pki):
    alice = pki.user("Alice")
    shallow = pki.proxy(alice, path_length=0)
    verify_same_user(chain_of(shallow), end_entity(alice), now())
    with pytest.raises(NotAuthenticated, match="deeper"):
        verify_same_user(chain_of(pki.proxy(shallow)), end_entity(alice), now())


def test_a_chain_that_is_shown_again_is_not_followed_again(pki, monkeypatch):
    alice, followed = pki.user("Alice"), []
    chain, peer = chain_of(pki.proxy(alice)), SameUser()
    monkeypatch.setattr(datapeer, "_verify_proxy", lambda proxy, *_: followed.append(proxy))
    for _ in range(3):
        peer.verify(chain, end_entity(alice), now())
    assert len(followed) == 1


def test_a_chain_that_was_good_ends_with_its_first_proxy(pki):
    alice, peer = pki.user("Alice"), SameUser()
    chain = chain_of(pki.proxy(pki.proxy(alice, lifetime_s=600)))
    peer.verify(chain, end_entity(alice), now() + timedelta(seconds=500))
    for moment in (now() + timedelta(seconds=700), now() - timedelta(hours=1)):
        with pytest.raises(NotAuthenticated, match="not valid now"):
            peer.verify(chain, end_entity(alice), moment)


def test_a_good_chain_says_nothing_of_another_one_or_of_another_user(pki):
    alice, bob, peer = pki.user("Alice"), pki.user("Bob"), SameUser()
    chain = chain_of(pki.proxy(alice))
    peer.verify(chain, end_entity(alice), now())
    for other in (chain_of(pki.proxy(bob)), chain[1:] + chain_of(bob), [chain_of(pki.proxy(bob))[0], *chain]):
        with pytest.raises(NotAuthenticated):
            peer.verify(other, end_entity(bob) if other[0] == chain[1] else end_entity(alice), now())
    with pytest.raises(NotAuthenticated, match="not from the user"):
        peer.verify(chain, end_entity(bob), now())


@pytest.mark.parametrize("private", [True, False], ids=["private", "clear"])
def test_a_named_peer_may_be_another_user(pki, private):
    """DCAU S: each end says whom it expects."""
    alice, bob = pki.user("Alice"), pki.user("Bob")
    ends = security(pki.proxy(alice), alice), security(pki.proxy(pki.proxy(bob)), bob)
    names = pki.dn(bob), pki.dn(alice)
    acceptor, initiator = connect(*ends, private=private, subjects=names)
    acceptor.sendall(b"x" * 100)
    assert initiator.recv(100) == b"x" * 100
    acceptor.close()
    initiator.close()


def test_a_peer_of_another_name_is_refused_by_either_end(pki):
    alice, bob = pki.user("Alice"), pki.user("Bob")
    ends = security(pki.proxy(alice), alice), security(pki.proxy(bob), bob)
    names = pki.dn(bob), pki.dn(alice)
    acceptor, _ = connect(*ends, private=True, subjects=(pki.dn(alice), names[1]))
    assert isinstance(acceptor, NotAuthenticated)
    _, initiator = connect(*ends, private=True, subjects=(names[0], pki.dn(bob)))
    assert isinstance(initiator, NotAuthenticated)


def test_a_named_peer_of_an_authority_that_is_not_trusted_here_is_refused(pki, tmp_path):
    other = type(pki)(tmp_path / "other", fast=True)
    alice, mallory = pki.user("Alice"), other.user("Alice")
    ends = security(pki.proxy(alice), alice), security(other.proxy(mallory), mallory)
    acceptor, _ = connect(*ends, private=True, subjects=(pki.dn(alice), pki.dn(alice)))
    assert isinstance(acceptor, NotAuthenticated)
    reversed_ends = security(other.proxy(mallory), mallory), security(pki.proxy(alice), alice)
    _, initiator = connect(*reversed_ends, private=True, subjects=(pki.dn(alice), pki.dn(alice)))
    assert isinstance(initiator, OSError | NotAuthenticated)


def test_a_revoked_named_peer_is_refused_by_the_initiator(pki, tmp_path):
    own = type(pki)(tmp_path / "own", fast=True)
    alice, bob = own.user("Alice"), own.user("Bob")
    proxy = own.proxy(bob)
    own.revoke(proxy)
    ends = security(proxy, bob), security(own.proxy(alice), alice)
    _, initiator = connect(*ends, private=True, subjects=(own.dn(alice), own.dn(bob)))
    assert isinstance(initiator, NotAuthenticated)
    assert "revoked" in initiator.message

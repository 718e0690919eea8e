"""The gate: one per process, decides for every door who is on the line.

OpenSSL verifies the path (signatures, dates, CRLs of the whole chain, the proxy rules of RFC 3820 that
it knows); `chain` decides what OpenSSL does not know; `voms` reads the groups; then `bans` and `admission`
have a word, in this order. What the caller may do is said by the ACLs of the objects, later.
A session without a verified chain is refused: that is what a resumed session looks like, and resumption
skips verification and CRLs. Hence no tickets and one context per connection, which also makes every
handshake see the CRLs of that moment.
"""

from __future__ import annotations

import _ssl
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from srm_dicom.clock import Clock
from srm_dicom.errors import ConfigError, NotAuthenticated
from srm_dicom.identity import chain, dn, refusal, signerpath
from srm_dicom.identity.admission import AdmissionList
from srm_dicom.identity.bans import BanList
from srm_dicom.identity.credential import HostCredential
from srm_dicom.identity.principal import Principal, TokenName
from srm_dicom.identity.trust import Trust, TrustDirectory
from srm_dicom.identity.voms import Attributes, Memory, Verifier
from srm_dicom.telemetry import logger

__all__ = ["Gate", "HostCredential", "TrustSettings", "is_nameless", "verified_chain"]

log = logger("identity")

_SECURITY_LEVEL = 2  # no SHA-1, no RSA below 2048 bits, whatever this Python was built with
_CIPHERS = f"DEFAULT@SECLEVEL={_SECURITY_LEVEL}"
_CRLS_AGAIN_S = 20.0


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """Whom this site trusts.

    Attributes:
        certificates: directory of authorities: ``<hash>.0``, ``<hash>.signing_policy``, ``<hash>.r0``.
        crl: ``require`` refuses users of an authority without a current CRL; ``if-present`` lets an
            authority without any CRL pass, and still refuses a stale or forged one.
        ban_file: names, groups and authorities that may not enter; None bans nobody.
        admission_file: a grid-mapfile of those who may enter; None admits everybody.
        vomsdir: directory of ``<vo>/<host>.lsc``; None accepts no VOMS attributes.
        emergency_role: the FQAN of whom may break the glass (`principal.Principal.emergency`); None for
            nobody.
        voms_on_bad_ac: ``drop`` lets a caller in without the groups of an attribute certificate that is
            not good; ``refuse`` does not let such a caller in.
        max_proxies: the longest row of proxies that is taken.
        tls: what TLS is made with: the standard library's ``ssl``, or ``m2crypto``, an extra (`m2`).
    """

    certificates: Path
    crl: Literal["require", "if-present"] = "require"
    ban_file: Path | None = None
    admission_file: Path | None = None
    vomsdir: Path | None = None
    emergency_role: str | None = None
    voms_on_bad_ac: Literal["drop", "refuse"] = "drop"
    max_proxies: int = 10
    tls: Literal["ssl", "m2crypto"] = "ssl"


@dataclass(slots=True, eq=False)
class _Evidence:
    """What a session was let in for, and when that was last weighed against which trust directory."""

    standing: chain.Standing
    authority_dns: tuple[str, ...]
    trust: Trust
    weighed_s: float


class Gate:
    """Turns a finished handshake into a `Principal`, or refuses it and says why."""

    def __init__(self, trust: TrustSettings, host: HostCredential, clock: Clock) -> None:
        self._settings = trust
        self._host = host
        self._clock = clock
        self._directory = TrustDirectory(trust.certificates, clock)
        self._bans = BanList(trust.ban_file)
        self._admission = AdmissionList(trust.admission_file)
        self._memory = Memory()

    def server_context(
        self, *, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, nameless: bool = False
    ) -> ssl.SSLContext:
        """Build the server's side of one connection; call it again for the next one.

        Args:
            maximum: TLS 1.2 where Globus clients call.
            nameless: let a client pass that shows no certificate at all, where tokens are taken; see
                `is_nameless`.

        Raises:
            ConfigError: the host credential or the trust directory cannot be read.
        """
        if self._settings.tls == "m2crypto":
            return self._m2_context(maximum, nameless=nameless)
        context = refusal.WitnessContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = maximum
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_OPTIONAL if nameless else ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        if self._crl_required:
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        if context.security_level < _SECURITY_LEVEL:
            context.set_ciphers(_CIPHERS)
        try:
            context.load_verify_locations(capath=str(self._settings.certificates))
            context.load_cert_chain(self._host.certificate, self._host.key)
        except (OSError, ssl.SSLError) as error:
            raise self._unusable(error) from error
        return context

    def _m2_context(self, maximum: ssl.TLSVersion, *, nameless: bool) -> ssl.SSLContext:
        """Build the same with M2Crypto; to the doors it is one of `ssl`."""
        try:
            from srm_dicom.identity import m2  # noqa: PLC0415 - an extra, which few have
        except ImportError as error:
            advice = "pip install srm-dicom[m2crypto]"
            raise ConfigError("M2Crypto is not installed", advice=advice) from error
        follow = partial(
            signerpath.validate,
            trust=self._present_trust(),
            now=self._clock.now(),
            crl_required=self._crl_required,
        )
        try:
            made = m2.Context(
                self._host.certificate,
                self._host.key,
                self._settings.certificates,
                follow,
                maximum=maximum,
                crl_required=self._crl_required,
                nameless=nameless,
                ciphers=_CIPHERS,
            )
        except OSError as error:
            raise self._unusable(error) from error
        return cast("ssl.SSLContext", made)

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(f"the host credential {self._host.certificate} is not usable: {error}")

    def refusal(self, context: ssl.SSLContext, error: ssl.SSLError) -> NotAuthenticated:
        """Tell what a handshake that failed in `context` was refused for, and whose certificate it was."""
        return refusal.explain(context, error, self._clock.now())

    def identify(self, tls: ssl.SSLSocket | ssl.SSLObject) -> Principal:
        """Say who is on the other side of a finished handshake.

        Raises:
            NotAuthenticated: naming the certificate and the reason.
        """
        principal, notes = self.identify_with_notes(tls)
        for note in notes:
            log.warning("attributes_dropped", dn=principal.dn, reason=note)
        return principal

    def identify_with_notes(self, tls: ssl.SSLSocket | ssl.SSLObject) -> tuple[Principal, tuple[str, ...]]:
        """Do what `identify` does and also say why VOMS attributes were dropped, if any were.

        Raises:
            NotAuthenticated: naming the certificate and the reason.
        """
        if isinstance(tls.context, refusal.WitnessContext):
            tls.context.rest()
        trust = self._present_trust()
        standing = chain.decide(verified_chain(tls), trust.policies, max_proxies=self._settings.max_proxies)
        self._check_revocation(standing, trust)
        voms = self._attributes(standing, trust)
        if voms.notes and self._settings.voms_on_bad_ac == "refuse":
            raise NotAuthenticated(f"{standing.dn}: {'; '.join(voms.notes)}")
        expires = min(standing.expires, voms.expires or standing.expires)
        evidence = _Evidence(standing, standing.authority_dns, trust, self._clock.monotonic_s())
        emergency = self._settings.emergency_role in voms.fqans and not standing.limited
        principal = Principal(
            standing.dn, voms.fqans, standing.limited, expires, emergency=emergency, evidence=evidence
        )
        self._check_lists(principal)
        return principal, voms.notes

    @property
    def authorities(self) -> Path:
        """The trust directory."""
        return self._settings.certificates

    def end_entity(self, ders: Sequence[bytes], name: str) -> bytes:
        """Return the end entity of a chain that no handshake has followed to an authority.

        Data connections have such chains. Whoever asks still has to see that the proxies are its own.

        Args:
            ders: certificates as the peer sent them, the leaf first.
            name: whose they have to be, in the canonical form.

        Raises:
            NotAuthenticated: naming the certificate and the reason.
        """
        try:
            sent = [x509.load_der_x509_certificate(der) for der in ders[: self._settings.max_proxies + 10]]
            others = [certificate for certificate in sent if chain.proxy_info(certificate) is None]
        except chain.MALFORMED as error:
            raise NotAuthenticated("a certificate of the peer is malformed") from error
        if not others or dn.canonical(others[0].subject) != name:
            raise NotAuthenticated(f"the peer is not {name}")
        trust, now = self._present_trust(), self._clock.now()
        signerpath.validate(others[0], others[1:], trust, now, crl_required=self._crl_required)
        return others[0].public_bytes(serialization.Encoding.DER)

    def recheck(self, principal: Principal) -> None:
        """Ask again during a long session; cheap enough to be asked often.

        A session ends with its credential, with a ban, when the admission list does not admit its caller any
        more, and when the trust directory changes such that the caller would not be let in today: revoked,
        authority gone, groups of a VOMS server that is no longer believed.

        Raises:
            NotAuthenticated: naming the reason.
        """
        if self._clock.now() >= principal.expires:
            raise NotAuthenticated(f"{principal.dn}: the credential of this session has expired")
        self._check_lists(principal)
        if isinstance(principal.evidence, _Evidence):
            self._weigh_again(principal.evidence, principal.fqans)

    def _check_lists(self, principal: Principal) -> None:
        evidence = principal.evidence
        authorities = evidence.authority_dns if isinstance(evidence, _Evidence) else ()
        also = (evidence.name,) if isinstance(evidence, TokenName) else ()
        self._bans.check(principal.dn, (*principal.fqans, *also), authorities)
        self._admission.check(principal.dn, principal.fqans)

    def _weigh_again(self, evidence: _Evidence, fqans: tuple[str, ...]) -> None:
        trust, now_s = self._present_trust(), self._clock.monotonic_s()
        if trust is evidence.trust and now_s - evidence.weighed_s < _CRLS_AGAIN_S:
            return
        standing = evidence.standing
        if not trust.is_anchor(standing.authorities[-1]):
            raise NotAuthenticated(f"{standing.dn}: its authority is not trusted any more")
        for lower, upper in pairwise((standing.end_entity, *standing.authorities)):
            trust.policies.check(dn.canonical(upper.subject), dn.canonical(lower.subject))
        self._check_revocation(standing, trust)
        if not set(fqans) <= set(self._attributes(standing, trust).fqans):
            raise NotAuthenticated(f"{standing.dn}: groups of this session do not hold any more")
        evidence.trust, evidence.weighed_s = trust, now_s

    def _present_trust(self) -> Trust:
        try:
            return self._directory.current()
        except ConfigError as error:
            raise NotAuthenticated(f"nobody is let in: {error.message}") from error

    def _attributes(self, standing: chain.Standing, trust: Trust) -> Attributes:
        if self._settings.vomsdir is None:
            return Attributes()
        now, vomsdir = self._clock.now(), self._settings.vomsdir
        verifier = Verifier(vomsdir, trust, self.host_names, now, self._crl_required, self._memory)
        return verifier.attributes(standing)

    @property
    def _crl_required(self) -> bool:
        return self._settings.crl == "require"

    def _check_revocation(self, standing: chain.Standing, trust: Trust) -> None:
        now = self._clock.now()
        for certificate, issuer in pairwise((standing.end_entity, *standing.authorities)):
            trust.revocations.check(certificate, issuer, now, required=self._crl_required)

    @cached_property
    def host_names(self) -> frozenset[str]:
        """DNS names of the host certificate: what VOMS targets are compared with."""
        certificate = x509.load_pem_x509_certificates(self._host.certificate.read_bytes())[0]
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return frozenset()
        return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))


def is_nameless(tls: ssl.SSLSocket | ssl.SSLObject) -> bool:
    """Say whether the client of a finished handshake has shown no certificate, nor resumed a session."""
    return tls.getpeercert(binary_form=True) is None and not tls.session_reused


def verified_chain(tls: ssl.SSLSocket | ssl.SSLObject) -> list[bytes]:
    """Return the chain that OpenSSL verified, DER, from the leaf to the root.

    Raises:
        NotAuthenticated: there is none: no certificate was shown, or the session was resumed.
    """
    if hasattr(tls, "get_verified_chain"):  # public from Python 3.13
        ders = list(tls.get_verified_chain() or ())
    else:
        inner = cast("Any", tls)._sslobj  # noqa: SLF001 the only way before 3.13
        found = inner.get_verified_chain() if inner is not None else None
        ders = [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in found or ()]
    if not ders:
        raise NotAuthenticated("no certificate was verified in this session")
    return ders

"""WLCG tokens: good ones, every kind of bad one, keys that come and go, and what scopes leave."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.clock import SystemClock
from srm_dicom.errors import InvalidRequest, NotAuthenticated
from srm_dicom.identity import scopes
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.jwks import fetch_https
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.tokens import Issuer, TokenSettings, TokenVerifier
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.evaluate import decide
from srm_dicom.testing.pki import TestPki

ISSUER = "https://issuer.example.org/"
SITE = "https://se.example.org"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
NAME = f"token:{ISSUER}#6f1c2"


class Clock(SystemClock):
    ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic_s(self) -> float:
        return time.monotonic() + self.ahead.total_seconds()


def public(key: Any, kid: str, **more: str) -> dict[str, str]:
    algorithm = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256"}
    name = next((name for kind, name in algorithm.items() if isinstance(key, kind)), "EdDSA")
    encoded = jwt.get_algorithm_by_name(name).to_jwk(key.public_key())
    return {**json.loads(encoded), "kid": kid, **more}


KEYS = [public(RSA, "r", alg="RS256"), public(EC, "e"), public(ED, "d")]


def token(key: Any = RSA, kid: str | None = "r", algorithm: str = "RS256", **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": "6f1c2",
        "aud": SITE,
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "scope": "openid storage.read:/cohort",
        "wlcg.ver": "1.0",
    } | changes
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": KEYS}))
    return path


@pytest.fixture
def settings(keys: Path) -> TokenSettings:
    issuer = Issuer(ISSUER, (SITE,), organisation="biomed", keys=str(keys), base_path="/biomed/mdm")
    return TokenSettings((issuer, Issuer("https://other.example.org", ("x",), keys=str(keys))))


@pytest.fixture
def verifier(settings: TokenSettings, clock: Clock) -> TokenVerifier:
    return TokenVerifier(settings, clock)


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"), [(RSA, "r", "RS256"), (EC, "e", "ES256"), (ED, "d", "EdDSA")]
)
def test_a_bearer_is_named_by_issuer_and_subject(
    verifier: TokenVerifier, key: Any, kid: str, algorithm: str
) -> None:
    principal = verifier.principal(token(key, kid, algorithm))
    assert principal.dn == NAME
    assert principal.limited
    assert principal.fqans == ()
    assert [scope.path for scope in principal.scopes or ()] == ["/biomed/mdm/cohort"]
    assert principal.expires <= datetime.now(UTC) + timedelta(seconds=3661)


def test_several_audiences(verifier: TokenVerifier) -> None:
    assert verifier.principal(token(aud=["https://x", SITE])).dn == NAME


def test_groups_are_those_of_the_issuers_organisation(verifier: TokenVerifier) -> None:
    said = ["/biomed", "/astro", "/biomed/a/Role=x", "biomed", 7, "/biomedical", "/biomed/\n"]
    principal = verifier.principal(token(**{"scope": "openid", "wlcg.groups": said}))
    assert principal.fqans == ("/biomed", "/biomed/a/Role=x")
    assert principal.scopes is None
    narrowed = verifier.principal(token(**{"wlcg.groups": said}))
    assert narrowed.scopes


def test_who_is_banned_by_the_name_of_the_token_is_so_under_the_name_of_the_map(
    settings: TokenSettings, clock: Clock, tmp_path: Path
) -> None:
    path, bans, pki = tmp_path / "map", tmp_path / "bans", TestPki(tmp_path, fast=True)
    path.write_text(f'"{NAME}" "/DC=org/CN=Alice"\n')
    bearer = TokenVerifier(replace(settings, map_file=path), clock).principal(token())
    gate = Gate(TrustSettings(pki.trust_dir, ban_file=bans), pki.host(), clock)
    bans.write_text("")
    gate.recheck(bearer)
    for name in (NAME, "/DC=org/CN=Alice"):
        bans.write_text(f'"{name}"\n')
        with pytest.raises(NotAuthenticated, match="banned here"):
            gate.recheck(bearer)


def test_without_scopes_and_groups_nothing_is_left(verifier: TokenVerifier) -> None:
    assert verifier.principal(token(scope=None)).scopes == ()
    bad = token(**{"scope": "storage.read:../x", "wlcg.groups": ["/biomed"]})
    assert verifier.principal(bad).scopes == ()


def test_a_map_gives_a_user_the_name_of_the_certificate(
    settings: TokenSettings, clock: Clock, tmp_path: Path
) -> None:
    path = tmp_path / "map"
    path.write_text(f'# ours\n"{NAME}" "/DC=org/Email=a@b"\n')
    verifier = TokenVerifier(replace(settings, map_file=path), clock)
    assert verifier.principal(token()).dn == "/DC=org/emailAddress=a@b"
    assert verifier.principal(token(sub="other")).dn == f"token:{ISSUER}#other"
    path.write_text("junk\n")
    with pytest.raises(NotAuthenticated, match="token map"):
        verifier.principal(token())


def unsigned(**head: Any) -> str:
    return jwt.encode({"iss": ISSUER, "sub": "x"}, None, algorithm="none", headers=head)


PUBLIC_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def now() -> int:
    return int(time.time())


BAD: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "words": lambda: "a.b.c",
    "too long": lambda: "x" * 20_000,
    "no algorithm": unsigned,
    "no algorithm, known key": lambda: unsigned(kid="r"),
    "another key": lambda: token(rsa.generate_private_key(65537, 2048)),
    "another kind of key": lambda: token(EC, "r", "ES256"),
    "another hash than the key is for": lambda: token(algorithm="RS512"),
    "unknown key": lambda: token(kid="unknown"),
    "unknown issuer": lambda: token(iss="https://evil.example.org"),
    "issuer without its slash": lambda: token(iss=ISSUER.rstrip("/")),
    "issuer that is no text": lambda: token(iss=None),
    "other issuer's audience": lambda: token(iss="https://other.example.org"),
    "another audience": lambda: token(aud="https://x"),
    "no audience": lambda: token(aud=None),
    "no subject": lambda: token(sub=None),
    "empty subject": lambda: token(sub=""),
    "subject with a newline": lambda: token(sub="a\nb"),
    "subject with a quotation mark": lambda: token(sub='a"b'),
    "subject of 300 characters": lambda: token(sub="x" * 300),
    "no end": lambda: token(exp=None),
    "no beginning": lambda: token(iat=None),
    "expired": lambda: token(exp=now() - 120, iat=now() - 600, nbf=now() - 600),
    "of tomorrow": lambda: token(nbf=now() + 600, exp=now() + 900),
    "made tomorrow": lambda: token(iat=now() + 600, exp=now() + 900),
    "end far away": lambda: token(exp=now() + 30 * 86400),
    "end never": lambda: token(exp=1e300),
    "end beyond numbers": lambda: token(exp=10**400),
    "end that is infinite": lambda: token(exp=float("inf")),
    "end that is no number": lambda: token(exp=float("nan")),
    "scope that is no text": lambda: token(scope=["storage.read:/"]),
    "groups that are no list": lambda: token(**{"wlcg.groups": "/biomed"}),
    "critical header": lambda: jwt.encode(
        {"iss": ISSUER}, RSA, algorithm="RS256", headers={"crit": ["x"], "x": 1}
    ),
    "cut off": lambda: token()[:-10],
    "tampered": lambda: token().replace(".", ".e", 1),
}


@pytest.mark.parametrize("case", BAD)
def test_bad(verifier: TokenVerifier, case: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        verifier.principal(BAD[case]())
    assert caught.value.message.isprintable()


def test_the_public_key_is_no_secret(verifier: TokenVerifier) -> None:
    """Sign with HMAC and the published key: the oldest trick."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "r"}).encode())
    signed = head + b"." + token().split(".")[1].encode()
    forged = signed + b"." + part(hmac.digest(PUBLIC_PEM, signed, "sha256"))
    with pytest.raises(NotAuthenticated, match="algorithm"):
        verifier.principal(forged.decode())


@pytest.mark.parametrize("skew_s", [-1, 301])
def test_clocks_may_not_differ_by_much(settings: TokenSettings, clock: Clock, skew_s: float) -> None:
    with pytest.raises(InvalidRequest, match="clocks"):
        TokenVerifier(replace(settings, skew_s=skew_s), clock)


def test_settings_that_make_no_sense(settings: TokenSettings, clock: Clock) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        TokenVerifier(TokenSettings(settings.issuers * 2), clock)
    with pytest.raises(InvalidRequest, match="audience"):
        TokenVerifier(TokenSettings((Issuer(ISSUER, ()),)), clock)


# --- keys --------------------------------------------------------------------------------------------


class Web:
    """What an issuer publishes."""

    def __init__(self) -> None:
        self.keys = [public(RSA, "r")]
        self.asked: list[str] = []
        self.down = False

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if self.down:
            raise OSError("down")
        if url.endswith("openid-configuration"):
            return json.dumps({"issuer": ISSUER, "jwks_uri": ISSUER + "jwks"}).encode()
        return json.dumps({"keys": self.keys}).encode()


def test_keys_over_https_are_cached_renewed_and_outlive_a_failure(clock: Clock) -> None:
    web = Web()
    verifier = TokenVerifier(TokenSettings((Issuer(ISSUER, (SITE,)),)), clock, web.fetch)
    for _ in range(3):
        verifier.principal(token())
    assert web.asked == [ISSUER + ".well-known/openid-configuration", ISSUER + "jwks"]
    for _ in range(5):
        with pytest.raises(NotAuthenticated, match="no such key"):
            verifier.principal(token(EC, "e", "ES256"))
    assert len(web.asked) == 2  # not asked again within the minute
    web.keys.append(public(EC, "e"))
    clock.ahead = timedelta(minutes=2)
    verifier.principal(token(EC, "e", "ES256"))
    web.down, clock.ahead = True, timedelta(hours=3)
    fresh = {"iat": now() + 10800, "nbf": now() + 10800, "exp": now() + 12000}
    verifier.principal(token(**fresh))
    clock.ahead = timedelta(days=2)
    late = {"iat": now() + 172800, "nbf": now() + 172800, "exp": now() + 173000}
    with pytest.raises(NotAuthenticated, match="cannot be had"):
        verifier.principal(token(**late))


def test_whose_key_is_known_waits_for_no_issuer(clock: Clock) -> None:
    web, asked, answer = Web(), threading.Event(), threading.Event()

    def fetch(url: str) -> bytes:
        if web.down:
            asked.set()
            assert answer.wait(10)
        return web.fetch(url)

    verifier = TokenVerifier(TokenSettings((Issuer(ISSUER, (SITE,)),)), clock, fetch)
    verifier.principal(token())
    web.down, clock.ahead = True, timedelta(minutes=2)
    with ThreadPoolExecutor(2) as pool:
        unknown = pool.submit(verifier.principal, token(EC, "e", "ES256"))
        assert asked.wait(10)
        assert pool.submit(verifier.principal, token()).result(timeout=10)
        assert not unknown.done()
        answer.set()
        with pytest.raises(NotAuthenticated, match="no such key"):
            unknown.result()


def test_a_withdrawn_key_of_a_file_counts_no_more(verifier: TokenVerifier, keys: Path, clock: Clock) -> None:
    verifier.principal(token())
    keys.write_text(json.dumps({"keys": KEYS[1:]}))
    clock.ahead = timedelta(minutes=1)
    with pytest.raises(NotAuthenticated, match="no such key"):
        verifier.principal(token())


@pytest.mark.parametrize(
    "published",
    [
        "junk",
        "{}",
        '{"keys": 7}',
        json.dumps({"keys": [public(rsa.generate_private_key(65537, 1024), "r")]}),
        json.dumps({"keys": [public(RSA, "r", use="enc")]}),
        json.dumps({"keys": [public(RSA, "r", alg="RS512")]}),
        json.dumps({"keys": [public(RSA, "r"), public(EC, "r"), public(RSA, "r")]}),
        json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "r"}]}),
    ],
)
def test_keys_that_do_not_count(verifier: TokenVerifier, keys: Path, published: str) -> None:
    keys.write_text(published)
    with pytest.raises(NotAuthenticated):
        verifier.principal(token())


@pytest.mark.parametrize(
    "url", ["http://localhost/", "file:///etc/passwd", "ftp://x", "https://localhost:1/"]
)
def test_only_https_is_fetched(url: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 the system's words differ
        fetch_https(url)


# --- scopes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "permission", "path", "left"),
    [
        ("storage.read:/cohort", "r", "/b/cohort", True),
        ("storage.read:/cohort", "r", "/b/cohort/p/1.c4gh", True),
        ("storage.read:/cohort", "r", "/b/cohort2/1.c4gh", False),
        ("storage.read:/cohort/", "r", "/b/cohort/x", True),
        ("storage.read:/cohort", "r", "/b", False),
        ("storage.read:/cohort", "x", "/b", True),
        ("storage.read:/cohort", "x", "/", True),
        ("storage.read:/cohort", "x", "/c", False),
        ("storage.read:/cohort", "w", "/b/cohort/x", False),
        ("storage.read:/cohort", "g", "/b/cohort/x", False),
        ("storage.read:/", "r", "/b/x", True),
        ("storage.read:/", "r", "/c/x", False),
        ("storage.create:/cohort", "w", "/b/cohort/x", True),
        ("storage.create:/cohort", "r", "/b/cohort/x", False),
        ("storage.create:/cohort", scopes.REPLACE, "/b/cohort/x", False),
        ("storage.modify:/cohort", scopes.REPLACE, "/b/cohort/x", True),
        ("storage.modify:/cohort", "w", "/b", False),
        ("storage.modify:/cohort", scopes.LEAD, "/b", True),
        ("storage.read:/cohort", scopes.LEAD, "/b", False),
        ("storage.create:/cohort", "w", "/b/cohort", True),
        ("storage.create:/cohort/", "w", "/b/cohort", False),
        ("storage.create:/cohort/", scopes.LEAD, "/b/cohort", True),
        ("storage.create:/cohort/", "w", "/b/cohort/x", True),
        ("storage.stage:/cohort", "r", "/b/cohort/x", False),
        ("storage.stage:/cohort", scopes.STAGE, "/b/cohort/x", True),
        ("storage.read:/cohort", scopes.STAGE, "/b/cohort/x", False),
        ("storage.read:/cohort", scopes.SEE, "/b/cohort/x", True),
        ("storage.read:/cohort", scopes.SEE, "/b", False),
        ("storage.poll:/cohort", scopes.POLL, "/b/cohort/x", True),
        ("storage.poll:/cohort", scopes.SEE, "/b/cohort/x", False),
        ("storage.poll:/cohort", "x", "/b", False),
        ("storage.read:cohort", "r", "/b/cohort", False),
        ("storage.read:/../c", "r", "/c", False),
        ("storage.read:/cohort/../..", "r", "/c", False),
        ("storage.read:/a/./b", "r", "/b/a/b", False),
        ("storage.read:/%2e%2e/c", "r", "/c", False),
        ("compute.read:/", "r", "/b/x", False),
        ("storage.admin:/", "r", "/b/x", False),
    ],
)
def test_scopes(scope: str, permission: str, path: str, left: bool) -> None:
    assert scopes.within(scopes.parse(f"openid {scope}", "/b"), permission, path) == left


@pytest.mark.parametrize(
    "scope", ["storage.read", "openid storage.poll", "storage.modify:", "storage.read: x"]
)
def test_a_storage_scope_without_a_path_is_no_good_token(verifier: TokenVerifier, scope: str) -> None:
    with pytest.raises(NotAuthenticated, match="path"):
        verifier.principal(token(scope=f"storage.read:/ {scope}"))


@given(st.text(max_size=60))
def test_no_scope_leads_out_of_its_base(text: str) -> None:
    for scope in scopes.parse(f"storage.read:/{text} storage.read:x{text}", "/base"):
        assert scope.path == "/base" or scope.path.startswith("/base/")


def test_a_scope_narrows_and_never_grants() -> None:
    acl = Acl.parse(f'user:"{NAME}":rg')
    free = Principal(NAME, (), True, datetime.max.replace(tzinfo=UTC))
    narrowed = replace(free, scopes=scopes.parse("storage.read:/a storage.modify:/a", "/"))
    assert decide(acl, "", free, "r", "/b").allowed
    assert decide(acl, "", narrowed, "r", "/a/1").allowed
    assert not decide(acl, "", narrowed, "r", "/b").allowed
    assert not decide(acl, "", narrowed, "w", "/a/1").allowed
    assert not decide(acl, "", narrowed, "g").allowed
    assert not decide(acl, "", replace(narrowed, scopes=()), "r", "/a/1").allowed
    assert not decide(Acl.parse("user::r"), "", narrowed, "r", "/a/1").allowed

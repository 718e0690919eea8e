"""Tokens at a door: alone, beside a certificate, and where none are taken."""

import json
import socket
import ssl
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from srm_dicom.clock import SystemClock
from srm_dicom.identity import watch
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.tokens import Issuer, TokenSettings, TokenVerifier
from srm_dicom.web.limits import Limits

ISSUER = "https://issuer.example.org"
KEY = ec.generate_private_key(ec.SECP256R1())
GET = "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n"


def bearer(scope="storage.read:/a", **changes):
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": "s", "aud": "me", "iat": now, "exp": now + 600, "scope": scope} | changes
    return "Authorization: Bearer " + jwt.encode(claims, KEY, algorithm="ES256") + "\r\n"


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "keys"
    key = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(KEY.public_key()))
    path.write_text(json.dumps({"keys": [key]}))
    settings = TokenSettings((Issuer(ISSUER, ("me",), organisation="vo", keys=str(path)),))
    return TokenVerifier(settings, SystemClock())


def whoami(environ, start_response):
    principal = environ["srm_dicom.principal"]
    start_response("200 OK", [("Content-Type", "application/json")])
    scopes = None if principal.scopes is None else [scope.path for scope in principal.scopes]
    said = {"dn": principal.dn, "fqans": principal.fqans, "limited": principal.limited, "scopes": scopes}
    return [json.dumps(said | {"seen": "HTTP_AUTHORIZATION" in environ}).encode()]


class Nameless:
    """A TLS connection without a client certificate."""

    def __init__(self, port, trust):
        context = ssl.create_default_context(capath=str(trust))
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        sock = socket.create_connection(("localhost", port), timeout=10)
        self.tls = context.wrap_socket(sock, server_hostname="localhost")

    def ask(self, *headers):
        self.tls.sendall(GET.format("".join(headers)).encode())
        heard = b""
        while b"\r\n\r\n" not in heard or not heard.endswith(b"}"):
            data = self.tls.recv(65536)
            if not data:
                break
            heard += data
        return heard


def answer(heard):
    assert b" 200 OK" in heard, heard
    return json.loads(heard.partition(b"\r\n\r\n")[2])


def test_a_bearer_needs_no_certificate(serve, tokens, pki):
    line = Nameless(serve(whoami, tokens=tokens).port, pki.trust_dir)
    said = answer(line.ask(bearer()))
    assert said == {
        "dn": f"token:{ISSUER}#s",
        "fqans": [],
        "limited": True,
        "scopes": ["/a"],
        "seen": False,
    }
    assert answer(line.ask(bearer("storage.read:/b")))["scopes"] == ["/b"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Authorization: Basic eDp5\r\n"],
        ["Authorization: Bearer x\r\n"],
        [bearer(aud="other")],
        [bearer(exp=1)],
        [bearer(), bearer()],
    ],
)
def test_without_a_good_token_nobody_comes_in(serve, tokens, pki, headers):
    heard = Nameless(serve(whoami, tokens=tokens).port, pki.trust_dir).ask(*headers)
    assert b" 401 " in heard
    assert b"WWW-Authenticate: Bearer" in heard


def test_every_request_needs_its_token(serve, tokens, pki):
    line = Nameless(serve(whoami, tokens=tokens).port, pki.trust_dir)
    answer(line.ask(bearer()))
    assert b" 401 " in line.ask()


def test_beside_a_certificate_a_token_only_narrows(serve, tokens, line, pki):
    connection = line(serve(whoami, tokens=tokens))
    assert answer(connection.say(GET.format("").encode()).hear(b"}"))["scopes"] is None
    groups = bearer("storage.read:/a", **{"wlcg.groups": ["/vo/admins"]})
    said = answer(connection.say(GET.format(groups).encode()).hear(b"}"))
    assert said["dn"] == pki.dn(pki.user("alice"))
    assert (said["fqans"], said["limited"], said["scopes"]) == ([], True, ["/a"])


def test_a_bad_token_is_refused_in_spite_of_a_certificate(serve, tokens, line):
    connection = line(serve(whoami, tokens=tokens))
    assert b" 401 " in connection.say(GET.format(bearer(exp=1)).encode()).hear_all()


def test_a_door_that_takes_none_ignores_them(serve, line, pki):
    server = serve(whoami)
    said = answer(line(server).say(GET.format(bearer()).encode()).hear(b"}"))
    assert (said["dn"], said["scopes"], said["seen"]) == (pki.dn(pki.user("alice")), None, False)
    with pytest.raises((OSError, AssertionError)):
        answer(Nameless(server.port, pki.trust_dir).ask(bearer()))


def test_httpg_is_for_certificates(serve, tokens, pki):
    line = Nameless(serve(whoami, tokens=tokens).port, pki.trust_dir)
    line.tls.sendall(b"0" + GET.format(bearer()).encode())
    assert line.tls.recv(1) == b""


def test_a_bad_certificate_is_no_missing_one(serve, tokens, line, pki):
    late = pki.proxy(pki.user("alice"), lifetime_s=-60)
    connection = line(serve(whoami, tokens=tokens), late)
    assert connection.say(GET.format(bearer()).encode()).hear_all() == b""


def test_a_banned_bearer_stays_out(serve, tokens, pki, gate, tmp_path, monkeypatch):
    bans = tmp_path / "bans"
    bans.write_text(f'"token:{ISSUER}#s"\n')
    strict = Gate(TrustSettings(pki.trust_dir, ban_file=bans), pki.host(), SystemClock())
    server = serve(whoami, tokens=tokens)
    monkeypatch.setattr(gate, "_bans", strict._bans)
    assert b" 401 " in Nameless(server.port, pki.trust_dir).ask(bearer())


def test_a_bearer_who_is_banned_meanwhile_gets_no_more_but_one_whose_token_ends_does(
    serve, tokens, pki, gate, tmp_path, monkeypatch
):
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.05)
    bans = tmp_path / "bans"
    bans.write_text("")
    strict = Gate(TrustSettings(pki.trust_dir, ban_file=bans), pki.host(), SystemClock())
    monkeypatch.setattr(gate, "_bans", strict._bans)

    def endless(_environ, start_response):
        start_response("200 OK", [])
        while True:
            time.sleep(0.01)
            yield b"x" * 1000

    line = Nameless(serve(endless, tokens=tokens).port, pki.trust_dir)
    line.tls.sendall(GET.format(bearer(exp=int(time.time()) - 58)).encode())
    until_s = time.monotonic() + 3
    while time.monotonic() < until_s:
        assert line.tls.recv(65536)
    bans.write_text(f'"token:{ISSUER}#s"\n')
    until_s = time.monotonic() + 10
    while line.tls.recv(65536):
        assert time.monotonic() < until_s


def test_who_comes_with_tokens_alone_has_the_bound_of_an_identity_too(serve, tokens, pki):
    server = serve(whoami, tokens=tokens, limits=Limits(connections_per_identity=1))
    first, second = (Nameless(server.port, pki.trust_dir) for _ in range(2))
    answer(first.ask(bearer()))
    answer(second.ask(bearer(sub="other")))
    assert b" 503 " in second.ask(bearer())
    answer(first.ask(bearer(sub="other")))
    answer(first.ask(bearer()))

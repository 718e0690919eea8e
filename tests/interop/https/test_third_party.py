"""Third-party copies between two doors, as gfal2 and davix ask for them: X.509 by delegation, and tokens."""

import os

import pytest


def succeeded(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.interop("gfal-copy")
@pytest.mark.parametrize("mode", ["pull", "push"])
def test_gfal_copies_with_a_delegated_proxy(pair, mode):
    copy = ("gfal-copy", "-vv", "-f", "-K", "ADLER32", "--copy-mode", mode, "--just-copy")
    said = succeeded(pair.run(*copy, pair.here.url("file"), pair.there.url(f"by-{mode}")))
    assert (pair.there.root / f"by-{mode}").read_bytes() == pair.content
    assert "third party copy" in said


@pytest.mark.interop("gfal-copy")
@pytest.mark.parametrize("mode", ["pull", "push"])
def test_gfal_copies_with_a_token(pair, mode):
    """No certificate anywhere: the token that gfal2 has is handed on to the other side."""
    token = pair.issuer.token("alice", "storage.read:/ storage.modify:/")
    copy = ("gfal-copy", "-vv", "-f", "--copy-mode", mode, "--just-copy")
    names = (pair.here.url("file"), pair.there.url(f"token-{mode}"))
    said = succeeded(pair.run(*copy, *names, X509_USER_PROXY="", BEARER_TOKEN=token))
    assert (pair.there.root / f"token-{mode}").read_bytes() == pair.content
    assert "third party copy" in said


@pytest.mark.interop("gfal-copy")
def test_gfal_copies_a_directory(pair):
    (pair.here.root / "dir").mkdir()
    for number in range(10):
        (pair.here.root / "dir" / f"f{number}").write_bytes(os.urandom(1000 + number))
    succeeded(pair.run("gfal-copy", "-r", pair.here.url("dir"), pair.there.url("copied")))
    copied = {path.name: path.read_bytes() for path in (pair.there.root / "copied").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in (pair.here.root / "dir").iterdir()}


@pytest.mark.interop("davix-cp")
def test_davix_copies(pair):
    names = (pair.here.url("file"), pair.there.url("davix"))
    succeeded(pair.run("davix-cp", "--capath", pair.pki.trust_dir, "-E", pair.alice.certificate, *names))
    assert (pair.there.root / "davix").read_bytes() == pair.content


# --- what happens on the wire, with curl


@pytest.fixture
def copy(pair):
    """Ask for a COPY with a token for the other side; the status and what is told."""

    def ask(url, *headers, scope="storage.read:/ storage.modify:/"):
        token = pair.issuer.token("alice", scope)
        told = ("Credential: none", f"TransferHeaderAuthorization: Bearer {token}", *headers)
        options = [word for header in told for word in ("-H", header)]
        said = succeeded(pair.curl("-X", "COPY", *options, "-w", "\n%{http_code}", url))
        body, _, status = said.rpartition("\n")
        return int(status), body

    return ask


@pytest.mark.interop("curl")
def test_markers(pair, copy):
    target = pair.there.url("marked", "https")
    status, told = copy(pair.here.url("file", "https"), f"Destination: {target}")
    assert status == 202
    assert told.splitlines()[-1] == "success: Created"
    assert f"Stripe Bytes Transferred: {len(pair.content)}" in told
    assert f"RemoteConnections: tcp:127.0.0.1:{pair.there.server.port}" in told or "tcp:[::1]" in told
    assert (pair.there.root / "marked").read_bytes() == pair.content


@pytest.mark.interop("curl")
def test_a_copy_that_fails_leaves_nothing(pair, copy):
    source = pair.there.url("absent", "https")
    status, told = copy(pair.here.url("nothing", "https"), f"Source: {source}")
    assert (status, told.splitlines()[-1]) == (202, "failure: the other server: no such file or directory")
    assert not (pair.here.root / "nothing").exists()


@pytest.mark.interop("curl")
def test_what_is_sealed_is_pulled_over_encrypted_connections_only(pair, copy):
    pair.there.files.sealed.add("/image")
    image = pair.there.url("image", "https")
    status, told = copy(image, "Source: gsiftp://localhost:2811/file")
    assert status == 501
    assert "pull it by https" in told
    assert copy(image, f"Source: {pair.here.url('file', 'https')}")[0] == 202
    assert (pair.there.root / "image").read_bytes() == pair.content


@pytest.mark.interop("curl")
def test_what_is_refused_at_once(pair, copy):
    here, there = pair.here.url("file", "https"), pair.there.url("x", "https")
    assert copy(pair.here.url("absent", "https"), f"Destination: {there}")[0] == 404
    assert copy(here, "Destination: https://elsewhere.example/x")[0] == 403
    assert copy(here, f"Destination: https://127.0.0.1:{pair.there.server.port}/x")[0] == 403
    assert copy(here, "Destination: http://localhost/x")[0] == 501
    assert copy(here)[0] == 400
    assert copy(here, f"Destination: {there}", f"Source: {there}")[0] == 400
    assert copy(here, f"Destination: {there}", "Credential: oidc")[0] == 501
    assert copy(here, f"Destination: {there}", "TransferHeaderHost: evil")[0] == 400
    assert copy(here, f"Source: {there}", "Overwrite: F")[0] == 412


@pytest.mark.interop("gfal-copy")
def test_a_token_does_not_use_what_its_owner_delegated_with_a_certificate(pair):
    """A limited proxy and a mapped token are alike in name, groups and being limited."""
    limited = pair.pki.proxy(pair.pki.user("Alice"), limited=True)
    copy = ("gfal-copy", "--copy-mode", "push", pair.here.url("file"), pair.there.url("delegated"))
    succeeded(pair.run(*copy, **pair.pki.environment(limited)))
    token = pair.issuer.token("alice", "storage.read:/")
    trust = ("--capath", pair.pki.trust_dir)
    ask = ("-X", "COPY", "-H", f"Destination: {pair.there.url('evil', 'https')}", "-w", "\n%{http_code}")
    bearer = ("-H", f"Authorization: Bearer {token}", pair.here.url("file", "https"))
    said = {
        "alone": succeeded(pair.run("curl", "-sS", *trust, *ask, *bearer)),
        "beside a certificate": succeeded(
            pair.run("curl", "-sS", *trust, "-E", limited.certificate, "--key", limited.key, *ask, *bearer)
        ),
    }
    assert {name: text.rpartition("\n")[2] for name, text in said.items()} == dict.fromkeys(said, "501")
    assert not (pair.there.root / "evil").exists()


@pytest.mark.interop("curl")
def test_one_identity_has_half_of_the_copies(pair, copy):
    here, there = pair.here.url("file", "https"), pair.there.url("half", "https")
    turns, dn = pair.here.copies._turns, pair.pki.dn(pair.alice)
    while turns.take(dn):
        pass
    try:
        assert copy(here, f"Destination: {there}")[0] == 503
        assert turns.take("/CN=Bob")
        turns.release("/CN=Bob")
    finally:
        while turns._held[dn]:
            turns.release(dn)
    assert copy(here, f"Destination: {there}")[0] == 202

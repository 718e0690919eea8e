"""What grid users run, unmodified, against the GridFTP door; and our client against a Globus server."""

import io
import re
import shutil
import zlib

import pytest

from srm_dicom import errors
from srm_dicom.client.gridftp import GridFtpClient
from srm_dicom.identity.credential import Credential
from srm_dicom.testing.pki import (
    Authority,
    key_usage,
    name_of,
    new_rsa_key,
    proxy_certificate,
    write_credential,
)
from srm_dicom.testing.served import DirectoryFiles

GUC = pytest.mark.interop("globus-url-copy")
GFAL = pytest.mark.interop("gfal-copy")
ARC = pytest.mark.interop("arccp")
GLOBUS = pytest.mark.interop("globus-gridftp-server")


def said(done):
    return done.stdout + done.stderr


def succeeded(done):
    return done.returncode == 0


# --- globus-url-copy


@GUC
@pytest.mark.parametrize("name", ["file", "large", "empty"])
@pytest.mark.parametrize(
    "options",
    [
        "",
        "-nodcau",
        "-dcsafe",
        "-dcpriv",
        "-p 4",
        "-p 4 -nodcau",
        "-p 4 -dcpriv",
        "-fast",
        "-stripe",
        "-ipv6",
    ],
)
def test_globus_url_copy(site, tmp_path, options, name):
    site.copied(["globus-url-copy", *options.split()], name, tmp_path / "copy")


@GUC
@pytest.mark.parametrize("options", ["-tcp-bs 1048576", "-tcp-bs 1048576 -p 2"])
def test_globus_url_copy_that_names_a_buffer_size(site, new_door, tmp_path, options):
    command = ["globus-url-copy", *options.split()]
    site.copied(command, "file", tmp_path / "copy")
    (tmp_path / "there").mkdir()
    with new_door(DirectoryFiles(tmp_path / "there")) as url:
        site.succeed(*command, f"file://{tmp_path}/copy", f"{url}/up")
        site.succeed(*command, f"{site.url}/file", f"{url}/across")
    for name in ("up", "across"):
        assert (tmp_path / "there" / name).read_bytes() == (site.root / "file").read_bytes()


@GUC
@pytest.mark.parametrize("options", ["", "-p 2", "-fast"])
def test_globus_url_copy_of_a_part(site, tmp_path, options):
    target = tmp_path / "part"
    part = ["-off", "1000", "-len", "5000"]
    done = site.run("globus-url-copy", *options.split(), *part, f"{site.url}/file", f"file://{target}")
    assert done.returncode == 0, said(done)
    assert target.read_bytes()[-5000:] == (site.root / "file").read_bytes()[1000:6000]


@GUC
@pytest.mark.parametrize("options", ["", "-nodcau", "-pp", "-pp -dcpriv", "-fast -p 2"])
def test_globus_url_copy_of_a_directory(site, tmp_path, options):
    command = ["globus-url-copy", *options.split(), "-cd", "-r"]
    done = site.run(*command, f"{site.url}/dir/", f"file://{tmp_path}/copy/")
    assert done.returncode == 0, said(done)
    here = {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    assert here == {path.name: path.read_bytes() for path in (site.root / "dir").iterdir()}


@GUC
def test_globus_url_copy_lists(site):
    done = site.run("globus-url-copy", "-list", f"{site.url}/dir/")
    assert done.returncode == 0, said(done)
    assert {line.strip() for line in done.stdout.splitlines()[1:] if line} == {f"f{n}" for n in range(30)}


@GUC
def test_globus_url_copy_verifies_a_checksum(site, tmp_path):
    site.copied(["globus-url-copy", "-verify-checksum"], "file", tmp_path / "copy")


# --- gfal2


@GFAL
@pytest.mark.parametrize("options", ["", "-K ADLER32", "-K MD5", "-n 4"])
@pytest.mark.parametrize("name", ["file", "large"])
def test_gfal_copy(site, tmp_path, options, name):
    site.copied(["gfal-copy", "-f", *options.split()], name, tmp_path / "copy")


@GFAL
def test_gfal_ls_stat_and_sum(site):
    listing = site.run("gfal-ls", "-l", f"{site.url}/")
    assert succeeded(listing), said(listing)
    assert re.search(r"^-r.* 524289 .* file\s*$", listing.stdout, re.MULTILINE)
    assert re.search(r"^dr.* dir\s*$", listing.stdout, re.MULTILINE)
    stat = site.run("gfal-stat", f"{site.url}/large")
    assert "20000003" in stat.stdout, said(stat)
    assert "Jan" in stat.stdout or "2026-01-01" in stat.stdout
    adler = site.run("gfal-sum", f"{site.url}/file", "ADLER32")
    assert f"{zlib.adler32((site.root / 'file').read_bytes()):08x}" in adler.stdout, said(adler)


@GFAL
@pytest.mark.parametrize(
    ("name", "code"),
    [("absent", 2), ("secret/hidden", 2), ("secret/unreadable", 13), ("secret/nearline", 70)],
)
def test_gfal_understands_refusals(site, tmp_path, name, code):
    command = ["gfal-copy", "-f", f"{site.url}/{name}", f"file://{tmp_path}/copy"]
    done = site.run(*command)
    if "CLIENT_IDLE not allowed here" in done.stderr:  # Globus's client tripped over itself
        done = site.run(*command)
    assert done.returncode == code, said(done)
    assert not (tmp_path / "copy").exists() or not (tmp_path / "copy").stat().st_size


@GFAL
def test_absent_and_hidden_look_the_same(site):
    absent, hidden = (
        said(site.run("gfal-stat", f"{site.url}/secret/{name}")).replace(name, "NAME")
        for name in ("absent", "hidden")
    )
    assert absent == hidden


# --- ARC


@ARC
@pytest.mark.parametrize("options", ["", "-u"])
def test_arccp(site, tmp_path, options):
    target = tmp_path / "copy"
    done = site.run("arccp", *options.split(), f"{site.url}/file", target)
    assert done.returncode == 0, said(done)
    assert target.read_bytes() == (site.root / "file").read_bytes()


@ARC
def test_arcls(site):
    done = site.run("arcls", "-l", f"{site.url}/dir/")
    assert done.returncode == 0, said(done)
    assert re.search(r"^f7\s+file\s.*\s1007\s", done.stdout, re.MULTILINE)
    done = site.run("arcls", "-l", f"{site.url}/file")
    assert "524289" in done.stdout, said(done)


# --- credentials


@GUC
@pytest.mark.parametrize("kind", ["end entity", "limited", "proxy of proxy", "limited proxy of proxy"])
def test_credentials_that_are_accepted(site, tmp_path, kind):
    user = site.pki.user("Alice")
    credential = {
        "end entity": lambda: user,
        "limited": lambda: site.pki.proxy(user, limited=True),
        "proxy of proxy": lambda: site.pki.proxy(site.pki.proxy(user)),
        "limited proxy of proxy": lambda: site.pki.proxy(site.pki.proxy(user), limited=True),
    }[kind]()
    for options in ([], ["-fast"]):
        site.copied(["globus-url-copy", *options], "file", tmp_path / "copy", credential=credential)


@GUC
@pytest.mark.interop("grid-proxy-init")
@pytest.mark.parametrize("options", ["-rfc", "-limited"])
def test_a_proxy_made_by_grid_proxy_init(site, tmp_path, options):
    proxy = tmp_path / "proxy"
    made = site.run("grid-proxy-init", options, "-out", proxy, credential=site.pki.user("Alice"))
    assert made.returncode == 0, said(made)
    credential = Credential(proxy, proxy, site.pki.trust_dir)
    site.copied(["globus-url-copy"], "file", tmp_path / "copy", credential=credential)


@pytest.mark.parametrize(
    "client", [pytest.param("globus-url-copy", marks=GUC), pytest.param("gfal-copy", marks=GFAL)]
)
@pytest.mark.parametrize(("kind", "words"), [("revoked", "revoked"), ("untrusted", "issuer")])
def test_the_user_reads_why_a_credential_is_refused(site, tmp_path, client, kind, words):
    if kind == "revoked":
        credential = site.pki.proxy(site.pki.user("Revoked"))
        site.pki.revoke(credential)
    else:
        credential = _untrusted(site, tmp_path)
    done = site.run(client, f"{site.url}/file", f"file://{tmp_path}/copy", credential=credential)
    assert done.returncode != 0
    assert words in said(done)
    assert not (tmp_path / "copy").exists() or not (tmp_path / "copy").stat().st_size


def _untrusted(site, tmp_path):
    """A proxy of an authority that the client trusts and the server does not."""
    trust = tmp_path / "trust"
    shutil.copytree(site.pki.trust_dir, trust)
    elsewhere = (("DC", "test"), ("DC", "elsewhere"))
    authority = Authority.create(name_of(*elsewhere, ("CN", "Other CA")))
    authority.install(trust, "/DC=test/DC=elsewhere/*")
    key, proxy_key = new_rsa_key(), new_rsa_key()
    usage = [(key_usage("digital_signature"), True)]
    user = authority.issue(name_of(*elsewhere, ("CN", "Mallory")), key.public_key(), usage)
    path = tmp_path / "mallory.pem"
    write_credential(path, [proxy_certificate(user, key, proxy_key.public_key()), user], proxy_key)
    return Credential(path, path, trust)


def test_an_expired_proxy_is_refused_by_the_server(site):
    """Real clients refuse an expired proxy themselves; ours shows it, and the server says why."""
    expired = site.pki.proxy(site.pki.user("Alice"), lifetime_s=-10)
    with GridFtpClient(expired) as client, pytest.raises(errors.NotAuthenticated, match="expired"):
        client.read(f"{site.url}/file")


# --- a Globus server


@GLOBUS
def test_our_client_reads_from_globus(site, globus):
    content = (site.root / "large").read_bytes()
    sink = io.BytesIO()
    with GridFtpClient(site.alice) as client:
        client.fetch(f"{globus}{site.root}/large", sink)
        assert sink.getvalue() == content
        rest = io.BytesIO()
        client.fetch(f"{globus}{site.root}/large", rest, offset=19_000_000)
        assert rest.getvalue() == content[19_000_000:]
        assert client.stat(f"{globus}{site.root}/large").size_bytes == len(content)
        assert client.stat(f"{globus}{site.root}").is_directory
        assert client.read(f"{globus}{site.root}/empty") == b""
        with pytest.raises(errors.NotFound):
            client.read(f"{globus}{site.root}/absent")


@GUC
def test_who_has_too_many_sessions_is_told_so(site, new_door):
    with new_door(site.files, max_sessions_per_identity=0) as url:
        done = site.run("globus-url-copy", f"{url}/file", "file:///dev/null")
    assert done.returncode == 1
    assert "421 You have too many sessions: close some, or try again later." in said(done)

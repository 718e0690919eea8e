"""Uploads, directories and names through the GridFTP door, by what grid users run."""

import os
import time

import pytest

from srm_dicom.testing.served import DirectoryFiles

GUC = pytest.mark.interop("globus-url-copy")
GFAL = pytest.mark.interop("gfal-copy")
ARC = pytest.mark.interop("arccp")


@pytest.fixture
def mine(tmp_path):
    """Files of the user's own."""
    (tmp_path / "file").write_bytes(os.urandom(524_289))
    (tmp_path / "large").write_bytes(os.urandom(20_000_003))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "many").mkdir()
    for number in range(50):
        (tmp_path / "many" / f"f{number}").write_bytes(os.urandom(1000 + number))
    return tmp_path


@pytest.fixture
def folder(site, request):
    """A fresh directory at the site."""
    name = f"w{abs(hash(request.node.name))}"
    (site.root / name).mkdir()
    return name


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
def test_globus_url_copy_puts(site, mine, folder, options, name):
    site.succeed("globus-url-copy", *options.split(), f"file://{mine}/{name}", f"{site.url}/{folder}/{name}")
    assert (site.root / folder / name).read_bytes() == (mine / name).read_bytes()


@GUC
@pytest.mark.parametrize("options", ["", "-nodcau", "-pp", "-pp -dcpriv", "-fast -p 2", "-cc 4"])
def test_globus_url_copy_puts_a_directory(site, mine, folder, options):
    command = ["globus-url-copy", *options.split(), "-cd", "-r"]
    site.succeed(*command, f"file://{mine}/many/", f"{site.url}/{folder}/new/")
    here = {path.name: path.read_bytes() for path in (site.root / folder / "new").iterdir()}
    assert here == {path.name: path.read_bytes() for path in (mine / "many").iterdir()}


@GUC
def test_globus_url_copy_puts_a_part_where_it_belongs(site, mine, folder):
    target = site.root / folder / "file"
    site.succeed(
        "globus-url-copy", "-off", "1000", "-len", "5000", f"file://{mine}/file", f"{site.url}/{folder}/file"
    )
    assert target.read_bytes()[-5000:] == (mine / "file").read_bytes()[1000:6000]


@GUC
def test_the_user_reads_why_an_upload_is_refused(site, mine, new_door):
    with new_door(site.files, read_only=True) as url:
        done = site.run("globus-url-copy", f"file://{mine}/file", f"{url}/new")
    assert done.returncode != 0
    assert "read-only" in done.stdout + done.stderr
    assert not (site.root / "new").exists()


@GUC
def test_what_is_sealed_needs_an_encrypted_connection(site, mine, folder, new_door):
    path = f"/{folder}/file"
    with new_door(DirectoryFiles(site.root, sealed={path})) as url:
        done = site.run("globus-url-copy", f"file://{mine}/file", url + path)
        assert done.returncode != 0
        assert "PROT P" in done.stdout + done.stderr
        assert not (site.root / folder / "file").exists()
        site.succeed("globus-url-copy", "-dcpriv", f"file://{mine}/file", url + path)
    assert (site.root / folder / "file").read_bytes() == (mine / "file").read_bytes()


@GUC
def test_an_upload_that_was_killed_leaves_nothing_under_its_name(site, folder):
    process = site.start("globus-url-copy", "file:///dev/zero", f"{site.url}/{folder}/endless")
    partial = site.root / folder / ".endless.part"
    deadline_s = time.monotonic() + 30
    while not partial.exists() or not partial.stat().st_size:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    process.kill()
    process.wait(10)
    while site.door.sessions:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert not (site.root / folder / "endless").exists()
    partial.unlink()


@GFAL
@pytest.mark.parametrize("options", ["", "-K ADLER32", "-K MD5", "-n 4"])
def test_gfal_copy_puts(site, mine, folder, options):
    command = ["gfal-copy", "-f", *options.split()]
    site.succeed(*command, f"file://{mine}/file", f"{site.url}/{folder}/file")
    assert (site.root / folder / "file").read_bytes() == (mine / "file").read_bytes()


@GFAL
def test_gfal_makes_renames_and_removes(site, mine, folder):
    url = f"{site.url}/{folder}"
    here = site.root / folder
    site.succeed("gfal-mkdir", "-p", f"{url}/a/b")
    assert (here / "a" / "b").is_dir()
    again = site.run("gfal-mkdir", f"{url}/a")
    assert again.returncode == 17, again.stdout + again.stderr
    site.succeed("gfal-copy", f"file://{mine}/file", f"{url}/a/b/file")
    site.succeed("gfal-rename", f"{url}/a/b/file", f"{url}/a/other")
    assert (here / "a" / "other").exists()
    full = site.run("gfal-rm", f"{url}/a")
    assert full.returncode != 0
    site.succeed("gfal-rm", f"{url}/a/other")
    site.succeed("gfal-rm", "-r", f"{url}/a")
    assert not (here / "a").exists()
    absent = site.run("gfal-rm", f"{url}/absent")
    assert absent.returncode == 2, absent.stdout + absent.stderr


@ARC
def test_arc_puts_lists_renames_and_removes(site, mine, folder):
    url = f"{site.url}/{folder}"
    site.succeed("arccp", mine / "file", f"{url}/new/file")
    assert (site.root / folder / "new" / "file").read_bytes() == (mine / "file").read_bytes()
    assert "file" in site.succeed("arcls", f"{url}/new/")
    site.succeed("arcmkdir", f"{url}/made")
    assert (site.root / folder / "made").is_dir()
    site.succeed("arcrename", f"{url}/new/file", f"{url}/made/file")
    site.succeed("arcrm", f"{url}/made/file")
    assert not (site.root / folder / "made" / "file").exists()

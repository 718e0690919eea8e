"""Transfers that break off in the middle, and clients that go on; and a thousand files in a row."""

import os
import time

import pytest

from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer import receiving, storing

GUC = pytest.mark.interop("globus-url-copy")
GLOBUS = pytest.mark.interop("globus-gridftp-server")
HALF = 10_000_000


class Breaking(DirectoryFiles):
    """Loses the connection of the first transfer of a file in its middle."""

    def __init__(self, root):
        super().__init__(root, checksums=False)
        self.transfers = []

    def open(self, principal, path):
        return self._watched(super().open(principal, path))

    def create(self, principal, path, **terms):
        return self._watched(super().create(principal, path, **terms))

    def _watched(self, file):
        transfer = Transfer(file, breaks=not self.transfers)
        self.transfers.append(transfer)
        return transfer


class Transfer:
    """Stands before an open file and counts what is written; breaks in the middle, or does not."""

    def __init__(self, file, *, breaks):
        self._file = file
        self._breaks = breaks
        self.written = 0

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.__exit__(*error)

    def extents(self, start, end):
        broken = self._breaks and end > HALF
        yield from self._file.extents(start, HALF if broken else end)
        if broken:
            raise ConnectionResetError("the connection was killed")

    def write(self, offset, data):
        self._file.write(offset, data)
        self.written += len(data)
        if self._breaks:
            time.sleep(0.002)  # long enough for a client to be told where it is, and to hear it
        if self._breaks and self.written > HALF:
            raise ConnectionResetError("the connection was killed")


@pytest.fixture
def told_often(monkeypatch):
    """Tell clients where their transfers are as if these took long: one may hear of the other end first."""
    monkeypatch.setattr(storing, "_MARK_EVERY_S", 0.01)
    monkeypatch.setattr(receiving, "_LOOK_EVERY_S", 0.005)


def check_second(files, site, options):
    """Only in MODE E does the client go on from the marker; in stream mode it begins anew."""
    size_bytes = (site.root / "large").stat().st_size
    written = files.transfers[1].written
    assert written < size_bytes if "-p" in options.split() else written == size_bytes


@GLOBUS
@GUC
@pytest.mark.parametrize("options", ["", "-p 4", "-dcpriv", "-nodcau"])
def test_a_copy_to_globus_goes_on(site, globus, new_door, tmp_path, options):
    files = Breaking(site.root)
    with new_door(files) as url:
        command = ["globus-url-copy", "-rst", "-rst-interval", "1", *options.split()]
        site.succeed(*command, f"{url}/large", f"{globus}{tmp_path}/copy")
    assert len(files.transfers) == 2
    assert (tmp_path / "copy").read_bytes() == (site.root / "large").read_bytes()


@GLOBUS
@GUC
@pytest.mark.parametrize("options", ["", "-p 4", "-dcpriv", "-nodcau"])
@pytest.mark.usefixtures("told_often")
def test_a_copy_from_globus_goes_on(site, globus, new_door, tmp_path, options):
    files = Breaking(tmp_path)
    with new_door(files) as url:
        command = ["globus-url-copy", "-rst", "-rst-interval", "1", *options.split()]
        site.succeed(*command, f"{globus}{site.root}/large", f"{url}/copy")
    check_second(files, site, options)
    assert (tmp_path / "copy").read_bytes() == (site.root / "large").read_bytes()


@GUC
@pytest.mark.parametrize("options", ["", "-p 4"])
@pytest.mark.usefixtures("told_often")
def test_a_copy_between_our_doors_goes_on(site, new_door, tmp_path, options):
    files = Breaking(tmp_path)
    with new_door(files) as url:
        command = ["globus-url-copy", "-rst", "-rst-interval", "1", *options.split()]
        site.succeed(*command, f"{site.url}/large", f"{url}/copy")
    check_second(files, site, options)
    assert (tmp_path / "copy").read_bytes() == (site.root / "large").read_bytes()


@GUC
def test_a_user_s_download_breaks_with_a_message_and_succeeds_the_next_time(site, new_door, tmp_path):
    files = Breaking(site.root)
    with new_door(files) as url:
        command = ["globus-url-copy", "-rst", "-rst-retries", "1", "-rst-interval", "1"]
        first = site.run(*command, f"{url}/large", f"file://{tmp_path}/copy")
        assert first.returncode == 0 or "killed" in first.stdout + first.stderr
        site.succeed(*command, f"{url}/large", f"file://{tmp_path}/copy")
    assert (tmp_path / "copy").read_bytes() == (site.root / "large").read_bytes()


@GUC
@pytest.mark.parametrize(
    ("way", "options"), [("get", "-nodcau"), ("get", "-pp"), ("put", "-nodcau"), ("put", "-pp -p 2")]
)
def test_a_thousand_files(site, new_door, tmp_path, way, options):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "many").mkdir(parents=True)
    there.mkdir()
    for number in range(1000):
        (here / "many" / f"f{number:04}").write_bytes(os.urandom(number))
    with new_door(DirectoryFiles(here if way == "get" else there, checksums=False)) as url:
        ends = {
            "get": (f"{url}/many/", f"file://{there}/many/"),
            "put": (f"file://{here}/many/", f"{url}/many/"),
        }
        site.succeed("globus-url-copy", *options.split(), "-cd", "-r", *ends[way])
    arrived = {path.name: path.read_bytes() for path in (there / "many").iterdir()}
    assert arrived == {path.name: path.read_bytes() for path in (here / "many").iterdir()}

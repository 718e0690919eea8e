"""Identity is nowhere below the site's directory, whatever was staged, refused, broken off or killed."""

import shutil
import signal
import subprocess

import pytest

from srm_dicom.broker.views import FileState
from srm_dicom.testing.images import SeriesSpec, identities, make_series, written_forms

DISK_BYTES = 64 * 1024 * 1024


@pytest.fixture
def disk(tmp_path):
    """Let the site lie on a disk of its own; returns its image, in which what was deleted is still."""
    image, directory = tmp_path / "disk.img", tmp_path / "site"
    directory.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    make = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if make is None:
        pytest.skip("mkfs.ext4 is not installed")
    subprocess.run([make, "-q", "-F", image], check=True, timeout=30)
    try:
        mount = ["mount", "-o", "loop", image, directory]
        subprocess.run(mount, check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system may be mounted here ({type(error).__name__})")
    yield image
    subprocess.run(["umount", "-l", str(directory)], check=True, timeout=20)


def found_in(content, images):
    return [one for identity in identities(images) for one in written_forms(identity) if one in content]


def test_nothing_that_was_ever_written_names_a_patient(disk, staging, pacs, wait_for):
    clean, dirty = make_series(SeriesSpec("CT", 4)), make_series(SeriesSpec("CT", 2, study="2"))
    for image in dirty:
        image.BurnedInAnnotation = "YES"
    images = clean + dirty
    pacs.add(images)
    staging.use_spool_for_everything()
    pass_, refuse = staging.register()
    staging.process()
    done, refused = staging.want("/CN=Alice", pass_[:2]), staging.want("/CN=Bob", refuse)
    wait_for(lambda: staging.is_there(done))
    wait_for(lambda: staging.states(refused) == {FileState.FAILED})
    pacs.faults.slow_s = 1.0
    broken = staging.want("/CN=Carol", pass_[2:])
    moves = pacs.moves
    wait_for(lambda: pacs.moves > moves)
    staging.demo.processes.restart("stager", signal.SIGKILL)
    pacs.faults.slow_s = 0.0
    wait_for(lambda: staging.is_there(broken))
    staging.demo.processes.stop("stager")
    for path in staging.demo.directory.rglob("*"):
        assert not (path.is_file() and found_in(path.read_bytes(), images)), path
    staging.stores.database.close()
    subprocess.run(["sync", "-f", str(staging.demo.directory)], check=True, timeout=60)
    assert found_in(b"of CANARY^PATIENT", images), "the search works"
    content = disk.read_bytes()
    assert pass_[0].encode() in content, "the image has what was written"
    assert found_in(content, images) == []

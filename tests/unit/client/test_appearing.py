"""What becomes of the name that a file is written to: regular files, links, pipes and devices of our own."""

import os
import stat

import pytest

from srm_dicom.client.appearing import appearing, part_of, settle


@pytest.fixture
def pipe(tmp_path):
    """A pipe with a reader that waits for nobody."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


@pytest.fixture
def device(tmp_path):
    """A device that swallows everything, of our own: another one than /dev/null."""
    path = tmp_path / "null"
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes device nodes, and not everywhere")
    return path


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def fail(target):
    with appearing(target) as out:
        out.write(b"half")
        raise ValueError("no more")


def write(target, data=b"clear"):
    with appearing(target) as out:
        out.write(data)


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "file"
    with appearing(target) as out:
        out.write(b"cl")
        assert not target.exists()
        out.write(b"ear")
    assert target.read_bytes() == b"clear"
    assert names(tmp_path) == ["file"]


def test_what_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "file").write_bytes(b"before")
    with pytest.raises(ValueError, match="no more"):
        fail(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


def test_a_file_that_others_may_not_read_stays_so(tmp_path):
    target = tmp_path / "file"
    target.touch(0o600)
    write(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_pipe_is_written(pipe):
    path, reader = pipe
    write(path)
    assert os.read(reader, 100) == b"clear"
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device_is_written(device):
    write(device)
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"before")
    (tmp_path / "link").symlink_to("elsewhere/file")
    with appearing(tmp_path / "link") as out:
        out.write(b"clear")
        assert names(tmp_path / "elsewhere") == ["file", "file.part"]
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere/file").read_bytes() == b"clear"


def test_a_link_to_nothing_makes_it(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"clear"


def test_a_link_to_a_pipe_stays(pipe, tmp_path):
    path, reader = pipe
    (tmp_path / "link").symlink_to(path)
    write(tmp_path / "link")
    assert os.read(reader, 100) == b"clear"
    assert (tmp_path / "link").is_symlink()


def test_links_in_a_circle_are_no_place(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "link")


def test_what_came_before_is_put_where_a_link_points(tmp_path):
    """As a download that was continued is."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/file")
    part = part_of(tmp_path / "link")
    assert part == tmp_path / "elsewhere/file.part"
    part.write_bytes(b"clear")
    settle(part, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere/file").read_bytes() == b"clear"


def test_what_came_before_is_put_into_a_pipe(pipe, tmp_path):
    path, reader = pipe
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere/link"
    link.symlink_to(path)
    part = part_of(link)
    assert part == tmp_path / "elsewhere/link.part"  # not beside a device, in /dev
    part.write_bytes(b"clear")
    settle(part, link)
    assert os.read(reader, 100) == b"clear"
    assert names(tmp_path / "elsewhere") == ["link"]


def test_what_nobody_else_may_read_is_so_from_the_first_byte_on(tmp_path):
    """Also where a file lies that everybody reads, or half of one."""
    target, part = tmp_path / "key", tmp_path / "key.part"
    for path in (target, part):
        path.write_text("old")
        path.chmod(0o644)
    with part.open("rb") as reader, appearing(target, mode=0o600) as out:
        assert stat.S_IMODE(os.fstat(out.fileno()).st_mode) == 0o600
        out.write(b"new")
        out.flush()
        assert reader.read() == b"old"
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", 0o600)
    assert names(tmp_path) == ["key"]

"""What ``mdm`` does with a user's own files, without any site, and what it says of one that it cannot use."""

import errno

import click
import pytest
from click.testing import CliRunner

from srm_dicom.cli.exits import reported

GENERIC, DISK_FULL, BROKEN_PIPE = 15, 31, 1


def failing(error):
    @click.command()
    @reported
    def command():
        raise error

    return CliRunner().invoke(command)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), GENERIC, "/x/y: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/x/y"), GENERIC, "/x/y: Not a directory"),
        (OSError(errno.EIO, "Input/output error"), GENERIC, "Input/output error"),
        (OSError(errno.ENOSPC, "No space left on device"), DISK_FULL, "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "f"), DISK_FULL, "f: Disk quota exceeded"),
    ],
)
def test_what_the_disk_refuses_is_said_in_one_line(error, code, told):
    done = failing(error)
    assert (done.exit_code, done.output) == (code, f"error: {told}\n")


def test_whoever_reads_no_more_is_told_nothing():
    done = failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert (done.exit_code, done.output) == (BROKEN_PIPE, "")

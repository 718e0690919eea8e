"""``srm-dicom ban``: who may not enter, from now on and in sessions that are open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from srm_dicom.audit.event import Action
from srm_dicom.cli.audit import note
from srm_dicom.cli.exits import reported
from srm_dicom.cli.options import config_option
from srm_dicom.clock import Clock
from srm_dicom.daemon.common import ADMIN, ADMIN_WAIT_S, Common
from srm_dicom.durable import replace
from srm_dicom.errors import ConfigError
from srm_dicom.identity import bans
from srm_dicom.identity.listed import Listed
from srm_dicom.waits import lock_file

authority_option = click.option(
    "--authority", is_flag=True, help="NAME is an authority: whomever it certified, directly or not."
)


@click.group()
def ban() -> None:
    """Keep callers out, within a minute, transfers that are under way included.

    NAME is a DN, a VOMS group or token:ISSUER#SUBJECT, with /* at its end for everything below. The list is
    the file trust.ban_file of this machine; a catalogue elsewhere has a list of its own.
    """


@ban.command("list")
@config_option
@reported
def ban_list(config: Path) -> None:
    """Show who is banned."""
    for one in bans.parse(_file(Common(config, ADMIN)).read_text("utf-8")):
        click.echo(one)


@ban.command("add")
@config_option
@click.argument("name")
@authority_option
@reported
def ban_add(config: Path, name: str, authority: bool) -> None:
    """Ban NAME."""
    new = _ban(name, authority=authority)
    _change(config, "ban add", new, lambda lines: lines if _has(lines, new) else [*lines, str(new)])


@ban.command("remove")
@config_option
@click.argument("name")
@authority_option
@reported
def ban_remove(config: Path, name: str, authority: bool) -> None:
    """Let NAME in again; exit code 1 if it was not banned under this name."""
    old = _ban(name, authority=authority)
    if not _change(config, "ban remove", old, lambda lines: [line for line in lines if not _is(line, old)]):
        click.echo("not on the list under this name", err=True)
        raise SystemExit(1)


def _ban(name: str, *, authority: bool) -> bans.Ban:
    ban = bans.Ban(Listed.parse(name), authority)
    return bans.parse_line(str(ban))  # holds it to what the file may say


def _change(config: Path, operation: str, ban: bans.Ban, change: Callable[[list[str]], list[str]]) -> bool:
    """Rewrite the list, comments included, in one step; tells whether that changed anything.

    Raises:
        ConfigError: there is no list, or it cannot be read or written.
        InvalidRequest: it has a line that is not understood.
    """
    common = Common(config, ADMIN)
    path = _file(common)
    try:
        with _alone(path, common.clock):
            before = path.read_text("utf-8").splitlines() if path.exists() else []
            bans.parse("\n".join(before))
            after = change(before)
            if after == before:
                return False
            note(common, operation, str(ban), action=Action.RIGHTS_CHANGED)
            _replace(path, "".join(f"{line}\n" for line in after))
            return True
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def _alone(path: Path, clock: Clock) -> Iterator[None]:
    """Let one command at a time change a list: what another has added is not lost.

    Raises:
        ConfigError: another one does not come to its end.
    """
    lock = path.with_name(f".{path.name}.lock")
    descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            lock_file(descriptor, clock, clock.monotonic_s() + ADMIN_WAIT_S)
        except BlockingIOError:
            raise ConfigError(f"another command changes {path}", advice="Wait for it, or end it.") from None
        yield
    finally:
        os.close(descriptor)


def _file(common: Common) -> Path:
    path = common.config.trust.ban_file
    if path is None:
        raise ConfigError("this site has no ban list", advice='Name one: trust.ban_file = "ban.list".')
    return path


def _replace(path: Path, text: str) -> None:
    """Write a file anew, with its old mode and owner; whoever reads it sees the old one or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)  # the doors are other users, and read it
        if path.exists():
            status = path.stat()
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    replace(fresh, path)


def _is(line: str, ban: bans.Ban) -> bool:
    bare = line.strip()
    return bool(bare) and not bare.startswith("#") and bans.parse_line(bare) == ban


def _has(lines: list[str], ban: bans.Ban) -> bool:
    return any(_is(line, ban) for line in lines)

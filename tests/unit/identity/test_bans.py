"""The ban list: grammar, reloading, and that a broken list lets nobody in."""

from __future__ import annotations

from pathlib import Path

import pytest

from srm_dicom.errors import InvalidRequest, NotAuthenticated
from srm_dicom.identity.bans import BanList, parse, parse_line

MALLORY = "/DC=org/CN=Mallory"


@pytest.mark.parametrize(
    "line",
    ['"/DC=org/CN=Mallory"', '"/DC=org/*"', '"/vo/group/Role=x"', '"/vo/*"', 'authority "/DC=org/CN=CA"'],
)
def test_lines_read_back(line: str) -> None:
    assert str(parse_line(line)) == line


@pytest.mark.parametrize(
    "line", ["/DC=org/CN=x", '"Mallory"', '"', '""', '"/*"', 'authority "/vo"', 'other "/DC=x"', '"/DC=x" y']
)
def test_what_is_no_line(line: str) -> None:
    with pytest.raises(InvalidRequest, match="line 2"):
        parse(f"# comment\n{line}\n")


@pytest.mark.parametrize(
    ("line", "name", "fqans", "authorities", "banned"),
    [
        (f'"{MALLORY}"', MALLORY, (), (), True),
        (f'"{MALLORY}"', MALLORY + "x", (), (), False),
        (f'"{MALLORY}"', MALLORY.lower(), (), (), False),
        (f'"{MALLORY}"', MALLORY + "/CN=1", (), (), False),
        ('"/DC=org/*"', MALLORY, (), (), True),
        ('"/DC=org/*"', "/DC=orgy/CN=x", (), (), False),
        ('"/O=x/Email=a@b"', "/O=x/emailAddress=a@b", (), (), True),
        ('"/vo/bad"', MALLORY, ("/vo", "/vo/bad"), (), True),
        ('"/vo/bad"', MALLORY, ("/vo/bad/Role=x",), (), False),
        ('"/vo/bad/Role=NULL"', MALLORY, ("/vo/bad",), (), True),
        ('"/vo/bad/Role=NULL/Capability=NULL"', MALLORY, ("/vo/bad",), (), True),
        ('"/vo/bad/Role=x/Capability=NULL"', MALLORY, ("/vo/bad/Role=x",), (), True),
        ('"/vo/bad/Role=NULL/Capability=NULL"', MALLORY, ("/vo/bad/Role=x",), (), False),
        ('"/vo/*"', MALLORY, ("/voice/x",), (), False),
        ('"/vo/*"', MALLORY, ("/vo/x",), (), True),
        ('authority "/CN=CA"', MALLORY, (), ("/CN=CA",), True),
        ('authority "/CN=CA"', "/CN=CA", (), ("/CN=Other",), False),
        ('"/CN=CA"', MALLORY, (), ("/CN=CA",), False),
    ],
)
def test_who_is_banned(
    tmp_path: Path, line: str, name: str, fqans: tuple[str, ...], authorities: tuple[str, ...], banned: bool
) -> None:
    path = tmp_path / "bans"
    path.write_text(line + "\n")
    bans = BanList(path)
    if banned:
        with pytest.raises(NotAuthenticated, match="banned here"):
            bans.check(name, fqans, authorities)
    else:
        bans.check(name, fqans, authorities)


def test_a_change_counts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bans"
    path.write_text("")
    bans = BanList(path)
    bans.check(MALLORY)
    path.write_text(f'"{MALLORY}"\n')
    with pytest.raises(NotAuthenticated):
        bans.check(MALLORY)
    path.write_text("# nobody\n")
    bans.check(MALLORY)


@pytest.mark.parametrize("content", [b"Mallory\n", b'"\xff"\n', None])
def test_a_list_that_cannot_be_read_bans_everybody(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bans"
    path.write_text("")
    bans = BanList(path)
    bans.check("/CN=Alice")
    path.unlink() if content is None else path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(NotAuthenticated, match="nobody is let in"):
            bans.check("/CN=Alice")


def test_no_list_bans_nobody() -> None:
    BanList(None).check("/CN=Alice", ("/vo",), ("/CN=CA",))

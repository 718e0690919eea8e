"""Project files: what cannot be meant is refused, before anybody is let in or kept out by it."""

import os

import pytest

from srm_dicom.daemon import projects
from srm_dicom.daemon.projects import LOOK_S, Projects
from srm_dicom.errors import ConfigError
from srm_dicom.testing.clock import FakeClock

PROJECT = """
id = "{id}"
permit = "p"
purpose = "p"
profile = "basic"
basis = "b"
valid_until = 2096-02-29T00:00:00Z
"""
MEMBER = """
[[members]]
rights = ["file"]
"""


def load(directory, **files):
    for name, text in files.items():
        (directory / f"{name}.toml").write_text(text)
    return projects.load(directory)


def test_two_projects(tmp_path):
    found = load(tmp_path, one=PROJECT.format(id="one"), two=PROJECT.format(id="two"))
    assert set(found) == {"one", "two"}


def test_a_copy_that_has_kept_the_id_takes_nobodys_rights(tmp_path):
    members = MEMBER + 'user = "/CN=Alice"\n'
    with pytest.raises(ConfigError, match=r"two\.toml.* heart"):
        load(tmp_path, one=PROJECT.format(id="heart") + members, two=PROJECT.format(id="heart"))


@pytest.mark.parametrize("word", ["../x", "a b", "", "a/b"])
def test_an_id_is_what_may_stand_in_a_path(tmp_path, word):
    with pytest.raises(ConfigError, match=r"one\.toml.*id"):
        load(tmp_path, one=PROJECT.format(id=word))


@pytest.mark.parametrize("who", ["", 'user = ""', 'user = "/CN=a"\ngroup = "/biomed"'])
def test_a_member_is_a_user_or_a_group(tmp_path, who):
    with pytest.raises(ConfigError, match=r"one\.toml.*a member is a user or a group.*members\[0\]"):
        load(tmp_path, one=PROJECT.format(id="heart") + MEMBER + who + "\n")


def test_a_directory_that_is_not_there_is_not_one_without_projects(tmp_path):
    """Whose projects are not configured any more loses its rights: not by a letter that is wrong."""
    with pytest.raises(ConfigError, match=r"project\.d: No such file"):
        projects.load(tmp_path / "project.d")
    (tmp_path / "projects.d").mkdir()
    assert projects.load(tmp_path / "projects.d") == {}


def test_a_directory_that_may_not_be_read_is_not_one_without_projects(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        projects.load(tmp_path)


# --- while services run


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def heart(tmp_path, clock):
    """Return the projects of a directory with one, as a service that runs on sees them."""
    load(tmp_path, heart=PROJECT.format(id="heart") + MEMBER + 'user = "/CN=Alice"\n')
    return Projects(tmp_path, clock)


def members(project):
    return [member.name for member in project.members]


def test_who_has_left_a_project_is_out_of_it_within_seconds(tmp_path, clock, heart):
    load(tmp_path, heart=PROJECT.format(id="heart") + MEMBER + 'user = "/CN=Bob"\n')
    assert members(heart["heart"]) == ["/CN=Alice"]
    clock.advance(LOOK_S)
    assert members(heart["heart"]) == ["/CN=Bob"]


def test_a_project_that_comes_or_goes(tmp_path, clock, heart):
    load(tmp_path, liver=PROJECT.format(id="liver"))
    clock.advance(LOOK_S)
    assert (set(heart), len(heart), set(heart.keys())) == ({"heart", "liver"}, 2, {"heart", "liver"})
    (tmp_path / "heart.toml").unlink()
    clock.advance(LOOK_S)
    assert heart.get("heart") is None
    assert [project.id for project in heart.values()] == ["liver"]


@pytest.mark.parametrize("damaged", ["id = ", PROJECT.format(id="heart")], ids=["no TOML", "the same id"])
def test_what_cannot_be_used_changes_nothing_until_it_is_mended(tmp_path, clock, heart, capsys, damaged):
    load_other = tmp_path / "other.toml"
    load_other.write_text(damaged)
    for _ in range(3):
        clock.advance(LOOK_S)
        assert members(heart["heart"]) == ["/CN=Alice"]
    assert capsys.readouterr().out.count("projects_not_taken") == 1
    load_other.write_text(PROJECT.format(id="other"))
    clock.advance(LOOK_S)
    assert set(heart) == {"heart", "other"}


def test_a_directory_that_goes_takes_nobodys_rights(tmp_path, clock, heart):
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    clock.advance(LOOK_S)
    assert members(heart["heart"]) == ["/CN=Alice"]


def test_what_is_looked_through_is_of_one_moment(tmp_path, clock, heart):
    ids = []
    for project in heart.values():
        (tmp_path / "heart.toml").unlink(missing_ok=True)
        clock.advance(LOOK_S)
        ids.append((project.id, len(heart)))
    assert ids == [("heart", 0)]

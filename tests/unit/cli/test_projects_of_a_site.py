"""Project files: what cannot be meant is refused, before anybody is let in or kept out by it."""

import os

import pytest

from srm_dicom.daemon.common import load_projects
from srm_dicom.errors import ConfigError

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
    return load_projects(directory)


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
        load_projects(tmp_path / "project.d")
    (tmp_path / "projects.d").mkdir()
    assert load_projects(tmp_path / "projects.d") == {}


def test_a_directory_that_may_not_be_read_is_not_one_without_projects(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_projects(tmp_path)

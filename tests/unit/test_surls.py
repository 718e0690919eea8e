"""What a SURL names: never another file than the one whose name was written."""

from __future__ import annotations

import pytest

from srm_dicom.errors import InvalidRequest
from srm_dicom.ids import Surl


@pytest.mark.parametrize(
    ("text", "path", "authority"),
    [
        ("srm://h/a/b", "/a/b", "h"),
        ("SRM://H:8446//a/./b/", "/a/b", "H:8446"),
        ("srm://h:8446/srm/managerv2?SFN=/a/b", "/a/b", "h:8446"),
        ("srm://h:8446/srm/managerv2?sfn=a/b", "/a/b", "h:8446"),
        ("srm://h/any?x=1&SFN=/a", "/a", "h"),
        ("srm://h/%61%2fb", "/a/b", "h"),
        ("\n  srm://h/a\n", "/a", "h"),
        ("srm://[::1]:8446/a", "/a", "[::1]:8446"),
        ("srm://h", "/", "h"),
        ("srm://h?SFN=/a", "/a", "h"),
    ],
)
def test_what_a_surl_names(text: str, path: str, authority: str) -> None:
    surl = Surl.parse(text)
    assert (surl.text, surl.path, surl.authority) == (text, path, authority)


@pytest.mark.parametrize(
    "name",
    [
        "a#b",
        "a#",
        "a?b",
        "a?",
        "a?x=1",
        "a;b",
        "a\tb",
        "a\nb",
        "a\rb",
        "a%0ab",
        "a%23b",
        "a&b",
        "a b",
        "ä",
        "\uff0f",
    ],
)
@pytest.mark.parametrize("form", ["srm://h/d/{}", "srm://h:8446/srm/managerv2?SFN=/d/{}"])
def test_a_name_that_no_file_has_is_not_cut_to_one_that_some_file_has(form: str, name: str) -> None:
    with pytest.raises(InvalidRequest):
        Surl.parse(form.format(name))


@pytest.mark.parametrize(
    "text", ["", "/a", "srm:/a", "srm:///a", "srm://", "srm://?SFN=/a", "https://h/a", "srm//h/a"]
)
def test_what_is_no_surl(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Surl.parse(text)

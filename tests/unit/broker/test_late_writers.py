"""A second connection to a name that is being written, at the moments when it could spoil the first one."""

from __future__ import annotations

from typing import Any

import pytest

from srm_dicom.errors import Busy, Overloaded, RequestExpired
from srm_dicom.ids import SitePath, parse_path
from srm_dicom.transfer.written import WrittenFilesOfNode


def turl(view: Any) -> SitePath:
    return parse_path(view.files[0].turl.removeprefix("gsiftp://node:2811"))


def test_who_comes_when_every_byte_is_here_takes_nothing_back(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that was told that its file is here must not hear from srmPutDone that it is not."""
    view = site.put("a.dat")
    with site.written.create(site.who(), turl(view)) as file:
        file.write(0, memoryview(b"content"))
        give_back = file._slot.close

        def late() -> None:
            monkeypatch.undo()
            with pytest.raises(Busy):
                site.written.create(site.who(), turl(view))
            give_back()

        monkeypatch.setattr(file._slot, "close", late)
        file.finish()
    assert [one.failure for one in site.done(view)] == [None]
    assert site.read("a.dat") == b"content"


def test_who_comes_when_the_file_is_being_stored_changes_nothing(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = site.put("a.dat")
    body = WrittenFilesOfNode._body

    def late(*arguments: Any) -> Any:
        monkeypatch.undo()
        site.upload(view, b"content")
        site.inner_lives = False
        assert [type(one.failure) for one in site.done(view)] == [Overloaded]
        return body(*arguments)

    monkeypatch.setattr(WrittenFilesOfNode, "_body", late)
    with pytest.raises(RequestExpired):  # and what is being stored has not been cut
        site.written.create(site.who(), turl(view))
    site.work()
    assert site.read("a.dat") == b"content"


def test_who_is_late_at_a_plain_path_does_not_give_up_what_is_being_stored(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, body = parse_path("/vo/data/a.dat"), WrittenFilesOfNode._body

    def late(*arguments: Any) -> Any:
        monkeypatch.undo()
        site.inner_lives = False
        with site.written.create(site.who(), path) as file:
            file.write(0, memoryview(b"content"))
            with pytest.raises(Overloaded):
                file.finish()
        return body(*arguments)

    monkeypatch.setattr(WrittenFilesOfNode, "_body", late)
    with pytest.raises(RequestExpired):
        site.written.create(site.who(), path, resumable=False)
    site.work()
    assert site.read("a.dat") == b"content"

"""The Tape REST API answers with the paths that its caller wrote, and takes them back, whatever they are."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest

from srm_dicom.transfer.tape import TapeApi, TapeSettings
from srm_dicom.web.environ import PRINCIPAL
from srm_dicom.wire.tape import BASE


@pytest.mark.parametrize("bad", ["/no name", "no name", "", "//", "\0"])
def test_what_was_asked_for_can_be_withdrawn_as_it_was_written(site: Any, bad: str) -> None:
    site.store("a")
    api = TapeApi(site.broker, TapeSettings("se", "https://se.example.org:8443"))
    paths = ["/vo/data/a", bad]

    def ask(path: str, message: object) -> tuple[str, bytes]:
        told: list[str] = []
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": BASE + path,
            "wsgi.input": io.BytesIO(msgspec.json.encode(message)),
            PRINCIPAL: site.who("Reader"),
        }
        body = b"".join(api(environ, lambda status, _: told.append(status)))  # type: ignore[arg-type]
        return told[0], body

    _, staging = ask("/stage", {"files": [{"path": path} for path in paths]})
    request = msgspec.json.decode(staging)["requestId"]
    assert ask(f"/stage/{request}/cancel", {"paths": paths}) == ("200 OK", b"")

"""What the log says of a copy that failed: not in the words of the other server, which may say anything."""

from __future__ import annotations

import io
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath
from srm_dicom.testing.served import DirectoryFiles
from srm_dicom.transfer import copying
from srm_dicom.transfer.copying import Copies, CopySettings
from srm_dicom.transfer.davmessage import Request

ALICE = Principal("/CN=Alice", (), False, datetime(2040, 1, 1, tzinfo=UTC))


def test_the_caller_hears_what_the_other_server_says_and_the_log_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(*_: object) -> None:
        raise NotFound("the other server: nothing for Bearer eyJhbGciOi")

    mover: Any = SimpleNamespace(check=lambda _: None, pull=pull)
    files, delegations = DirectoryFiles(tmp_path), SimpleNamespace()
    settings = CopySettings("https://node:8443", tmp_path)
    copies = Copies(files, mover, delegations, settings, SystemClock(), files)  # type: ignore[arg-type]
    environ = {
        "REQUEST_METHOD": "COPY",
        "HTTP_SOURCE": "https://other.example.org/file",
        "HTTP_CREDENTIAL": "none",
    }
    logs: list[tuple[str, dict[str, Any]]] = []
    written = threading.Event()

    def write(event: str, **values: Any) -> None:
        logs.append((event, values))
        written.set()

    monkeypatch.setattr(copying, "log", SimpleNamespace(info=write, warning=write))
    answer = copies.copy(Request(ALICE, SitePath("/new"), io.BytesIO(), environ))
    assert b"failure: the other server: nothing for Bearer eyJhbGciOi\n" in b"".join(answer.body)
    assert written.wait(60), "it comes after the answer"
    ((event, values),) = logs
    assert (event, values["error"]) == ("file_not_copied", "NotFound")
    assert "eyJhbGciOi" not in str(values)

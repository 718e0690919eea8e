"""zeep's messages over httpg, with a proxy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from zeep.transports import Transport

from srm_dicom.client.http import HttpClient


class OverHttpg(Transport):
    """Posts to `path` on a connection of ours, whatever address the WSDL names."""

    def __init__(self, http: HttpClient, path: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._http = http
        self._path = path

    def post(self, address: str, message: bytes, headers: dict[str, str]) -> Any:
        """Send one message."""
        del address
        answer = self._http.request("POST", self._path, message, headers.items())
        return SimpleNamespace(
            status_code=answer.status,
            content=answer.body,
            headers={"Content-Type": answer.header("content-type")},
            encoding="utf-8",
        )

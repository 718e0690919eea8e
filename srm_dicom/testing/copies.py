"""Two storage elements and srmCopy between them, by zeep, as a user who delegates a proxy."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from srm_dicom.identity.credential import Credential
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import parse_path
from srm_dicom.srm.wsdl import document
from srm_dicom.testing.delegating import DelegatingHttpClient
from srm_dicom.testing.element import ROOT, StorageElement
from srm_dicom.testing.verbs.calls import Caller
from srm_dicom.testing.verbs.requests import WAITING

PATIENCE_S = 60.0


class Sites:
    """Two storage elements with the same users; Alice asks the one that is `here`."""

    def __init__(self, directory: Path) -> None:
        self.here = StorageElement(directory / "here")
        self.there = StorageElement(directory / "there", pki=self.here.pki)
        for site in (self.here, self.there):
            site.start()
        self.wsdl = directory / "srm.v2.2.wsdl"
        self.wsdl.write_bytes(document("https://localhost/srm/managerv2"))
        self._callers: list[Caller] = []
        self.alice = self.delegating(self.here.alice)

    def delegating(self, credential: Credential) -> Caller:
        """Return someone whose session with `here` delegates."""
        http = DelegatingHttpClient(f"https://localhost:{self.here.srm.port}", credential)
        return self._kept(Caller(self.here, credential, self.wsdl, http))

    def plain(self, credential: Credential) -> Caller:
        """Return someone whose session delegates nothing."""
        return self._kept(Caller(self.here, credential, self.wsdl))

    def _kept(self, caller: Caller) -> Caller:
        self._callers.append(caller)
        return caller

    def stop(self) -> None:
        """Stop everything."""
        for caller in self._callers:
            caller.close()
        for site in (self.here, self.there):
            site.stop()

    def store(self, site: StorageElement, name: str, content: bytes) -> str:
        """Put a file; returns its SURL."""
        until = site.clock.now() + timedelta(hours=1)
        owner = Principal(site.pki.dn(site.alice), (), limited=False, expires=until)
        with site.written.create(owner, parse_path(f"{ROOT}/{name}")) as file:
            file.write(0, memoryview(content))
            file.finish()
        return site.surl(name)

    def stored(self, site: StorageElement, name: str) -> bytes:
        """Return the bytes that a site's plugin keeps under a name."""
        entry = site.stores.namespace.find(parse_path(f"{ROOT}/{name}"))
        if entry is None:
            raise KeyError(name)
        return (site.root / entry.plugin_ref.decode()).read_bytes()

    def begin(self, source: str, target: str, caller: Caller | None = None, **more: Any) -> Any:
        """Ask for one copy."""
        pair = {"sourceSURL": source, "targetSURL": target}
        caller = caller or self.alice
        return caller.service.srmCopy(dict(arrayOfFileRequests={"requestArray": [pair]}, **more))

    def copy(self, source: str, target: str, caller: Caller | None = None, **more: Any) -> SimpleNamespace:
        """Copy one file and wait for the end: its status, what is said of it, and of the request."""
        begun = self.begin(source, target, caller, **more)
        return self.ended(begun, caller)

    def ended(self, begun: Any, caller: Caller | None = None) -> SimpleNamespace:
        """Wait for the end of a copy."""
        told = begun
        until_s = time.monotonic() + PATIENCE_S
        while told.returnStatus.statusCode in WAITING and time.monotonic() < until_s:
            time.sleep(0.1)
            told = (caller or self.alice).service.srmStatusOfCopyRequest({"requestToken": begun.requestToken})
        file = told.arrayOfFileStatuses.statusArray[0]
        return SimpleNamespace(
            request=told.returnStatus.statusCode,
            code=file.status.statusCode,
            said=file.status.explanation or "",
            file=file,
        )

"""Requests and their files as their owner names them: by token, by SURL in any of its forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from srm_dicom.broker.listings import parse
from srm_dicom.errors import NotFound, RequestUnknown
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Surl
from srm_dicom.store.requests import FileState, Request, RequestFile, RequestKind, Requests

_FEW = 1000
"""Up to so many files, a page of a poll, are looked up by name; for more, all of the request are read."""


@dataclass(frozen=True, slots=True)
class Owned:
    """Looks requests up for their owners."""

    requests: Requests

    def request(self, principal: Principal, token: str, *kinds: RequestKind) -> Request:
        """Return a request of the caller, of one of `kinds` if any is given.

        Raises:
            RequestUnknown: the caller has none of this token and kind.
        """
        request = self.requests.find(token)
        if request is None or request.owner != principal.dn or (kinds and request.kind not in kinds):
            raise RequestUnknown("you have no request with this token")
        return request

    def files(self, request: Request, surls: Sequence[str] | None) -> list[RequestFile]:
        """Return the files of a request: all, or those asked for in that order."""
        if surls is None:
            return self.requests.files(request.token)
        if len(surls) > _FEW:
            return _chosen(self.requests.files(request.token), surls)
        paths = [surl.path for surl in map(parse, surls) if isinstance(surl, Surl)]
        return _chosen(self.requests.some_files(request.token, surls, paths), surls)


def _chosen(files: Sequence[RequestFile], surls: Sequence[str]) -> list[RequestFile]:
    by_surl = {file.surl: file for file in files}
    by_path = {file.path: file for file in files if file.path}
    missing = NotFound("this file is not in the request")
    chosen = []
    for text in surls:
        found = by_surl.get(text)
        if found is None:
            surl = parse(text)
            found = by_path.get(surl.path) if isinstance(surl, Surl) else None
        chosen.append(
            replace(found, surl=text) if found else RequestFile(text, None, None, FileState.FAILED, missing)
        )
    return chosen

"""Requests and their files as their owner names them: by token, by SURL in any of its forms."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from srm_dicom.broker.surls import OwnSurls
from srm_dicom.errors import NotAuthorised, NotFound, RequestUnknown
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Surl
from srm_dicom.store.requests import FileState, Request, RequestFile, RequestKind, Requests

_FEW = 1000
"""Up to so many files, a page of a poll, are looked up by name; for more, all of the request are read."""


@dataclass(frozen=True, slots=True)
class Owned:
    """Looks requests up for their owners."""

    requests: Requests
    surls: OwnSurls

    def request(self, principal: Principal, token: str, *kinds: RequestKind) -> Request:
        """Return a request of the caller, of one of `kinds` if any is given.

        Raises:
            RequestUnknown: there is none of this token and kind.
            NotAuthorised: it is somebody else's. Nobody hears of it who was not told the token: it is random.
        """
        request = self.requests.find(token)
        if request is not None and request.owner != principal.dn:
            raise NotAuthorised("this request is somebody else's")
        if request is None or (kinds and request.kind not in kinds):
            raise RequestUnknown("you have no request with this token")
        return request

    def files(self, request: Request, surls: Sequence[str] | None) -> list[RequestFile]:
        """Return the files of a request: all, or those asked for in that order; see `_chosen`."""
        if surls is None:
            return self.requests.files(request.token)
        if len(surls) > _FEW:
            return self._chosen(self.requests.files(request.token), surls)
        paths = [surl.path for surl in map(self.surls.parse, surls) if isinstance(surl, Surl)]
        return self._chosen(self.requests.some_files(request.token, surls, paths), surls)

    def _chosen(self, files: Sequence[RequestFile], surls: Sequence[str]) -> list[RequestFile]:
        """Return the files that SURLs name; one that the request has twice is told of, and acted on, twice.

        Where the caller names it twice, too, that is once for each.
        """
        named: defaultdict[str, list[RequestFile]] = defaultdict(list)
        names: dict[str, str] = {}
        for file in files:
            names[file.surl] = file.path or file.surl
            named[names[file.surl]].append(file)
        often, before = Counter(surls), Counter[str]()
        missing = NotFound("this file is not in the request")
        chosen = []
        for text in surls:
            found = named.get(names.get(text) or self._path(text))
            rows = found or [RequestFile(text, None, None, FileState.FAILED, missing)]
            at = min(before[text], len(rows) - 1)
            before[text] += 1
            until = len(rows) if before[text] == often[text] else at + 1
            chosen += [replace(row, surl=text) for row in rows[at:until]]
        return chosen

    def _path(self, text: str) -> str:
        surl = self.surls.parse(text)
        return surl.path if isinstance(surl, Surl) else ""

"""Requests and their files as their owner names them: by token, by SURL in any of its forms."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from srm_dicom.broker.surls import OwnSurls
from srm_dicom.errors import NotAuthorised, NotFound, RequestUnknown
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Surl
from srm_dicom.store.requests import FileState, Request, RequestFile, RequestKind, Requests

_FEW = 1000
"""Up to so many files, a page of a poll, are looked up by name; for more, all of the request are read."""

N = TypeVar("N", bound=Hashable)
F = TypeVar("F")


def each_in_turn(asked: Sequence[N], found: Mapping[N, Sequence[F]]) -> Iterator[Sequence[F]]:
    """Yield for each name all that has it; where it is asked for more than once, one at a time, and the rest.

    So who asks for one name many times, in whatever forms, of what has it many times is told of all, and an
    answer is never much longer than the question or the request.
    """
    often, before = Counter(asked), Counter[N]()
    for name in asked:
        files = found.get(name, ())
        at = min(before[name], max(0, len(files) - 1))
        before[name] += 1
        yield files[at : len(files) if before[name] == often[name] else at + 1]


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
        """Return the files that SURLs name; what the request has twice is told of, and acted on, twice."""
        named: defaultdict[str, list[RequestFile]] = defaultdict(list)
        names: dict[str, str] = {}
        for file in files:
            names[file.surl] = file.path or file.surl
            named[names[file.surl]].append(file)
        missing = NotFound("this file is not in the request")
        asked = [names.get(text) or self._path(text) for text in surls]
        chosen = []
        for text, found in zip(surls, each_in_turn(asked, named), strict=True):
            rows = found or [RequestFile(text, None, None, FileState.FAILED, missing)]
            chosen += [replace(row, surl=text) for row in rows]
        return chosen

    def _path(self, text: str) -> str:
        surl = self.surls.parse(text)
        return surl.path if isinstance(surl, Surl) else ""

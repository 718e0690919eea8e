"""A broker in memory and a site around it, reached as a WSGI server would reach it."""

from __future__ import annotations

import io
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lxml import etree

from srm_dicom.broker.spaces import SpaceAccounts, SpaceBounds
from srm_dicom.broker.surls import OwnSurls
from srm_dicom.broker.views import (
    FileState,
    FileView,
    Listing,
    RequestKind,
    RequestSummary,
    RequestView,
    Wish,
)
from srm_dicom.clock import SystemClock
from srm_dicom.errors import InvalidRequest, MdmError, NotAuthorised, NotFound, RequestUnknown
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath, Surl, Token, parent
from srm_dicom.rights.acl import Acl
from srm_dicom.srm.caller import Limits
from srm_dicom.srm.contract import NAMESPACE
from srm_dicom.srm.service import Settings, application
from srm_dicom.store.namespace import Entry, Facts, Kind
from srm_dicom.store.requests import Request
from srm_dicom.store.stores import Stores
from srm_dicom.testing.pki import TestPki as Pki
from srm_dicom.web.server import WebServer

REFERENCE = Path(__file__).parents[4] / "shared" / "reference"
SHOWN = datetime(2026, 11, 1, tzinfo=UTC)
FACTS = Facts(524_300, "0d370270", "{}")
ACL = Acl.parse('user:"/DC=test/CN=Alice":r, user:"/DC=test/CN=Secret Colleague":r, group:"/biomed":r')

ALICE = Principal("/DC=test/CN=Alice", ("/other", "/biomed"), False, datetime(2030, 1, 1, tzinfo=UTC))
MALLORY = Principal("/DC=test/CN=Mallory", (), False, datetime(2030, 1, 1, tzinfo=UTC))

Settled = tuple[FileState, MdmError | None]


def entry(path: str, kind: Kind = Kind.FILE, **more: Any) -> Entry:
    return replace(Entry(SitePath(path), kind, "", ACL, SHOWN), **more)


@dataclass
class Requested:
    owner: str
    files: list[FileView]
    kind: RequestKind = RequestKind.GET


@dataclass
class FakeBroker:
    """Alice sees everything, others nothing; `settle` says what becomes of a file."""

    entries_at: dict[str, Entry] = field(default_factory=dict)
    requests: dict[str, Requested] = field(default_factory=dict)
    wishes: list[Wish] = field(default_factory=list)
    listed: list[tuple[str, int, int, int | None]] = field(default_factory=list)
    failure: Exception | None = None

    @property
    def surls(self) -> OwnSurls:
        """What the tests call files."""
        return OwnSurls("h", ["localhost"])

    @property
    def names(self) -> Any:
        """Whatever is asked of names is done."""
        return SimpleNamespace(
            make_directory=lambda *_: None,
            remove_directory=lambda *_, recursive: None,
            remove_files=lambda _who, paths, _operation: [None for _ in paths],
            rename=lambda *_: None,
            change_acl=lambda _who, _path, change, _operation: change(Acl()),
        )

    @cached_property
    def spaces(self) -> SpaceAccounts:
        """The real accounts, over rows in memory."""
        stores = Stores.open("sqlite://:memory:")
        access: Any = SimpleNamespace(visible=lambda *_: None)
        return SpaceAccounts(stores, access, SpaceBounds(), SystemClock(), OwnSurls("h"))

    def suspend(self, principal: Principal, token: str) -> None:
        self.status(principal, token, None)

    def resume(self, principal: Principal, token: str) -> None:
        self.status(principal, token, None)

    @property
    def puts(self) -> Any:
        """There is room for everything, and nothing is ever done."""

        def submit(_who: Principal, wish: Wish) -> RequestView:
            if not wish.surls:
                raise InvalidRequest("no file was asked for")
            files = tuple(FileView(surl, FileState.SPACE_AVAILABLE) for surl in wish.surls)
            states = tuple(file.state for file in files)
            return RequestView(Token("put"), wish.kind, files, states, 3600, SHOWN)

        return SimpleNamespace(submit=submit, done=self.status)

    @property
    def copies(self) -> Any:
        """Everything is copied at once, to somewhere else."""

        def submit(_who: Principal, wish: Wish, _credential: Any) -> RequestView:
            files = tuple(FileView(surl, FileState.STORED) for surl in wish.surls)
            states = tuple(file.state for file in files)
            return RequestView(Token("copy"), wish.kind, files, states, 3600, SHOWN)

        return SimpleNamespace(submit=submit)

    def add(self, *entries: Entry) -> None:
        self.entries_at.update((e.path, e) for e in entries)

    def submit(self, principal: Principal, wish: Wish) -> RequestView:
        self._fail()
        if not wish.surls:
            raise InvalidRequest("no file was asked for")
        self.wishes.append(wish)
        token = Token(f"token-{len(self.requests)}")
        files = [self._file(principal, surl) for surl in wish.surls]
        self.requests[token] = Requested(principal.dn, files, wish.kind)
        return self.status(principal, token, None)

    def settle(self, token: str, state: FileState, failure: MdmError | None = None, index: int = 0) -> None:
        file = self.requests[token].files[index]
        pinned = state is FileState.PINNED
        self.requests[token].files[index] = replace(
            file,
            state=state,
            failure=failure,
            turl="gsiftp://localhost:2811/d/f" if pinned else None,
            pin_left_s=300 if pinned else None,
            size_bytes=FACTS.size_bytes if pinned else None,
        )

    def status(
        self,
        principal: Principal,
        token: str,
        surls: Sequence[str] | None,
        kind: RequestKind | None = None,
    ) -> RequestView:
        self._fail()
        request = self.requests.get(token)
        if request is None or kind not in (None, request.kind):
            raise RequestUnknown("no request has this token")
        if request.owner != principal.dn:
            raise NotAuthorised("this request is somebody else's")
        by_surl = {file.surl: file for file in request.files}
        asked = request.files if surls is None else [by_surl[surl] for surl in surls]
        states = tuple(file.state for file in request.files)
        return RequestView(Token(token), request.kind, tuple(asked), states, 3600, SHOWN)

    def release(
        self, principal: Principal, token: str | None, surls: Sequence[str] | None
    ) -> tuple[FileView, ...]:
        self._fail()
        if token is None and not surls:
            raise InvalidRequest("a request token or SURLs are needed")
        tokens = [token] if token is not None else [*self.requests]
        return tuple(
            replace(file, state=FileState.RELEASED)
            for t in tokens
            for file in self.status(principal, t, None).files
            if surls is None or file.surl in surls
        )

    def abort(self, principal: Principal, token: str) -> RequestView:
        for index, _ in enumerate(self.status(principal, token, None).files):
            self.settle(token, FileState.ABORTED, index=index)
        return self.status(principal, token, None)

    def abort_files(self, principal: Principal, token: str, surls: Sequence[str]) -> tuple[FileView, ...]:
        return self.status(principal, token, surls).files

    def extend(
        self, principal: Principal, token: str, surls: Sequence[str], pin_s: int
    ) -> tuple[FileView, ...]:
        return self.status(principal, token, surls).files

    def tokens(self, principal: Principal, description: str | None) -> list[Request]:
        self._fail()
        return []

    def summaries(self, principal: Principal, tokens: Sequence[str]) -> list[RequestSummary | None]:
        self._fail()
        return [None for _ in tokens]

    def entries(self, principal: Principal, surls: Sequence[str], operation: str) -> list[Listing]:
        return [self.listing(principal, surl, 0, 0, None) for surl in surls]

    def listing(
        self, principal: Principal, surl: str, levels: int, offset: int, count: int | None
    ) -> Listing:
        self._fail()
        self.listed.append((surl, levels, offset, count))
        try:
            parsed = Surl.parse(surl)
        except InvalidRequest as error:
            return Listing(surl, None, None, NotFound(error.message))
        found = self.entries_at.get(parsed.path)
        if found is None or principal.dn != ALICE.dn:
            return Listing(parsed, parsed.path, None, NotFound("no such file or directory"))
        below = [e for e in self.entries_at.values() if parent(e.path) == parsed.path and e.path != "/"]
        below = sorted(below, key=lambda e: e.path) if levels else []
        chosen = below[offset : None if count is None else offset + count]
        children = tuple(Listing(Surl(f"srm://localhost{e.path}", e.path), e.path, e) for e in chosen)
        more = len(below) > offset + len(chosen)
        online = found.facts is not None
        return Listing(parsed, parsed.path, found, None, online, children, more)

    def protocols(self) -> tuple[str, ...]:
        return ("gsiftp", "https")

    def _file(self, principal: Principal, surl: str) -> FileView:
        listing = self.listing(principal, surl, 0, 0, None)
        if listing.failure is not None:
            return FileView(surl, FileState.FAILED, listing.failure)
        return FileView(surl, FileState.QUEUED, wait_s=2)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass
class Answer:
    status: str
    body: bytes

    @property
    def part(self) -> etree._Element:
        """The one part of the response message; fails for a fault."""
        root = etree.fromstring(self.body)
        wrapper = root.find("{*}Body")[0]
        assert etree.QName(wrapper).localname != "Fault", self.body
        assert wrapper.tag.startswith(f"{{{NAMESPACE}}}")
        (part,) = wrapper
        assert etree.QName(wrapper).localname == part.tag, "the part is unqualified and named as the message"
        return part

    def text(self, path: str) -> str | None:
        return self.part.findtext(path)

    @property
    def code(self) -> str | None:
        return self.text("returnStatus/statusCode")


class Site:
    """The SRM application over a fake broker."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.broker = FakeBroker()
        settings = Settings(limits=limits) if limits else Settings()
        self.app = application(self.broker, settings)

    def http(
        self, method: str, body: bytes = b"", *, query: str = "", principal: Principal | None = ALICE
    ) -> Answer:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": "/srm/managerv2",
            "QUERY_STRING": query,
            "CONTENT_TYPE": "text/xml; charset=utf-8",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgi.url_scheme": "https",
            "HTTP_SSL_CLIENT_S_DN": "/DC=test/CN=Forged",
        }
        if principal is not None:
            environ["srm_dicom.principal"] = principal
        got: list[Any] = []
        chunks: Iterable[bytes] = self.app(environ, lambda *args: got.append(args))  # type: ignore[arg-type,return-value]
        return Answer(got[0][0], b"".join(chunks))

    def call(self, operation: str, inner: str = "", principal: Principal = ALICE) -> Answer:
        """Call with the inner XML of the request part."""
        answer = self.http("POST", soap(operation, inner), principal=principal)
        assert answer.status == "200 OK", answer.body
        return answer


def soap(operation: str, inner: str) -> bytes:
    return (
        '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
        f'xmlns:s="{NAMESPACE}"><e:Body><s:{operation}><{operation}Request>{inner}</{operation}Request>'
        f"</s:{operation}></e:Body></e:Envelope>"
    ).encode()


@pytest.fixture
def site() -> Site:
    made = Site()
    made.broker.add(
        entry("/", Kind.DIRECTORY),
        entry("/d", Kind.DIRECTORY),
        entry("/d/known", facts=FACTS),
        entry("/d/indexed"),
        entry("/d/sub", Kind.DIRECTORY),
        entry("/d/sub/deep", facts=FACTS),
    )
    return made


@pytest.fixture
def small_site() -> Site:
    """A site whose srmLs answers at most five entries."""
    made = Site(Limits(max_entries=5))
    made.broker.add(entry("/d", Kind.DIRECTORY), *(entry(f"/d/f{n}") for n in range(12)))
    return made


@pytest.fixture
def samples() -> dict[str, bytes]:
    """Requests captured from real clients, by file name; empty where they are not at hand."""
    found = {}
    for path in sorted((REFERENCE / "soap_samples").glob("*.txt")):
        text = path.read_text()
        found[path.stem] = text[text.index("<") :].split("\n\n")[0].encode()
    return found


@pytest.fixture
def reference() -> Path:
    return REFERENCE


@pytest.fixture
def stranger() -> Principal:
    return MALLORY


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def port(site: Site, pki: Pki) -> Iterator[int]:
    """The site behind a true httpg port."""
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    server = WebServer(
        site.app, gate, host="localhost", port=0, maximum_tls=ssl.TLSVersion.TLSv1_2, name="srm"
    )
    server.start()
    yield server.port
    server.stop()

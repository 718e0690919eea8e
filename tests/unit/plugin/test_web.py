"""The DICOMweb client against servers that answer well, badly, slowly or not at all."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from srm_dicom.clock import SystemClock
from srm_dicom.errors import (
    ConfigError,
    MdmError,
    NotDelivered,
    Overloaded,
    SourceRefused,
    SourceSlow,
    SourceUnavailable,
)
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_plugin_dicom import web
from srm_plugin_dicom.archive import Wanted
from srm_plugin_dicom.moves import MemoryBudget, MoveDesk
from srm_plugin_dicom.selector import Level
from srm_plugin_dicom.stores import ObjectInfo
from srm_plugin_dicom.web import WebArchive, WebSettings, read_headers

SERIES = make_series(SeriesSpec("CT", 3))
WANTED = Wanted(
    SERIES[0].StudyInstanceUID,
    SERIES[0].SeriesInstanceUID,
    tuple(str(each.SOPInstanceUID) for each in SERIES),
)
Answer = tuple[int, dict[str, str], bytes]


def files() -> list[bytes]:
    written = []
    for dataset in SERIES:
        whole = BytesIO()
        dataset.save_as(whole, enforce_file_format=True)
        written.append(whole.getvalue())
    return written


FILES = files()


def multipart(parts: list[bytes], *, last: bytes = b"\r\n--x--") -> Answer:
    head = b"\r\n--x\r\nContent-Type: application/dicom\r\n\r\n"
    return (
        200,
        {"Content-Type": "multipart/related; boundary=x"},
        b"".join(head + each for each in parts) + last,
    )


class Server:
    """Answers with what `answer` returns for a target; remembers the requests and the connections."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[str], Answer] = lambda _target: multipart(FILES)
        self.step_bytes, self.pause_s, self.closes = 1 << 30, 0.0, False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections.append(self.connection)

            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                status, headers, body = outer.answer(self.path)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                for at in range(0, len(body), outer.step_bytes):
                    self.wfile.write(body[at : at + outer.step_bytes])
                    time.sleep(outer.pause_s)
                self.close_connection = self.close_connection or outer.closes

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/dicom-web/"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def archive(server: Server, *, object_bytes: int = 1 << 20, budget: int = 1 << 24) -> WebArchive:
    desk = MoveDesk(max_object_bytes=object_bytes, budget=MemoryBudget(budget))
    settings = WebSettings("vna", server.url, 1.0, 1.0, headers={"Authorization": "Bearer secret"})
    return WebArchive(settings, desk, SystemClock())


def fetch(source: WebArchive, deadline_s: float = 5.0) -> tuple[list[str], MdmError | None]:
    came: list[str] = []

    def deliver(info: ObjectInfo, data: bytearray) -> None:
        assert bytes(data) == FILES[WANTED.instances.index(info.sop_instance)]
        came.append(info.sop_instance)

    try:
        source.fetch([WANTED], deliver, deadline_s)
    except MdmError as error:
        return came, error
    return came, None


def series_of(count: int) -> Answer:
    return 200, {}, json.dumps([{"00201209": {"vr": "IS", "Value": [count]}}]).encode()


@pytest.mark.parametrize(("count", "retrievals"), [(3, 1), (5, 1), (6, 3), (4000, 3)])
def test_a_series_is_one_request_when_most_of_it_is_wanted(
    server: Server, count: int, retrievals: int
) -> None:
    def answer(target: str) -> Answer:
        if "?" in target:
            return series_of(count)
        instance = target.rpartition("/instances/")[2]
        return multipart([FILES[WANTED.instances.index(instance)]] if "/instances/" in target else FILES)

    server.answer = answer
    came, error = fetch(archive(server))
    assert (sorted(came), error) == (sorted(WANTED.instances), None)
    assert len(server.requests) == retrievals + 1
    _, headers = server.requests[-1]
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Accept"].endswith("transfer-syntax=*")


def always(status: int, headers: dict[str, str], body: bytes) -> Callable[[str], Answer]:
    return lambda target: series_of(3) if "?" in target else (status, headers, body)


@pytest.mark.parametrize(
    ("answer", "came", "error"),
    [
        ((404, {}, b"gone"), 0, None),
        ((401, {}, b"who CANARY"), 0, SourceRefused),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), 0, SourceRefused),
        ((503, {}, b""), 0, SourceUnavailable),
        ((200, {"Content-Type": "text/html"}, b"<html>CANARY"), 0, SourceUnavailable),
        (multipart(FILES, last=b""), 2, SourceUnavailable),
        (multipart(FILES, last=b"\r\n--x"), 3, SourceUnavailable),
        (multipart([b"CANARY", *FILES[:1], b"", FILES[0]]), 1, None),
        (
            (
                *multipart(FILES)[:1],
                {"Content-Type": "multipart/related; boundary=x", "Content-Length": "9999999"},
                multipart(FILES)[2],
            ),
            3,
            SourceUnavailable,
        ),
    ],
)
def test_what_a_server_may_answer(
    server: Server, answer: Answer, came: int, error: type[MdmError] | None
) -> None:
    server.answer = always(*answer)
    delivered, told = fetch(archive(server), 3.0)
    assert len(delivered) == came
    assert (type(told) if told else None) is error
    assert "CANARY" not in str(told)


def test_bounds_hold_for_parts(server: Server) -> None:
    server.answer = always(*multipart([FILES[0] + bytes(40_000), *FILES[1:]]))
    came, _ = fetch(archive(server, object_bytes=len(FILES[0]) + 100))
    assert came == list(WANTED.instances[1:])
    budget = MemoryBudget(1000)
    source = WebArchive(
        WebSettings("vna", server.url), MoveDesk(max_object_bytes=1 << 20, budget=budget), SystemClock()
    )
    assert isinstance(fetch(source)[1], Overloaded)
    assert budget.held_bytes == 0


def test_a_server_that_says_nothing(server: Server) -> None:
    over = threading.Event()

    def slow(target: str) -> Answer:
        if "?" not in target:
            over.wait(20)
        return series_of(3)

    server.answer = slow
    started_s = time.monotonic()
    assert isinstance(fetch(archive(server), 1.0)[1], SourceUnavailable | NotDelivered)
    assert time.monotonic() - started_s < 10
    over.set()


def test_a_server_that_answers_questions_byte_by_byte(server: Server) -> None:
    server.answer = lambda _target: series_of(3)
    server.step_bytes, server.pause_s = 1, 0.2
    started_s = time.monotonic()
    assert isinstance(fetch(archive(server), 1.0)[1], SourceUnavailable | NotDelivered)
    assert time.monotonic() - started_s < len(series_of(3)[2]) * server.pause_s / 2


def test_half_an_answer_to_a_question_is_no_refusal(server: Server) -> None:
    status, _, body = series_of(3)
    server.answer = lambda _target: (status, {"Content-Length": str(len(body) + 100)}, body)
    server.closes = True
    with archive(server).session() as session, pytest.raises(SourceUnavailable):
        session.find(Level.STUDY, {"PatientID": "1"})


def test_a_server_that_is_not_there(server: Server) -> None:
    source = archive(server)
    server.stop()
    assert isinstance(fetch(source)[1], SourceUnavailable)
    with pytest.raises(SourceUnavailable):
        source.echo()


def study(uid: str) -> dict[str, object]:
    return {
        "0020000D": {"vr": "UI", "Value": [uid]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B", "Ideographic": "C"}]},
        "00080061": {"vr": "CS", "Value": ["CT", "MR"]},
        "00100030": {"vr": "DA"},
        "00091001": {"vr": "LO", "Value": ["private"]},
    }


@pytest.mark.parametrize("pages", [True, False])
def test_searches_go_page_by_page(server: Server, monkeypatch: pytest.MonkeyPatch, pages: bool) -> None:
    monkeypatch.setattr(web, "PAGE", 2)

    def answer(target: str) -> Answer:
        query = parse_qs(urlsplit(target).query)
        start = int(query["offset"][0]) if pages else 0
        found = [study(f"1.{number}") for number in range(3 if pages else 2)][start : start + 2]
        return 200, {"Content-Type": "application/dicom+json"}, json.dumps(found).encode()

    server.answer = answer
    with archive(server).session() as session:
        found = session.find(
            Level.STUDY, {"StudyDate": "20240101-", "PatientName": "", "ModalitiesInStudy": "CT\\MR"}
        )
    assert [each["StudyInstanceUID"] for each in found] == [
        f"1.{number}" for number in range(3 if pages else 2)
    ]
    assert found[0] == {"StudyInstanceUID": "1.0", "PatientName": "A^B", "ModalitiesInStudy": "CT\\MR"}
    query = parse_qs(urlsplit(server.requests[0][0]).query)
    assert query["StudyDate"] == ["20240101-"]
    assert "ModalitiesInStudy" not in query
    assert set(query["includefield"]) == {"StudyDate", "PatientName", "ModalitiesInStudy"}


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"<html>", b'[{"zz": {"Value": [1]}}]', b"\xff"])
def test_searches_that_answer_nonsense(server: Server, body: bytes) -> None:
    server.answer = lambda _target: (200, {}, body)
    with archive(server).session() as session, pytest.raises(SourceRefused):
        session.find(Level.STUDY, {"PatientID": "CANARY"})


def test_headers_of_a_secrets_file(tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.write_text("Authorization: Bearer a:b\n\nX-Site: one\n")
    path.chmod(0o600)
    assert read_headers(path) == {"Authorization": "Bearer a:b", "X-Site": "one"}
    path.chmod(0o640)
    with pytest.raises(ConfigError):
        read_headers(path)
    path.chmod(0o600)
    path.write_text("no header")
    with pytest.raises(ConfigError) as caught:
        read_headers(path)
    assert "no header" not in str(caught.value.message).replace("is no header", "")


@pytest.mark.parametrize("has_begun", [False, True])
def test_one_that_has_not_begun_in_time_is_slow(server: Server, has_begun: bool) -> None:
    over = threading.Event()

    def answer(target: str) -> Answer:
        if target.startswith("/dicom-web/studies/") and "?" in target:
            return series_of(3)
        over.wait(10)
        return multipart(FILES)

    server.answer = answer
    came: list[str] = []
    wanted = [replace(WANTED, first_s=5.0 if has_begun else 0.2)]
    if has_begun:
        over.set()
    try:
        with nullcontext() if has_begun else pytest.raises(SourceSlow):
            archive(server).fetch(wanted, lambda info, _data: came.append(info.sop_instance), 5.0)
    finally:
        over.set()
    assert len(came) == (3 if has_begun else 0)


def test_one_connection_for_many_visits_and_another_when_it_has_died(server: Server) -> None:
    server.answer = lambda target: series_of(3) if "?" in target else multipart(FILES)
    source = archive(server)
    for _ in range(3):
        assert fetch(source)[1] is None
    assert len(server.connections) == 1
    server.connections[0].shutdown(socket.SHUT_RDWR)
    came, error = fetch(source)
    assert (len(came), error) == (3, None)
    assert len(server.connections) == 2
    source.close()
    source.echo()
    assert len(server.connections) == 3


def test_a_connection_is_not_used_again_after_half_an_answer(server: Server) -> None:
    server.answer = always(200, {"Content-Type": "text/html"}, b"<html>")
    source = archive(server)
    assert isinstance(fetch(source)[1], SourceUnavailable)
    server.answer = lambda target: series_of(3) if "?" in target else multipart(FILES)
    assert fetch(source)[1] is None
    assert len(server.connections) == 2

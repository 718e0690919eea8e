"""What the SRM costs beside its floor: the same web server, TLS and proxies, answering constants.

    python -m benchmarks.srm [--calls 300] [--entries 2000] [--requests 100000] [--clients 200]

* Ping, and PrepareToGet + StatusOfGet + ReleaseFiles of a staged file, a second: on a httpg connection of
  their own, as each command of gfal and ARC has one, with its handshake and the proofs of a proxy; and on
  one that is kept. The floor is asked by the same client and answers with what ours once answered.
  The inner zone, at a site another process, is at rest.
* srmLs of a directory, from the bytes of the request to those of the answer, beside hand-written lxml that
  builds the same bytes from values that it has already.
* submit and status, with that many requests in the database and with none.
* status of a request on that many kept connections, each polled every two seconds, beside a single one.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import ssl
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from lxml import etree

from srm_dicom.broker.areas import inherited
from srm_dicom.broker.views import RequestKind, Wish
from srm_dicom.client.http import HttpClient, Response
from srm_dicom.client.srm import DEFAULT_PATH, SrmClient
from srm_dicom.client.srm_messages import NAMESPACE
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, SitePath, Token, parse_path
from srm_dicom.soap.envelope import SOAP_ENVELOPE
from srm_dicom.srm.service import application
from srm_dicom.store.namespace import Facts, Kind
from srm_dicom.store.requestrows import RequestFileRow, RequestRow, file_columns, to_ms
from srm_dicom.store.requests import FileState, Request, RequestFile
from srm_dicom.telemetry import configure
from srm_dicom.testing.element import ROOT, StorageElement
from srm_dicom.web.environ import PRINCIPAL
from srm_dicom.web.server import WebServer

RATIO, LS_RATIO, GROWTH, CROWD = 0.5, 1.5, 1.2, 2.0
POLL_EVERY_S, POLLS = 2.0, 6
ROUNDS = 5
CHUNK = 500
START_S = 60

T = TypeVar("T")


# --- a second: ours and the floor, in a process of their own --------------------------------------------


class Recorder:
    """A connection that keeps what was answered to each operation."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self.answers: dict[bytes, bytes] = {}

    def request(self, method: str, target: str, body: bytes = b"", *more: Any, **options: Any) -> Response:
        answer = self._http.request(method, target, body, *more, **options)
        self.answers[operation_of(body)] = answer.body
        return answer

    def close(self) -> None:
        self._http.close()


def operation_of(body: bytes) -> bytes:
    return body.split(b"Body><srm:", 1)[1].split(b">", 1)[0].rstrip(b"/")


def serve(directory: Path, told: Connection) -> None:
    configure("benchmark", level=50)
    element = StorageElement(directory)
    element.start()
    with element.written.create(principal(element), parse_path(f"{ROOT}/a")) as file:
        file.write(0, b"content")
        file.finish()
    element.end_inner_zone()
    told.send((f"httpg://localhost:{element.srm.port}", element.alice))
    answers = told.recv()

    def constant(environ: Any, start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        answer = answers[operation_of(body)]
        start_response("200 OK", [("Content-Type", "text/xml"), ("Content-Length", str(len(answer)))])
        return [answer]

    gate = Gate(TrustSettings(element.pki.trust_dir), element.pki.host(), element.clock)
    floor = WebServer(
        constant, gate, host="localhost", port=0, maximum_tls=ssl.TLSVersion.TLSv1_2, name="floor"
    )
    floor.start()
    told.send(f"httpg://localhost:{floor.port}")
    told.recv()


def ping(client: SrmClient) -> None:
    client.ping()


def cycle(client: SrmClient) -> None:
    request = client.prepare_to_get([f"srm://localhost{ROOT}/a"], ["gsiftp"])
    client.status(request.token)
    client.release(request.token)


@contextmanager
def served(directory: Path) -> Iterator[Connection]:
    """Start `serve` in a process of its own; the pipe tells where it is."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(directory, there), daemon=True)
    process.start()
    try:
        yield here
    finally:
        process.terminate()
        process.join(START_S)


def rates(directory: Path, calls: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return calls a second of ours and of the floor, and their ratio, by connection and kind of call."""
    with served(directory) as here:
        url, credential = received(here)
        recorder = Recorder(HttpClient(url, credential, timeout_s=START_S))
        with SrmClient(recorder) as client:
            ping(client)
            cycle(client)
        here.send(recorder.answers)
        floor_url = received(here)
        acts = (ping, cycle)

        def connected(act: Callable[[SrmClient], None], where: str) -> None:
            with SrmClient.connect(where, credential) as client:
                act(client)

        own = {act.__name__: compared(partial(connected, act), url, floor_url, calls) for act in acts}
        with SrmClient.connect(url, credential) as ours, SrmClient.connect(floor_url, credential) as floor:
            kept = {act.__name__: compared(act, ours, floor, calls) for act in acts}
        return {"own_connection": own, "kept_connection": kept}


def crowd(directory: Path, clients: int) -> dict[str, float]:
    """Return milliseconds of a poll of one client and of many, each on its own connection."""
    with served(directory) as here:
        url, credential = received(here)
        alone = polled(url, credential, 1)
        many = polled(url, credential, clients)
        alone_s, many_s = statistics.median(alone), statistics.median(many)
        return {"alone_ms": ms(alone_s), "many_ms": ms(many_s), "times": round(many_s / alone_s, 2)}


def polled(url: str, credential: Any, clients: int) -> list[float]:
    """Return how long each poll took, of clients that began at different moments."""
    times: list[float] = []

    def poll(number: int) -> None:
        with SrmClient.connect(url, credential, timeout_s=START_S) as client:
            request = client.prepare_to_get([f"srm://localhost{ROOT}/a"], ["gsiftp"])
            connected.wait(START_S)
            time.sleep(POLL_EVERY_S * number / clients)
            for _ in range(POLLS):
                begun = time.perf_counter()
                client.status(request.token)
                taken = time.perf_counter() - begun
                times.append(taken)
                time.sleep(max(0.0, POLL_EVERY_S - taken))

    connected = threading.Barrier(clients)
    threads = [threading.Thread(target=poll, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def received(pipe: Connection) -> Any:
    if not pipe.poll(START_S):
        raise TimeoutError("the servers did not start")
    return pipe.recv()


def compared(act: Callable[[T], None], ours: T, floor: T, calls: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {"ours": [], "floor": []}
    for _ in range(ROUNDS):
        for name, which in (("ours", ours), ("floor", floor)):
            seconds[name] += [timed(lambda which=which: act(which)) for _ in range(calls // ROUNDS)]
    a_second = {name: 1 / statistics.median(times) for name, times in seconds.items()}
    return {**{name: round(rate) for name, rate in a_second.items()}, "ratio": ratio(a_second)}


def ratio(a_second: dict[str, float]) -> float:
    return round(a_second["ours"] / a_second["floor"], 3)


# --- a listing, in this process -------------------------------------------------------------------------

LS = f"""<e:Envelope xmlns:e="{SOAP_ENVELOPE}" xmlns:s="{NAMESPACE}"><e:Body><s:srmLs><srmLsRequest>
<arrayOfSURLs><urlArray>srm://localhost{ROOT}</urlArray></arrayOfSURLs><fullDetailedList>true</fullDetailedList>
</srmLsRequest></s:srmLs></e:Body></e:Envelope>""".encode()

Shape = tuple[str, str | None, tuple[Any, ...]]
"""An element as its tag, its text and its children."""


def listing(element: StorageElement, entries: int, repeats: int = 9) -> dict[str, float]:
    """Return milliseconds of srmLs and of hand-written lxml, and how many times longer ours takes."""
    fill(element, entries)
    app, caller = application(element.broker), principal(element)
    answer = post(app, caller)
    root = etree.fromstring(answer)
    assert len(root.findall(".//path")) == entries + 1
    shape = shape_of(root)
    assert etree.tostring(etree.fromstring(by_hand(shape)), method="c14n") == etree.tostring(
        root, method="c14n"
    )
    ours, hand = [], []
    for _ in range(repeats):
        ours.append(timed(lambda: post(app, caller)))
        hand.append(timed(lambda: by_hand(shape)))
    ours_s, hand_s = statistics.median(ours), statistics.median(hand)
    return {"ours_ms": ms(ours_s), "hand_ms": ms(hand_s), "times": round(ours_s / hand_s, 2)}


def post(app: Any, caller: Principal) -> bytes:
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": DEFAULT_PATH,
        "QUERY_STRING": "",
        "CONTENT_TYPE": "text/xml; charset=utf-8",
        "CONTENT_LENGTH": str(len(LS)),
        "wsgi.input": io.BytesIO(LS),
        "wsgi.url_scheme": "https",
        PRINCIPAL: caller,
    }
    return b"".join(app(environ, lambda *_: None))


def shape_of(element: Any) -> Shape:
    return element.tag, element.text, tuple(map(shape_of, element))


def by_hand(shape: Shape) -> bytes:
    tag, _, children = shape
    root = etree.Element(tag, nsmap={"soapenv": SOAP_ENVELOPE, "srm": NAMESPACE})
    write(root, children)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def write(above: Any, children: tuple[Shape, ...]) -> None:
    for tag, text, below in children:
        element = etree.SubElement(above, tag)
        element.text = text
        if below:
            write(element, below)


def fill(element: StorageElement, entries: int) -> None:
    """Write names into the directory that everybody may write to."""
    namespace = element.stores.namespace
    top = namespace.find(parse_path(ROOT))
    assert top is not None
    acl = inherited(top.acl, directory=False)
    facts = Facts(524_300, "0d370270", "{}")
    with element.stores.database.transaction():
        for number in range(entries):
            path = SitePath(f"{ROOT}/file-{number:06d}.dat")
            guid = Guid(str(uuid.uuid4()))
            namespace.add_file(
                replace(top, path=path, kind=Kind.FILE, acl=acl, guid=guid, facts=facts, plugin="disk")
            )


# --- a long memory, in this process ---------------------------------------------------------------------


def growth(
    brief: StorageElement, long: StorageElement, requests: int, repeats: int = 100
) -> dict[str, float]:
    """Return milliseconds of submit and status where many requests are remembered, beside where none is.

    Both are asked in turns, so that both have the same noise of the machine.
    """
    for element in (brief, long):
        fill(element, 1)
    remember(long, requests)
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        for when, element in (("empty", brief), ("full", long)):
            for name, seconds in submit_and_status(element).items():
                times.setdefault(f"{name}_{when}", []).append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    grown = {
        f"{name}_grows": round(medians[f"{name}_full"] / medians[f"{name}_empty"], 2)
        for name in ("submit", "status")
    }
    return {f"{name}_ms": ms(seconds) for name, seconds in medians.items()} | grown


def submit_and_status(element: StorageElement) -> dict[str, float]:
    caller, broker = principal(element), element.broker
    wish = Wish(RequestKind.GET, (f"srm://localhost{ROOT}/file-000000.dat",), ("gsiftp",))
    begun = time.perf_counter()
    token = broker.submit(caller, wish).token
    submit_s = time.perf_counter() - begun
    return {"submit": submit_s, "status": timed(lambda: broker.status(caller, token, None))}


def remember(element: StorageElement, requests: int) -> None:
    """Fill the queue: half of what is remembered has ended, a quarter is pinned, a quarter waits."""
    database = element.stores.database
    rows = [remembered(number, element.clock.now()) for number in range(requests)]
    with database.transaction():
        for model, column in ((database.bind(RequestRow), 0), (database.bind(RequestFileRow), 1)):
            for start in range(0, len(rows), CHUNK):
                model.insert_many([row[column] for row in rows[start : start + CHUNK]]).execute()


def remembered(number: int, now: datetime) -> tuple[dict[str, object], dict[str, object]]:
    """Return the columns of a request and of its file."""
    states = (FileState.RELEASED, FileState.EXPIRED, FileState.PINNED, FileState.QUEUED)
    state, until = states[number % len(states)], now + timedelta(days=1)
    token, owner = Token(str(uuid.uuid4())), f"/DC=test/CN=User {number % 100}"
    request = Request(token, RequestKind.GET, owner, "gsiftp", now, until, 3600, None)
    path, guid = SitePath(f"{ROOT}/other-{number}"), Guid(str(uuid.uuid4()))
    pinned = until if state is FileState.PINNED else None
    file = RequestFile(f"srm://localhost{path}", path, guid, state, pin_until=pinned)
    columns: dict[str, object] = {
        "token": token,
        "kind": request.kind.value,
        "owner": owner,
        "protocol": request.protocol,
        "created_at": to_ms(now),
        "deadline_at": to_ms(until),
        "pin_s": request.pin_s,
    }
    return columns, file_columns(request, 0, file)


# --- all together ---------------------------------------------------------------------------------------


def principal(element: StorageElement) -> Principal:
    far = element.clock.now() + timedelta(days=1)
    return Principal(element.pki.dn(element.alice), (), limited=False, expires=far)


def timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def ms(seconds: float) -> float:
    return round(1e3 * seconds, 2)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--calls", type=int, default=300)
    options.add_argument("--entries", type=int, default=2000)
    options.add_argument("--requests", type=int, default=100_000)
    options.add_argument("--clients", type=int, default=200)
    chosen = options.parse_args()
    configure("benchmark", level=50)
    with tempfile.TemporaryDirectory() as directory:
        spoken = rates(Path(directory) / "served", chosen.calls)
        print(json.dumps({"a_second": spoken, "wanted_ratio": RATIO}), flush=True)
        listed = listing(StorageElement(Path(directory) / "listed"), chosen.entries)
        print(json.dumps({"ls": listed, "entries": chosen.entries, "wanted_times": LS_RATIO}), flush=True)
        brief, long = (StorageElement(Path(directory) / name) for name in ("brief", "long"))
        grown = growth(brief, long, chosen.requests)
        print(json.dumps({"memory": grown, "requests": chosen.requests, "wanted_growth": GROWTH}), flush=True)
        told = crowd(Path(directory) / "crowd", chosen.clients)
        print(json.dumps({"polls": told, "clients": chosen.clients, "wanted_times": CROWD}))


if __name__ == "__main__":
    main()

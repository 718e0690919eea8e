"""srmCopy between two sites of ours, and with plain https and gsiftp servers, driven by zeep over httpg."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import peewee
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from srm_dicom.client.http import HttpClient
from srm_dicom.errors import Overloaded
from srm_dicom.ids import Guid, parse_path
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.project import Release
from srm_dicom.store.namespace import Entry, Kind
from srm_dicom.testing.certificates import proxy_certificate, read_credential
from srm_dicom.testing.copies import PATIENCE_S, Sites
from srm_dicom.testing.element import ROOT, StorageElement
from srm_dicom.transfer.carrying import Carrying
from srm_dicom.wire.gridsite import NAMESPACES

GRIDSITE = '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>{}</e:Body></e:Envelope>'


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("sites"))
    yield made
    made.stop()


def address(sites: Sites, kind: str, name: str) -> str:
    """Return a name of the other site as an SRM, an https or a gsiftp server would have it."""
    there = sites.there
    return {
        "srm": there.surl(name),
        "short srm": f"srm://localhost:{there.srm.port}{ROOT}/{name}",
        "https": f"https://localhost:{there.webdav.port}{ROOT}/{name}",
        "davs": f"davs://localhost:{there.webdav.port}{ROOT}/{name}",
        "gsiftp": f"gsiftp://localhost:{there.gridftp.port}{ROOT}/{name}",
    }[kind]


@pytest.mark.parametrize("kind", ["srm", "short srm", "davs", "gsiftp"])
def test_a_file_comes_from_another_server(sites: Sites, kind: str) -> None:
    content, name = os.urandom(300_001), f"pulled-{kind.replace(' ', '-')}"
    sites.store(sites.there, name, content)
    done = sites.copy(address(sites, kind, name), sites.here.surl(name))
    assert (done.request, done.code) == ("SRM_SUCCESS", "SRM_SUCCESS"), done.said
    assert done.file.remainingFileLifetime == -1
    assert sites.stored(sites.here, name) == content


@pytest.mark.parametrize("kind", ["srm", "https", "gsiftp"])
def test_a_file_goes_to_another_server(sites: Sites, kind: str) -> None:
    content, name = os.urandom(300_001), f"pushed-{kind.replace(' ', '-')}"
    source = sites.store(sites.here, name, content)
    done = sites.copy(source, address(sites, kind, name))
    assert (done.request, done.code) == ("SRM_SUCCESS", "SRM_SUCCESS"), done.said
    assert sites.stored(sites.there, name) == content


@pytest.mark.parametrize("kind", ["srm", "https", "gsiftp"])
def test_what_is_there_is_overwritten_only_if_that_is_asked(sites: Sites, kind: str) -> None:
    source = sites.store(sites.here, f"new-{kind}", b"new")
    sites.store(sites.there, f"old-{kind}", b"old")
    target = address(sites, kind, f"old-{kind}")
    refused = sites.copy(source, target)
    assert (refused.request, refused.code) == ("SRM_FAILURE", "SRM_DUPLICATION_ERROR")
    assert sites.stored(sites.there, f"old-{kind}") == b"old"
    done = sites.copy(source, target, overwriteOption="ALWAYS")
    assert done.code == "SRM_SUCCESS", done.said
    back = sites.copy(sites.there.surl(f"old-{kind}"), source, overwriteOption="ALWAYS")
    assert back.code == "SRM_SUCCESS", back.said
    assert sites.stored(sites.here, f"new-{kind}") == b"new"


def test_a_source_that_left_scratch_is_staged_first(sites: Sites) -> None:
    content = os.urandom(100_000)
    surls = [sites.store(site, "nearline", content) for site in (sites.here, sites.there)]
    for site in (sites.here, sites.there):
        (entry,) = site.stores.namespace.find_many([parse_path(f"{ROOT}/nearline")]).values()
        site.stores.staged.remove(entry.guid, "node")
    sent = sites.copy(surls[0], sites.there.surl("nearline-sent"))
    fetched = sites.copy(surls[1], sites.here.surl("nearline-fetched"))
    assert (sent.code, fetched.code) == ("SRM_SUCCESS", "SRM_SUCCESS"), sent.said + fetched.said
    assert (
        sites.stored(sites.there, "nearline-sent") == sites.stored(sites.here, "nearline-fetched") == content
    )


@pytest.mark.parametrize("kind", ["srm", "https", "gsiftp"])
def test_a_source_that_is_not_there(sites: Sites, kind: str) -> None:
    done = sites.copy(address(sites, kind, "absent"), sites.here.surl(f"absent-{kind}"))
    assert (done.request, done.code) == ("SRM_FAILURE", "SRM_INVALID_PATH")
    assert "no such file" in done.said.lower()
    free = sites.copy(sites.store(sites.here, f"x-{kind}", b"x"), sites.here.surl(f"absent-{kind}"))
    assert free.code == "SRM_SUCCESS", "the name is free again"


def test_pairs_of_one_request_have_their_own_fates(sites: Sites) -> None:
    there, here = sites.store(sites.there, "m1", b"1"), sites.store(sites.here, "m2", b"2")
    pairs = [
        (there, sites.here.surl("m1")),
        (here, sites.there.surl("m2")),
        (here, sites.here.surl("m3")),
        (there, sites.there.surl("m4")),
        ("https://elsewhere.example/x", sites.here.surl("m5")),
        (here, f"https://127.0.0.1:{sites.there.webdav.port}{ROOT}/m6"),
        ("http://localhost/x", sites.here.surl("m7")),
    ]
    requests = [{"sourceSURL": source, "targetSURL": target} for source, target in pairs]
    begun = sites.alice.service.srmCopy({"arrayOfFileRequests": {"requestArray": requests}})
    assert [one.sourceSURL for one in begun.arrayOfFileStatuses.statusArray] == [one for one, _ in pairs]
    assert sites.ended(begun).request == "SRM_PARTIAL_SUCCESS"
    told = sites.alice.service.srmStatusOfCopyRequest({"requestToken": begun.requestToken})
    codes = [one.status.statusCode.removeprefix("SRM_") for one in told.arrayOfFileStatuses.statusArray]
    refused = ["NOT_SUPPORTED", "AUTHORIZATION_FAILURE", "AUTHORIZATION_FAILURE", "NOT_SUPPORTED"]
    assert codes == ["SUCCESS"] * 3 + refused
    (summary,) = sites.alice.service.srmGetRequestSummary(
        {"arrayOfRequestTokens": {"stringArray": [begun.requestToken]}}
    ).arrayOfRequestSummaries.summaryArray
    assert (summary.requestType, summary.numOfCompletedFiles, summary.numOfFailedFiles) == ("COPY", 3, 4)


def test_who_may_not_write_or_read(sites: Sites) -> None:
    reader = sites.delegating(sites.here.reader)
    source = sites.store(sites.there, "readable", b"r")
    here = sites.copy(source, sites.here.surl("by-reader"), reader)
    assert (here.code, "may not write" in here.said) == ("SRM_AUTHORIZATION_FAILURE", True)
    there = sites.copy(sites.store(sites.here, "mine", b"m"), sites.there.surl("by-reader"), reader)
    assert (there.code, "the other server" in there.said) == ("SRM_AUTHORIZATION_FAILURE", True)


def test_nothing_is_copied_without_a_delegated_credential(sites: Sites) -> None:
    source = sites.store(sites.there, "undelegated", b"u")
    done = sites.copy(source, sites.here.surl("undelegated"), sites.plain(sites.here.alice))
    assert done.code == "SRM_AUTHENTICATION_FAILURE"
    assert "delegated" in done.said


def test_a_credential_that_was_delegated_over_https_will_do(sites: Sites) -> None:
    """Who cannot delegate in the httpg session calls GridSite's service on the same port."""
    client = HttpClient(f"https://localhost:{sites.here.srm.port}", sites.here.bob)
    certificates, key = read_credential(sites.here.bob)

    def call(operation: str, **parameters: str) -> bytes:
        inside = "".join(f"<{name}>{value}</{name}>" for name, value in parameters.items())
        said = GRIDSITE.format(f'<d:{operation} xmlns:d="{NAMESPACES[0]}">{inside}</d:{operation}>')
        return client.request("POST", "/.gridsite-delegation", said.encode()).body

    told = call("getProxyReq", delegationID="1")
    request = x509.load_pem_x509_csr(told[told.index(b"-----BEGIN") : told.index(b"</getProxyReqReturn>")])
    made = proxy_certificate(certificates[0], key, request.public_key())
    call("putProxy", delegationID="1", proxy=made.public_bytes(Encoding.PEM).decode())
    bob = sites.plain(sites.here.bob)
    done = sites.copy(sites.store(sites.there, "gridsite", b"g"), sites.here.surl("gridsite"), bob)
    assert done.code == "SRM_SUCCESS", done.said
    client.close()


# --- registered files within the site


def register(site: StorageElement, name: str, content: bytes, *readers: str) -> str:
    """Register a file outside of the areas, whose bytes are not in scratch; returns its SURL."""
    path = parse_path(f"{ROOT.rpartition('/')[0]}/{name}")
    (site.root / name).write_bytes(content)
    acl = Acl.parse("\n".join(f'user:"{reader}":r' for reader in readers))
    entry = Entry(
        path,
        Kind.FILE,
        "",
        acl,
        site.clock.now(),
        guid=Guid(str(uuid.uuid4())),
        release=Release("heart", "none", "v1"),
        plugin="disk",
        plugin_ref=name.encode(),
    )
    site.stores.namespace.add_file(entry)
    return f"srm://localhost:{site.srm.port}{path}"


def test_a_registered_file_is_staged_and_copied_within_the_site(sites: Sites) -> None:
    content, here = os.urandom(300_001), sites.here
    source = register(here, "registered", content, here.pki.dn(here.bob))
    bob = sites.plain(here.bob)  # nothing has to be delegated
    done = sites.copy(source, here.surl("copied"), bob)
    assert (done.request, done.code) == ("SRM_SUCCESS", "SRM_SUCCESS"), done.said
    assert sites.stored(here, "copied") == content
    entry = here.stores.namespace.find(parse_path(f"{ROOT}/copied"))
    assert entry is not None
    assert entry.owner == here.pki.dn(here.bob)
    again = sites.copy(source, here.surl("copied"), bob)
    assert again.code == "SRM_DUPLICATION_ERROR"
    assert sites.copy(source, here.surl("copied"), bob, overwriteOption="ALWAYS").code == "SRM_SUCCESS"
    tokens = bob.service.srmGetRequestTokens({}).arrayOfRequestTokens.tokenArray
    summaries = bob.service.srmGetRequestSummary(
        {"arrayOfRequestTokens": {"stringArray": [one.requestToken for one in tokens]}}
    ).arrayOfRequestSummaries.summaryArray
    assert {one.requestType for one in summaries} == {"COPY"}, "what was staged for it is given back"


def test_a_registered_file_is_copied_for_nobody_who_may_not_read_it(sites: Sites) -> None:
    here = sites.here
    source = register(here, "secret", b"s", here.pki.dn(here.alice))
    done = sites.copy(source, here.surl("secret-copy"), sites.plain(here.bob))
    assert done.code == "SRM_INVALID_PATH"
    done = sites.copy(source, here.surl("secret-copy"), sites.plain(here.reader))
    assert done.code in ("SRM_INVALID_PATH", "SRM_AUTHORIZATION_FAILURE")


def test_a_registered_file_that_its_archive_does_not_have_is_not_copied(sites: Sites) -> None:
    here = sites.here
    source = register(here, "gone", b"g", here.pki.dn(here.alice))
    (here.root / "gone").unlink()
    done = sites.copy(source, here.surl("gone-copy"))
    assert done.request == "SRM_FAILURE"
    assert done.said
    assert not _writing(here, "gone-copy")


# --- what ends a copy before its time


@pytest.fixture
def busy(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the other site say to every srmPutDone that it needs more time, until the test calls this."""

    def done(*_: Any) -> None:
        raise Overloaded("the file is still being stored")

    monkeypatch.setattr(sites.there.broker.puts, "done", done)
    return monkeypatch.undo


def test_a_copy_is_aborted(sites: Sites, busy: Callable[[], None]) -> None:
    source = sites.store(sites.here, "aborted", b"a")
    begun = sites.begin(source, sites.there.surl("aborted"))
    until_s = time.monotonic() + PATIENCE_S
    while not _writing(sites.there, "aborted") and time.monotonic() < until_s:
        time.sleep(0.05)
    assert _writing(sites.there, "aborted")
    ended = sites.alice.service.srmAbortRequest({"requestToken": begun.requestToken})
    assert ended.statusCode == "SRM_SUCCESS"
    done = sites.ended(begun)
    assert (done.request, done.code) == ("SRM_ABORTED", "SRM_ABORTED")
    while _writing(sites.there, "aborted") and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not _writing(sites.there, "aborted"), "the other server was told"
    busy()
    again = sites.copy(source, sites.there.surl("aborted"))
    assert again.code == "SRM_SUCCESS", again.said


def test_the_time_of_a_copy_ends_it(sites: Sites, busy: Callable[[], None]) -> None:
    source = sites.store(sites.here, "late", b"l")
    done = sites.copy(source, sites.there.surl("late"), desiredTotalRequestTime=1)
    assert (done.request, done.code) == ("SRM_FAILURE", "SRM_REQUEST_TIMED_OUT")
    assert "time is over" in done.said
    busy()


def test_after_a_restart_the_credential_is_gone(sites: Sites, busy: Callable[[], None]) -> None:
    """What the process that died had in hand is failed by the next one, before it opens its port."""
    source = sites.store(sites.here, "restarted", b"r")
    begun = sites.begin(source, sites.there.surl("restarted"))
    old = sites.here.carrying
    revived = Carrying(
        old._settings, old._copies, old._own, old._writing, old._mover, old._delegations, old._gate,
        old._clock,
    )  # fmt: skip
    assert revived.name == old.name
    done = sites.ended(begun)
    assert (done.request, done.code) == ("SRM_FAILURE", "SRM_AUTHENTICATION_FAILURE")
    assert done.said == "the delegated credential is gone, submit again"
    busy()
    until_s = time.monotonic() + PATIENCE_S  # here the process that "died" goes on, and may be writing there
    while _writing(sites.there, "restarted") and time.monotonic() < until_s:
        time.sleep(0.05)
    again = sites.copy(source, sites.there.surl("restarted"), overwriteOption="ALWAYS")
    assert again.code == "SRM_SUCCESS", again.said


@pytest.fixture
def locked(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the database be locked every other time, six times, when a method of the copies is called."""

    def lock(method: str) -> None:
        copies, calls = sites.here.broker.copies, iter(range(12))
        real = getattr(copies, method)

        def call(*arguments: Any) -> Any:
            if next(calls, 1) % 2 == 0:
                raise peewee.OperationalError("database is locked")
            return real(*arguments)

        monkeypatch.setattr(copies, method, call)

    return lock


def test_a_copy_outlives_a_database_that_is_locked(sites: Sites, locked: Callable[[str], None]) -> None:
    source = sites.store(sites.there, "patient", b"p")
    locked("standing")
    done = sites.copy(source, sites.here.surl("patient"))
    assert done.code == "SRM_SUCCESS", done.said
    assert not sites.here.carrying._turns._running, "every place is free again"


def test_the_end_of_a_copy_is_told_when_the_database_can_be_written_again(
    sites: Sites, locked: Callable[[str], None]
) -> None:
    locked("broke_off")
    done = sites.copy(sites.there.surl("no such file"), sites.here.surl("untold"))
    assert done.code == "SRM_INVALID_PATH", done.said


def _writing(site: StorageElement, name: str) -> bool:
    return site.stores.uploads.find_path(parse_path(f"{ROOT}/{name}")) is not None

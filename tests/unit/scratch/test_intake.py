"""The port that stagers push to: who may call, what may be said, and that nothing comes back."""

import json

import msgspec
import pytest

from srm_dicom.client.http import HttpClient
from srm_dicom.client.scratch import INCOMING, PUBLISH
from srm_dicom.errors import Overloaded
from srm_dicom.rights.declare import Right, declared
from srm_dicom.transfer.intake import MAX_LIST_BYTES, Intake, calls

GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
UNKNOWN = "0" * 32
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "PROPFIND", "OPTIONS", "MOVE", "COPY"]


@pytest.fixture
def call(outer):
    """Say something to the node as somebody; returns the answer."""

    def say(method, target, body=b"", credential=None):
        client = HttpClient(outer.url, credential or outer.stager, timeout_s=10.0)
        try:
            return client.request(method, target, body)
        finally:
            client.close()

    return say


@pytest.fixture(params=["user", "proxy of a user", "limited stager", "host of another name"])
def hostile(request, outer):
    pki = outer.pki
    return {
        "user": lambda: pki.user("eve"),
        "proxy of a user": lambda: pki.proxy(pki.user("eve")),
        "limited stager": lambda: pki.proxy(outer.stager, limited=True),
        "host of another name": lambda: type(outer.stager)(
            pki.host().certificate, pki.host().key, pki.trust_dir
        ),
    }[request.param]()


def test_every_call_declares_its_right(outer):
    for function in calls(Intake(outer.area, [], outer.audit)).values():
        assert declared(function) is Right.SCRATCH_WRITE


def test_nobody_else_gets_in(outer, call, hostile, name, put):
    file_id = put(outer.area, b"waiting")
    body = json.dumps([{"id": file_id, "name": str(name())}]).encode()
    for target, content in ((INCOMING, b"x" * 100_000), (PUBLISH, body), (PUBLISH, b"nonsense")):
        assert call("POST", target, content, hostile).status == 403
    assert not outer.ready()
    assert [path.name for path in outer.incoming()] == [file_id]
    assert outer.audited().count('"denied"') == 3


def test_a_stager_that_is_not_listed_waits_for_the_administrator(outer, hostile, put):
    with pytest.raises(Overloaded):
        put(outer.remote(hostile), b"x" * 1_000_000)


def test_a_stagers_full_proxy_is_the_stager(outer, name, put):
    node = outer.remote(outer.pki.proxy(outer.stager))
    node.publish([(name(), put(node, b"x"))])
    assert outer.ready() == {name()}


def test_nothing_is_readable_or_removable(outer, call, name, put):
    outer.area.publish([(name(), put(outer.area, b"ciphertext"))])
    waiting = put(outer.area, b"waiting")
    targets = [
        "/", "/scratch", INCOMING, PUBLISH, f"{INCOMING}/{waiting}", f"/scratch/ready/{name()}",
        f"/scratch/ready/{name().guid[:2]}/{name()}", f"{INCOMING}/../ready/{name()}", f"/{name()}",
    ]  # fmt: skip
    for method in METHODS:
        for target in targets:
            if (method, target) in {("POST", INCOMING), ("POST", PUBLISH)}:
                continue
            answer = call(method, target)
            assert answer.status == 404, (method, target)
            assert b"ciphertext" not in answer.body
    assert outer.ready() == {name()}
    assert len(outer.incoming()) == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "../../etc/passwd.1"},
        {"name": f"../{GUID}.1"},
        {"name": f"{GUID}"},
        {"name": f"{GUID}.0"},
        {"name": f"{GUID}.01"},
        {"name": f"{GUID}.-1"},
        {"name": f"{GUID}.1\n"},
        {"name": f"{GUID}.\u0661"},
        {"name": f"{GUID.upper()}.1"},
        {"name": f"{GUID}.99999999999999999999"},
        {"name": f"{GUID}.1\0"},
        {"name": ""},
        {"name": 1},
        {"name": f"{GUID}.1", "mode": "0777"},
        {},
    ],
)
def test_names_are_read_strictly(outer, call, put, entry):
    file_id = put(outer.area, b"x")
    answer = call("POST", PUBLISH, json.dumps([{"id": file_id, **entry}]).encode())
    assert answer.status == 400
    assert not outer.ready()


@pytest.mark.parametrize(
    "file_id", ["", ".", "..", "../ready", "/etc/passwd", "0" * 31, "A" * 32, UNKNOWN + "\n", UNKNOWN]
)
def test_ids_are_read_strictly(outer, call, file_id):
    answer = call("POST", PUBLISH, json.dumps([{"id": file_id, "name": f"{GUID}.1"}]).encode())
    assert answer.status == (503 if file_id == UNKNOWN else 400)
    assert not outer.ready()


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"[" * 100_000, b"\xff\xfe", b"[1]", b'[{"id":"a","name":', b"[]x"]
)
def test_nonsense_is_refused(call, body):
    assert call("POST", PUBLISH, body).status == 400


def test_a_list_has_a_bound(call):
    assert call("POST", PUBLISH, b" " * (MAX_LIST_BYTES + 1)).status == 413


@pytest.mark.parametrize("same", ["id", "name"])
def test_nothing_stands_in_a_list_twice(outer, call, name, put, same):
    ids = [put(outer.area, b"x")] * 2 if same == "id" else [put(outer.area, b"x") for _ in range(2)]
    names = [name("a")] * 2 if same == "name" else [name("a"), name("b")]
    body = msgspec.json.encode(
        [{"id": one, "name": str(called)} for one, called in zip(ids, names, strict=True)]
    )
    assert call("POST", PUBLISH, body).status == 400
    assert not outer.ready()


def test_what_was_pushed_is_audited(outer, name, put):
    node = outer.remote()
    node.publish([(name(), put(node, b"x"))])
    assert str(name()) in outer.audited()
    assert outer.pki.dn(outer.stager) in outer.audited()

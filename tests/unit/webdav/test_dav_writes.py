"""PUT, MKCOL, DELETE and MOVE over a directory, asked by our own client."""

import base64
import hashlib
import socket
import zlib

import pytest

from srm_dicom.transfer.davwrites import Writes
from srm_dicom.wire.dav.conditions import entity_tag

DATA = b"sealed" * 100_000
SUM = f"{zlib.adler32(DATA):08x}"


def test_put(write, files):
    status, headers, _ = write("PUT", "/dir/new", DATA)
    assert (status, headers["digest"]) == (201, f"adler32={SUM}")
    assert headers["etag"] == f'"{SUM}-{len(DATA)}"'
    assert (files.root / "dir/new").read_bytes() == DATA
    assert write("GET", "/dir/new")[2] == DATA


def test_put_again_replaces(write, files):
    assert write("PUT", "/file", b"other")[0] == 200
    assert (files.root / "file").read_bytes() == b"other"
    assert write("PUT", "/file", b"third", If_None_Match="*")[0] == 412
    assert (files.root / "file").read_bytes() == b"other"


@pytest.mark.parametrize(
    "sums",
    [
        {"Digest": f"adler32={SUM}"},
        {"Digest": f"ADLER32={SUM.lstrip('0')}, unknown=x"},
        {"Digest": "md5=" + base64.b64encode(hashlib.md5(DATA).digest()).decode()},
        {"Repr_Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"},
        {"Content_Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"},
        {"Content_MD5": base64.b64encode(hashlib.md5(DATA).digest()).decode()},
    ],
)
def test_put_with_a_sum(write, files, sums):
    assert write("PUT", "/dir/new", DATA, **sums)[0] == 201
    assert (files.root / "dir/new").read_bytes() == DATA
    status, _, body = write("PUT", "/file", DATA[1:], **sums)
    assert (status, b"another" in body) == (400, True)
    assert (files.root / "file").stat().st_size == 600_000


def test_every_sum_has_to_match(write, files):
    right = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    for first, second in ((right, wrong), (wrong, right)):
        assert write("PUT", "/dir/new", DATA, Content_MD5=first, Digest=f"md5={second}")[0] == 400
    assert not (files.root / "dir/new").exists()


@pytest.mark.parametrize(("target", "status"), [("/none/new", 404), ("/dir", 409), ("/dir/c", 403)])
def test_put_where_nothing_may_be_put(write, target, status):
    assert write("PUT", target, DATA)[0] == status


@pytest.mark.parametrize("name", ["a+b", "no%20thing", "caf%C3%A9", "x" * 256])
@pytest.mark.parametrize(
    "ask",
    [
        ("PUT", "/dir/{}", ""),
        ("MKCOL", "/dir/{}", ""),
        ("MOVE", "/file", "/dir/{}"),
        ("MOVE", "/none", "/{}"),
    ],
)
def test_who_makes_a_name_that_cannot_be_is_told_the_rule(write, name, ask):
    method, target, destination = (part.format(name) for part in ask)
    status, headers, body = write(
        method, target, b"", **({"Destination": destination} if destination else {})
    )
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert b"[A-Za-z0-9._-]" in body


@pytest.mark.parametrize("method", ["GET", "DELETE", "MOVE"])
def test_who_looks_for_a_name_that_cannot_be_finds_nothing(write, method):
    absent, impossible = (write(method, name, Destination="/x") for name in ("/none", "/a+b"))
    assert (impossible[0], impossible[2]) == (404, absent[2])


@pytest.mark.parametrize("method", ["PUT", "DELETE", "MOVE"])
@pytest.mark.parametrize("tag", ['"deadbeef-1"', "W/{}", '"x", W/{}'])
def test_a_file_that_changed_meanwhile_stays(write, files, content, method, tag):
    wanted = tag.format(entity_tag(f"{zlib.adler32(content):08x}", len(content)))
    assert write(method, "/file", b"", Destination="/moved", If_Match=wanted)[0] == 412
    assert (files.root / "file").read_bytes() == content


@pytest.mark.parametrize(("method", "status"), [("PUT", 200), ("DELETE", 204), ("MOVE", 201)])
@pytest.mark.parametrize("tag", ["*", "{}", '"x", {}'])
def test_a_file_that_did_not_change_meanwhile(write, content, method, status, tag):
    wanted = tag.format(entity_tag(f"{zlib.adler32(content):08x}", len(content)))
    assert write(method, "/file", b"", Destination="/moved", If_Match=wanted)[0] == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "MOVE"])
@pytest.mark.parametrize("target", ["/absent", "/dir/b"])
def test_what_is_not_there_matches_nothing(write, files, method, target):
    assert write(method, target, b"", Destination="/moved", If_Match="*")[0] == 412
    assert not (files.root / "absent").exists()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "MOVE"])
@pytest.mark.parametrize("tag", ["*", "{}", "W/{}"])
def test_not_if_it_is_the_same_still(write, files, content, method, tag):
    wanted = tag.format(entity_tag(f"{zlib.adler32(content):08x}", len(content)))
    assert write(method, "/file", b"", Destination="/moved", If_None_Match=wanted)[0] == 412
    assert (files.root / "file").read_bytes() == content
    assert write(method, "/empty", b"", Destination="/moved", If_None_Match='"x"')[0] < 300


def test_a_directory_has_no_tag(write, files):
    (files.root / "made").mkdir()
    assert write("DELETE", "/made", If_Match='"x"')[0] == 412
    assert write("DELETE", "/made", If_Match="*")[0] == 204


def test_a_part_is_no_file(write):
    assert write("PUT", "/file", b"x", Content_Range="bytes 0-0/10")[0] == 400


def test_what_will_be_refused_is_not_invited(serve, files, alice):
    """A client that waits for 100 Continue gets the refusal instead."""
    server = serve(more=Writes(files, files).handlers)
    with connected(server, alice) as tls:
        tls.sendall(b"PUT /dir/c HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        answer = tls.recv(4096)
        assert answer.startswith(b"HTTP/1.1 403")
        assert b"\r\nconnection: close\r\n" in answer.lower()  # else what it says next might be the body
    with connected(server, alice) as tls:
        tls.sendall(b"PUT /dir/new HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert tls.recv(4096).startswith(b"HTTP/1.1 100")
        tls.sendall(b"data")
        assert tls.recv(4096).startswith(b"HTTP/1.1 201")


@pytest.mark.parametrize(("size_bytes", "closes"), [(1000, False), (1_000_000, True)])
def test_who_is_refused_with_a_body_under_way_hears_that_the_connection_ends(write, size_bytes, closes):
    status, headers, _ = write("PUT", "/none/new", b"x" * size_bytes)
    assert (status, headers.get("connection") == "close") == (404, closes)


def test_half_a_file_is_no_file(serve, files, alice):
    server = serve(more=Writes(files, files).handlers)
    with connected(server, alice) as tls:
        tls.sendall(b"PUT /dir/half HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nonly so much")
    server.stop(5)
    assert not (files.root / "dir/half").exists()


def connected(server, alice):
    sock = socket.create_connection(("localhost", server.port), timeout=10)
    return alice.client_context().wrap_socket(sock, server_hostname="localhost")


def test_mkcol(write, files):
    assert write("MKCOL", "/dir/new")[0] == 201
    assert (files.root / "dir/new").is_dir()
    assert write("MKCOL", "/dir/new")[0] == 405
    assert write("MKCOL", "/file")[0] == 405
    assert write("MKCOL", "/none/new")[0] == 409
    assert write("MKCOL", "/dir/other", b"<x/>")[0] == 415


def test_delete(write, files):
    assert write("DELETE", "/dir")[0] == 409
    assert write("DELETE", "/file")[0] == 204
    assert write("DELETE", "/file")[0] == 404
    assert write("DELETE", "/dir/b")[0] == 404
    (files.root / "empty-dir").mkdir()
    assert write("DELETE", "/empty-dir/")[0] == 204


def test_move(write, files, content):
    assert write("MOVE", "/file", Destination="/dir/moved")[0] == 201
    assert (files.root / "dir/moved").read_bytes() == content
    assert write("MOVE", "/dir/moved", Destination="/dir/a", Overwrite="F")[0] == 412
    assert write("MOVE", "/dir/moved", Destination="/dir/a")[0] == 204
    assert (files.root / "dir/a").read_bytes() == content
    (files.root / "file").write_bytes(content)
    assert write("MOVE", "/file", Destination="/dir/moved")[0] == 201
    assert write("MOVE", "/dir/moved", Destination="https://elsewhere/x")[0] == 502
    assert write("MOVE", "/dir/moved")[0] == 400
    assert write("MOVE", "/dir/moved", Destination="/../x")[0] == 400
    assert write("MOVE", "/none", Destination="/x")[0] == 404

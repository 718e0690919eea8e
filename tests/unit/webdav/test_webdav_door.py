"""The HTTPS/WebDAV door over a directory, asked by our own client."""

import base64
import hashlib
import os
import socket
import ssl
import time
import zlib
from contextlib import closing, suppress

import pytest
from lxml import etree

from srm_dicom import errors
from srm_dicom.client.http import HttpClient
from srm_dicom.rights.declare import declared
from srm_dicom.transfer.copying import Copies, CopySettings
from srm_dicom.transfer.davwrites import Writes
from srm_dicom.transfer.digests import Digests, DigestSettings
from srm_dicom.transfer.opened import OpenFile
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.wire.dav.methods import METHODS

DAV = "{DAV:}"
WRITING = sorted(set(METHODS) - {"OPTIONS", "GET", "HEAD", "PROPFIND"})


def tag(content):
    return f'"{zlib.adler32(content):08x}-{len(content)}"'


# --- GET and HEAD


def test_a_file(ask, content):
    status, headers, body = ask("GET", "/file")
    assert (status, body) == (200, content)
    assert headers["etag"] == tag(content)
    assert headers["accept-ranges"] == "bytes"
    assert headers["content-length"] == str(len(content))


@pytest.mark.parametrize("target", ["//file", "/./file", "/dir/../file", "/%66ile"])
def test_a_file_by_another_spelling(ask, content, target):
    assert ask("GET", target)[2] == content


def test_head_is_get_without_a_body(ask, content):
    status, headers, body = ask("HEAD", "/file")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == str(len(content))
    assert headers["etag"] == tag(content)
    assert headers["last-modified"] == "Thu, 01 Jan 2026 00:00:00 GMT"


def test_an_empty_file(ask):
    status, headers, body = ask("GET", "/empty")
    assert (status, body, headers["content-length"]) == (200, b"", "0")


def test_a_directory_is_a_page_of_what_may_be_seen(ask):
    status, headers, body = ask("GET", "/dir")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'<a href="/dir/a">a</a>' in body
    assert b"/dir/b" not in body
    assert ask("HEAD", "/dir")[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PROPFIND"])
@pytest.mark.parametrize("target", ["/dir/b", "/nothing", "/no%20thing", "/../file", "/dir/a/below"])
def test_hidden_absent_and_impossible_are_one_answer(ask, method, target):
    wanted = ask(method, "/dir/nothing", Depth="0")
    found = ask(method, target, Depth="0")
    assert found[0] == wanted[0] == 404
    assert set(found[1]) == set(wanted[1])
    assert found[2] == wanted[2]


def test_a_file_that_may_be_seen_and_not_read(ask):
    assert ask("GET", "/dir/c")[0] == 403


def test_a_file_that_is_not_staged_says_what_to_do(ask):
    status, headers, body = ask("GET", "/dir/d")
    assert (status, headers["content-type"]) == (503, "application/problem+json")
    assert b"Ask the SRM" in body
    assert ask("HEAD", "/dir/d")[0] == 200


def test_every_file_is_closed(ask, opened, content):
    ask("GET", "/file")
    ask("GET", "/file", Range="bytes=0-9,20-29")
    ask("GET", "/file", Range="bytes=700000-")
    ask("GET", "/file", If_None_Match=tag(content))
    ask("HEAD", "/file", Want_Digest="md5")
    assert len(opened) == 5
    assert [next(file.extents(0, 1)).fd for file in opened] == [-1] * 5


def test_a_file_is_closed_when_its_reader_leaves(serve, alice, files, opened):
    with (files.root / "large").open("wb") as large:
        large.truncate(50_000_000)
    files.checksums = False
    sock = socket.create_connection(("localhost", serve().port), timeout=10)
    with alice.client_context().wrap_socket(sock, server_hostname="localhost") as tls:
        tls.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert tls.recv(12) == b"HTTP/1.1 200"
    until_s = time.monotonic() + 10
    while is_open(next(opened[0].extents(0, 1)).fd) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not is_open(next(opened[0].extents(0, 1)).fd)


def is_open(fd):
    try:
        return os.fstat(fd).st_size == 50_000_000
    except OSError:
        return False


# --- ranges and conditions


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, 600_000),
        ("bytes=-7", 599_993, 600_000),
        ("bytes=9-999999", 9, 600_000),
    ],
)
def test_one_range(ask, content, header, start, end):
    status, headers, body = ask("GET", "/file", Range=header)
    assert (status, body) == (206, content[start:end])
    assert headers["content-range"] == f"bytes {start}-{end - 1}/600000"
    assert headers["content-length"] == str(end - start)


def test_several_ranges(ask, content):
    status, headers, body = ask("GET", "/file", Range="bytes=10-19, 0-4, -3")
    assert status == 206
    assert headers["content-type"] == "multipart/byteranges; boundary=boundary"
    assert headers["content-length"] == str(len(body))
    parts = body.split(b"\r\n--boundary")
    assert parts[0] == b""
    assert parts[4] == b"--\r\n"
    assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:4]] == [
        content[10:20],
        content[:5],
        content[-3:],
    ]
    assert b"Content-Range: bytes 10-19/600000\r\n" in parts[1]


def test_a_range_behind_the_end(ask):
    status, headers, _ = ask("GET", "/file", Range="bytes=600000-")
    assert (status, headers["content-range"]) == (416, "bytes */600000")


def test_ranges_that_ask_for_more_than_there_is_get_the_file_once(ask, content):
    status, _, body = ask("GET", "/file", Range="bytes=" + ",".join(["0-"] * 100))
    assert (status, body) == (200, content)


def test_a_range_counts_while_the_file_is_the_same(ask, content):
    assert ask("GET", "/file", Range="bytes=0-9", If_Range=tag(content))[0] == 206
    assert ask("GET", "/file", Range="bytes=0-9", If_Range='"another"')[0] == 200
    assert ask("GET", "/file", Range="bytes=0-9", If_Range="Thu, 01 Jan 2026 00:00:00 GMT")[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions(ask, content, method):
    assert ask(method, "/file", If_None_Match=tag(content))[0] == 304
    assert ask(method, "/file", If_None_Match=f'"x", W/{tag(content)}')[0] == 304
    assert ask(method, "/file", If_None_Match='"x"')[0] == 200
    assert ask(method, "/file", If_Match='"x"')[0] == 412
    assert ask(method, "/file", If_Match=f'"x", {tag(content)}')[0] == 200
    assert ask(method, "/file", If_Modified_Since="Fri, 01 Jan 2027 00:00:00 GMT")[0] == 200


# --- digests


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_digests(ask, content, method):
    told = {
        name: ask(method, "/file", Want_Digest=name)[1].get("digest")
        for name in ("ADLER32", "MD5", "SHA-256")
    }
    assert told == {
        "ADLER32": f"adler32={zlib.adler32(content):08x}",
        "MD5": f"md5={base64.b64encode(hashlib.md5(content).digest()).decode()}",
        "SHA-256": f"sha-256={base64.b64encode(hashlib.sha256(content).digest()).decode()}",
    }


def test_a_registered_checksum_costs_no_reading(ask, opened):
    assert "digest" in ask("HEAD", "/file", Want_Digest="adler32")[1]
    assert "repr-digest" in ask("HEAD", "/file", Want_Repr_Digest="adler=1")[1]
    assert "digest" in ask("HEAD", "/dir/d", Want_Digest="adler32")[1]
    assert not opened


def test_a_sum_that_is_not_known_is_not_told(ask):
    assert "digest" not in ask("HEAD", "/dir/d", Want_Digest="md5")[1]
    assert "digest" not in ask("HEAD", "/file", Want_Digest="whirlpool")[1]


def test_a_sum_that_is_too_dear_is_not_told(serve, alice):
    server = serve(digests=DigestSettings(max_bytes=10))
    with closing(HttpClient(f"https://localhost:{server.port}", alice)) as client:
        wish = [("Want-Digest", "md5")]
        assert client.request("HEAD", "/dir/a", headers=wish).header("digest")
        assert not client.request("HEAD", "/file", headers=wish).header("digest")


def test_one_identity_computes_half_of_the_sums():
    digests = Digests(DigestSettings(at_once=2, wait_s=0.01))
    wish = {"Want-Digest": "md5"}.get

    def opening():
        return OpenFile.in_memory(b"x")

    with digests._turn("/CN=Alice"):
        with pytest.raises(errors.Overloaded):
            digests.headers("/CN=Alice", wish, None, opening)
        assert digests.headers("/CN=Bob", wish, None, opening)
    assert digests.headers("/CN=Alice", wish, None, opening)


def test_the_digest_of_a_file_that_may_not_be_read(ask):
    assert ask("HEAD", "/dir/c", Want_Digest="md5")[0] == 403


# --- PROPFIND


def properties(body):
    found = {}
    for response in etree.fromstring(body).findall(DAV + "response"):
        stat = response.find(DAV + "propstat")
        assert stat.findtext(DAV + "status") == "HTTP/1.1 200 OK"
        found[response.findtext(DAV + "href")] = {one.tag: one for one in stat.find(DAV + "prop")}
    return found


def test_properties_of_a_file(ask, content):
    status, headers, body = ask("PROPFIND", "/file", Depth="0")
    assert (status, headers["content-type"]) == (207, "application/xml; charset=utf-8")
    told = properties(body)["/file"]
    assert told[DAV + "getcontentlength"].text == "600000"
    assert told[DAV + "displayname"].text == "file"
    assert told[DAV + "getetag"].text == tag(content)
    assert told[DAV + "getlastmodified"].text == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert len(told[DAV + "resourcetype"]) == 0
    assert told["{http://www.dcache.org/2013/webdav}Checksums"].text == f"adler32={zlib.adler32(content):08x}"


def test_properties_of_a_directory_and_what_may_be_seen_in_it(ask):
    told = properties(ask("PROPFIND", "/dir/", Depth="1")[2])
    assert set(told) == {"/dir/", "/dir/a", "/dir/c", "/dir/d"}
    assert told["/dir/"][DAV + "resourcetype"][0].tag == DAV + "collection"
    locality = "{http://srm.lbl.gov/StorageResourceManager}FileLocality"
    assert told["/dir/a"][locality].text == "ONLINE_AND_NEARLINE"
    assert told["/dir/d"][locality].text == "NEARLINE"
    assert set(properties(ask("PROPFIND", "/dir", Depth="0")[2])) == {"/dir/"}


def test_named_properties(ask):
    wish = b'<a:propfind xmlns:a="DAV:"><a:prop><a:getetag/><x xmlns="u:&amp;y"/><z/></a:prop></a:propfind>'
    response = etree.fromstring(ask("PROPFIND", "/file", wish, Depth="0")[2]).find(DAV + "response")
    told = {
        stat.findtext(DAV + "status"): [one.tag for one in stat.find(DAV + "prop")]
        for stat in response.findall(DAV + "propstat")
    }
    assert told == {"HTTP/1.1 200 OK": [DAV + "getetag"], "HTTP/1.1 404 Not Found": ["{u:&y}x", "z"]}


def test_names_of_properties(ask):
    wish = b'<a:propfind xmlns:a="DAV:"><a:propname/></a:propfind>'
    told = properties(ask("PROPFIND", "/dir", wish, Depth="1")[2])
    assert set(told) == {"/dir/", "/dir/a", "/dir/c", "/dir/d"}
    assert DAV + "getcontentlength" in told["/dir/a"]
    assert DAV + "getcontentlength" not in told["/dir/"]
    assert all(one.text is None and len(one) == 0 for entry in told.values() for one in entry.values())
    everything = properties(ask("PROPFIND", "/dir", wish.replace(b"propname", b"allprop"), Depth="1")[2])
    assert {key: set(value) for key, value in told.items()} == {k: set(v) for k, v in everything.items()}
    assert everything["/dir/a"][DAV + "displayname"].text == "a"


@pytest.mark.parametrize("depth", [{}, {"Depth": "infinity"}, {"Depth": "2"}])
def test_infinite_depth_is_refused(ask, depth):
    status, _, body = ask("PROPFIND", "/dir", **depth)
    assert status == 403
    assert b"propfind-finite-depth" in body


@pytest.mark.parametrize(
    "body", [b"<propfind", b"<propfind/>", b"\0", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"]
)
def test_a_body_that_is_no_propfind(ask, body):
    assert ask("PROPFIND", "/dir", body, Depth="0")[0] == 400


def test_a_body_that_is_too_large(ask):
    assert ask("PROPFIND", "/dir", b" " * 70_000, Depth="0")[0] == 413


# --- methods


def test_options(ask):
    status, headers, _ = ask("OPTIONS", "/nothing")
    assert (status, headers["dav"], headers["allow"]) == (200, "1", "OPTIONS, GET, HEAD, PROPFIND")


def test_options_of_the_server_as_a_whole(ask):
    status, headers, _ = ask("OPTIONS", "*")
    assert (status, headers["allow"]) == (200, "OPTIONS, GET, HEAD, PROPFIND")
    assert ask("GET", "*")[0] == 404


@pytest.mark.parametrize("method", WRITING)
@pytest.mark.parametrize("target", ["/file", "/nothing"])
def test_writing_is_not_for_this_door(ask, method, target):
    status, headers, _ = ask(method, target)
    assert (status, headers["allow"]) == (405, "OPTIONS, GET, HEAD, PROPFIND")


def test_an_unknown_method(ask):
    assert ask("BREW", "/file")[0] == 501


def test_every_method_declares_the_right_of_the_table(files):
    copies = Copies(files, None, None, CopySettings("https://here", None), None)
    door = WebDavDoor(files, more={**Writes(files, files).handlers, **copies.handlers})
    assert set(door.handlers) == {name for name, method in METHODS.items() if method.done}
    for name, handler in door.handlers.items():
        assert declared(handler) is METHODS[name].right


# --- who may enter


def test_no_certificate_no_answer(serve, pki):
    context = ssl.create_default_context(capath=pki.trust_dir)
    sock = socket.create_connection(("localhost", serve().port), timeout=5)
    with suppress(OSError), context.wrap_socket(sock, server_hostname="localhost") as tls:
        tls.sendall(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert tls.recv(12) in (b"", b"HTTP/1.1 401")


def test_a_revoked_certificate(serve, pki):
    mallory = pki.user("Mallory")
    server = serve()
    pki.revoke(mallory)
    client = HttpClient(f"https://localhost:{server.port}", mallory)
    with closing(client), pytest.raises(errors.MdmError):
        client.request("GET", "/file")

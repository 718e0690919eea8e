"""The methods of the HTTPS door as a table: what each needs, and what the standard says of it.

The compliance page is this table; a test holds the door's handlers to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from srm_dicom.rights.declare import Declaration, OpenAccess, Right


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    Attributes:
        clause: of which standard.
        right: what the door checks for it.
        how: what we do, for the compliance page.
        done: False when the method is known and refused (405).
        since: version of this server.
    """

    name: str
    clause: str
    right: Declaration
    how: str
    done: bool = True
    since: str = "0.1"


def _refused(name: str, clause: str, how: str) -> Method:
    return Method(name, clause, OpenAccess("refused whatever the name"), how, done=False)


_METHODS = (
    Method("OPTIONS", "RFC 9110, 9.3.7", OpenAccess("touches no object"), "Allow and DAV: 1"),
    Method(
        "GET", "RFC 9110, 9.3.1", Right.FILE_READ, "a file or ranges of it, staged if need be; directories"
    ),
    Method("HEAD", "RFC 9110, 9.3.2", Right.FILE_LIST, "as GET; size and adler32 from the namespace"),
    Method("PROPFIND", "RFC 4918, 9.1", Right.FILE_LIST, "depth 0 and 1; only what the caller may see"),
    _refused("POST", "RFC 9110, 9.3.3", "gfal2 asks for a token first and goes on without one"),
    Method(
        "PUT",
        "RFC 9110, 9.3.4",
        Right.FILE_WRITE,
        "a whole file, when all of it is here, or nothing; 200 when it replaced one",
    ),
    Method(
        "DELETE",
        "RFC 9110, 9.3.5",
        Right.FILE_WRITE,
        "a file, what is begun under its name, or an empty directory",
    ),
    Method("MKCOL", "RFC 4918, 9.3", Right.FILE_WRITE, "one directory"),
    Method(
        "MOVE",
        "RFC 4918, 9.9",
        Right.FILE_WRITE,
        "a file takes the place of another (204) but for `Overwrite: F`; no directory does",
    ),
    Method(
        "COPY",
        "WLCG HTTP-TPC",
        Right.FILE_READ,
        "to another name here; third-party: push, or pull (`file:w`); listed hosts",
    ),
    _refused("PROPPATCH", "RFC 4918, 9.2", "properties are facts"),
    _refused("LOCK", "RFC 4918, 9.10", "nothing can be written"),
    _refused("UNLOCK", "RFC 4918, 9.11", "nothing can be written"),
)

METHODS: Mapping[str, Method] = {method.name: method for method in _METHODS}


@dataclass(frozen=True, slots=True)
class Header:
    """A header that the door understands or sends."""

    name: str
    clause: str
    how: str


HEADERS = (
    Header("Range", "RFC 9110, 14.2", "bytes: one range, or up to 256 as multipart/byteranges"),
    Header("If-Range", "RFC 9110, 13.1.5", "by ETag; a date is never met"),
    Header("If-Match", "RFC 9110, 13.1.1", "by ETag; kept by what changes the name too"),
    Header("If-None-Match", "RFC 9110, 13.1.2", "by ETag; kept by what changes the name too"),
    Header("ETag", "RFC 9110, 8.8.3", "strong, of adler32 and size"),
    Header("Last-Modified", "RFC 9110, 8.8.2", "of HEAD; as coarse as the site's constant"),
    Header("Want-Digest, Digest", "RFC 3230", "adler32 as registered; md5 and sha-256 summed on request"),
    Header("Want-Repr-Digest, Repr-Digest", "RFC 9530", "adler, md5, sha-256"),
    Header(
        "Digest, Repr-Digest, Content-Digest, Content-MD5",
        "of PUT",
        "compared with what came; the file appears only if it is the same",
    ),
    Header("Expect", "RFC 9110, 10.1.1", "100-continue: sent when the body is wanted"),
    Header("Prefer", "RFC 7240", "`wait=N` and `respond-async`, while a file is being staged"),
    Header("Retry-After", "RFC 9110, 10.2.3", "with 202 and 503: when to ask again"),
    Header("Overwrite", "RFC 4918, 10.6", "F is kept; T, the default, replaces a file, never a directory"),
    Header("Depth", "RFC 4918, 10.2", "0 and 1; infinity is refused"),
)

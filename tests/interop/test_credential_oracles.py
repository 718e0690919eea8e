"""The table of credentials before two other judges: the Globus server and the VOMS library.

They need not agree with us. Where they do not, the reason stands here; a difference that nobody has explained
fails. Cases about the lists of our own site or about what a file holds are not put to them.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from srm_dicom.client.ftp_session import Session, Timeouts, Turl
from srm_dicom.errors import MdmError
from srm_dicom.identity.credential import Credential
from srm_dicom.testing.cases import CASES, Workshop

SERVER = "/usr/sbin/globus-gridftp-server"

GLOBUS_LETS_IN = {
    "gives names out escaped; whoever reads them has to beware": "name: (proxy of a )?slash injection"
    "|name: (NUL|newline|tab|DEL|C1|backslash|line sep|direction|Latin-1 in a Tele)|name: very long",
    "gives out names of several values with a plus": "name: (proxy of a )?multi-valued",
    "minds the old names of proxies in small letters only": "name: end entity named Limited Proxy",
    "compares names without regard to case": "in another case",
    "lets clients without a certificate pass, as anonymous": "path: P-224",
    "does not look at usages": "path: (proxy of a certificate )?for (servers|mail|anything|encipherment)"
    "|site: (Netscape's type for servers|non-repudiation only)",
    "reads what is not quite DER": "path: extension that is not DER|proxy: proxyCertInfo goes on",
    "does not read namespaces": "path: .*namespaces",
    "reads one list, and does without": (
        "crl: (revoked in a second|no CRL|empty CRL|subordinate authority without)"
    ),
    "does not look at what a list is about": "crl: .*(indirect|CRL of|CRL for|delta|CRL with an unknown)",
    "leaves policies to the application": "proxy: (unknown policy language|any language)$|full below an unk",
    "names the proxy, not its user": "proxy: .*independent",
    "takes a negative length for none": "proxy: negative path length",
    "knows no depth": "proxy: (eleven|twenty)",
    "takes GSI-3 proxies": "proxy: draft",
}
"""Reasons, and the titles of cases that we refuse and Globus does not."""

GLOBUS_REFUSES = {
    "does not know that Email is emailAddress": "name: old spelling in the sign|site: old spell",
    "reads one certificate of an authority": "site: user of the authority's new key",
    "reads the policy under an authority's own hash only": "site: policy of a subordinate in its root's file",
    "takes a byte order mark for a word": "site: policy with a byte order mark",
    "does not take critical policies of certificates": "site: everything that authorities write",
    "counts path lengths with fewer bits": "proxy: path length of 31 bits",
    "compares names with the types of their strings": "name: issuer as BMPString",
    "does not take name constraints": "path: inside the name constraints",
    "knows one wildcard only": "path: policy of several patterns",
    "takes no full proxy below a limited one; here it inherits the limit": "proxy: full below limited",
}
"""Reasons, and the titles of cases that we take and Globus does not."""

VOMS_DIFFERS = {
    "looks at proxies only": "in the user's certificate",
    "drops all for one that is bad": "one bad of two",
    "does not read targets in the form of RFC 5755, or by another host name": "for this host",
    "looks for a list by the host in the URI": "server (below|for signing only)|authority of the server not",
    "takes a comment for a name": "list with a comment",
    "takes the last of two extensions": "extension twice",
    "wants a port": "server without a port",
    "drops a second one of the same organisation": "twice the same organisation",
    "does not read groups": "group (with|of other)|role before group|too many groups",
    "takes weak hashes": "SHA-1",
    "dies of it": "no server certificate",
}
"""Reasons, and the titles of cases of which the VOMS library thinks otherwise."""


# Of EC signatures on attribute certificates libvomsapi 2.1 takes any: these are put to it with RSA keys.
VOMS_NEEDS_RSA = {"voms: tampered", "voms: outer algorithm is another", "voms: revoked server"}


def unexplained(title: str, reasons: dict[str, str]) -> bool:
    return not any(re.search(titles, title) for titles in reasons.values())


def globus_says(shop: Workshop, credential: Credential) -> bool:
    """Log in to a server that has no grid-mapfile: it says whether the credential was the trouble."""
    (shop.directory / "gridmap").write_text("")
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/bin",
        "HOME": str(shop.directory),
        "X509_CERT_DIR": str(shop.trust_dir),
        "X509_USER_CERT": str(shop.pki.host().certificate),
        "X509_USER_KEY": str(shop.pki.host().key),
        "GRIDMAP": str(shop.directory / "gridmap"),
    }
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    servers: list[subprocess.Popen[bytes]] = []

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as accepted:
            quiet = subprocess.DEVNULL
            command = [SERVER, "-i", "-allow-root", "-log-level", "NONE"]
            servers.append(
                subprocess.Popen(command, stdin=accepted, stdout=quiet, stderr=quiet, env=environment)
            )

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        Session(Turl("localhost", listener.getsockname()[1], "/"), credential, Timeouts(5, 5, 5))
    except MdmError as error:
        return "Gridmap lookup failure" in error.message
    finally:
        listener.close()
        thread.join(10)
        for server in servers:
            server.kill()
            server.wait()
    return True


THEIRS = [title for title in CASES if not title.startswith(("voms: ", "file: "))]


@pytest.mark.interop("globus-gridftp-server")
@pytest.mark.parametrize("title", THEIRS)
def test_globus(tmp_path: Path, title: str) -> None:
    case, shop = CASES[title], Workshop.at(tmp_path)
    let_in = globus_says(shop, case.make(shop))
    if let_in and not case.accepted:
        assert not unexplained(title, GLOBUS_LETS_IN), "Globus lets it in"
    if case.accepted and not let_in:
        assert not unexplained(title, GLOBUS_REFUSES), "Globus refuses it"


# --- VOMS --------------------------------------------------------------------------------------------


class _Voms(ctypes.Structure):
    _fields_ = [
        ("signature_bytes", ctypes.c_int),
        *((f"text{number}", ctypes.c_void_p) for number in range(9)),
        ("kind", ctypes.c_int),
        ("standard", ctypes.c_void_p),
        ("custom", ctypes.c_void_p),
        ("custom_bytes", ctypes.c_int),
        ("version", ctypes.c_int),
        ("fqans", ctypes.POINTER(ctypes.c_char_p)),
    ]


class _Data(ctypes.Structure):
    _fields_ = [
        ("trust_dir", ctypes.c_char_p),
        ("vomsdir", ctypes.c_char_p),
        ("found", ctypes.POINTER(ctypes.POINTER(_Voms))),
    ]


def read_groups(proxy: str, vomsdir: str, trust_dir: str) -> list[bytes]:
    """Ask libvomsapi, with full verification; it may take the process down."""
    library, libc, error = ctypes.CDLL("libvomsapi.so.1"), ctypes.CDLL(None), ctypes.c_int(0)
    library.VOMS_Init.restype = ctypes.POINTER(_Data)
    libc.fopen.restype = ctypes.c_void_p
    data = library.VOMS_Init(vomsdir.encode(), trust_dir.encode())
    library.VOMS_SetVerificationType(-1, data, ctypes.byref(error))
    file = ctypes.c_void_p(libc.fopen(proxy.encode(), b"r"))
    if not library.VOMS_RetrieveFromFile(file, 0, data, ctypes.byref(error)):
        return []
    groups: list[bytes] = []
    number = 0
    while data.contents.found and data.contents.found[number]:
        fqans, place = data.contents.found[number].contents.fqans, 0
        while fqans and fqans[place]:
            groups.append(fqans[place])
            place += 1
        number += 1
    return groups


@pytest.mark.interop("voms-proxy-info")
@pytest.mark.parametrize("title", [title for title in CASES if title.startswith("voms: ")])
def test_voms_library(tmp_path: Path, title: str) -> None:
    case, shop = CASES[title], Workshop.at(tmp_path, fast=title not in VOMS_NEEDS_RSA)
    proxy = case.make(shop).certificate
    command = [sys.executable, __file__, str(proxy), str(shop.vo.vomsdir), str(shop.trust_dir)]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    found = done.stdout.split(b"\0")[:-1]
    plain = tuple(re.sub(rb"/Role=NULL|/Capability=NULL", b"", group) for group in found)
    if done.returncode != 0 or plain != tuple(group.encode() for group in case.fqans):
        assert not unexplained(title, VOMS_DIFFERS), (done.returncode, plain, done.stderr[-500:])


if __name__ == "__main__":
    for group in read_groups(*sys.argv[1:]):
        sys.stdout.buffer.write(group + b"\0")

"""Real PACS on loopback for tests: Orthanc and dcmtk's dcmqrscp, started in a throw-away directory.

They have the face of `PacsSimulator`: `port`, `ae_title`, `add`, `remove`, `stop`. Destinations are
given at the start, because both read them from a file. Both programs come from Debian (`orthanc`,
`dcmtk`); pynetdicom's scripts of the same names must not be found, hence the fixed PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from pydicom.dataset import FileDataset

from srm_dicom.testing.images import save
from srm_dicom.testing.ports import free_port

SYSTEM_PATH = "/usr/bin:/usr/sbin:/bin:/sbin"
START_S = 30.0
ORTHANC_PLUGINS = "/usr/share/orthanc/plugins"


def program(name: str) -> str:
    """Return the path of a Debian program.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        raise FileNotFoundError(name)
    return found


def storescu(
    paths: Sequence[Path],
    port: int,
    *,
    called: str,
    calling: str,
    options: Sequence[str] = (),
    no_delay: bool = False,
) -> None:
    """Send files with dcmtk's storescu, which has Nagle's algorithm on unless `no_delay`.

    Raises:
        subprocess.CalledProcessError: the association or an object was refused.
    """
    command = [program("storescu"), "-aet", calling, "-aec", called, *options, "127.0.0.1", str(port)]
    environment = {"PATH": SYSTEM_PATH} | ({"TCP_NODELAY": "1"} if no_delay else {})
    subprocess.run(
        [*command, *map(str, paths)], check=True, timeout=120, capture_output=True, env=environment
    )


@dataclass(frozen=True, slots=True)
class ArchiveTls:
    """PEM files of a PACS that speaks over TLS, to peers with certificates of `authorities` only."""

    certificate: Path
    key: Path
    authorities: Path


class _Archive:
    """A PACS that is a process."""

    ae_title = "PACS"

    def __init__(
        self, directory: Path, destinations: Mapping[str, int], *, tls: ArchiveTls | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._tls = tls
        self.port = free_port()
        self._directory = directory
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command(destinations),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": SYSTEM_PATH},
                start_new_session=True,
            )
        self._wait()

    def _command(self, destinations: Mapping[str, int]) -> list[str]:
        raise NotImplementedError

    def _ports(self) -> Sequence[int]:
        return (self.port,)

    def _wait(self) -> None:
        for port in self._ports():
            self._wait_for(port)

    def _wait_for(self, port: int) -> None:
        end_s = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                if time.monotonic() > end_s or self._process.poll() is not None:
                    self.stop()
                    raise
                time.sleep(0.05)
            else:
                return

    @property
    def pid(self) -> int:
        """Id of its process, for those who let it stand still."""
        return self._process.pid

    def stop(self) -> None:
        """End it at once: from outside, the PACS is down, and its files are thrown away.

        dcmqrscp has a process for each association, and one that is kept would be served on.
        """
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)


class Orthanc(_Archive):
    """Orthanc, never transcoding; `destinations` are AE titles with their ports on this host.

    With Debian's `orthanc-dicomweb` it speaks DICOMweb at `web_url`.
    """

    def _command(self, destinations: Mapping[str, int]) -> list[str]:
        self._http_port = http_port = free_port()
        self._http = f"http://127.0.0.1:{http_port}"
        self.web_url = f"{self._http}/dicom-web"
        permissions = ("AllowEcho", "AllowFind", "AllowMove", "AllowGet", "AllowStore")
        configuration: dict[str, Any] = {
            "Name": "PACS",
            "StorageDirectory": "db",
            "IndexDirectory": "db",
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "KeepAlive": True,
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": True,
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowFind": False,
            "DicomAlwaysAllowGet": False,
            "DicomAlwaysAllowMove": False,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "TranscodeDicomProtocol": False,
            "DicomModalities": {
                title: {"AET": title, "Host": "127.0.0.1", "Port": port, "AllowTranscoding": False}
                | {"UseDicomTls": self._tls is not None}
                | dict.fromkeys(permissions, True)
                for title, port in destinations.items()
            },
            "Plugins": [ORTHANC_PLUGINS] if Path(ORTHANC_PLUGINS, "libOrthancDicomWeb.so").exists() else [],
        }
        if self._tls is not None:
            configuration |= {
                "DicomTlsEnabled": True,
                "DicomTlsCertificate": str(self._tls.certificate),
                "DicomTlsPrivateKey": str(self._tls.key),
                "DicomTlsTrustedCertificates": str(self._tls.authorities),
                "DicomTlsRemoteCertificateRequired": True,
            }
        path = self._directory / "orthanc.json"
        path.write_text(json.dumps(configuration), encoding="utf-8")
        return [program("Orthanc"), str(path)]

    def _ports(self) -> Sequence[int]:
        return self.port, self._http_port

    def add(self, datasets: Iterable[FileDataset]) -> None:
        """Give it objects, by its REST interface."""
        for dataset in datasets:
            whole = BytesIO()
            dataset.save_as(whole, enforce_file_format=True)
            self._call("POST", "/instances", whole.getvalue())

    def add_file(self, data: bytes) -> bool:
        """Give it a file as it is; tells whether it took it."""
        try:
            self._call("POST", "/instances", data)
        except HTTPError:
            return False
        return True

    def clear(self) -> None:
        """Let it lose everything."""
        for study in self._call("GET", "/studies"):
            self._call("DELETE", f"/studies/{study}")

    def remove(self, instance: str) -> None:
        """Let it lose an object."""
        for found in self._call("POST", "/tools/lookup", instance.encode()):
            self._call("DELETE", f"/instances/{found['ID']}")

    def file(self, instance: str) -> bytes | None:
        """Return an object that it has, as a file; None if it has not."""
        for found in self._call("POST", "/tools/lookup", instance.encode()):
            with urlopen(f"{self._http}/instances/{found['ID']}/file", timeout=30) as response:
                return bytes(response.read())
        return None

    def count(self) -> int:
        """Return how many objects it has."""
        return len(self._call("GET", "/instances"))

    def _call(self, method: str, target: str, body: bytes | None = None) -> Any:
        request = Request(self._http + target, data=body, method=method)
        with urlopen(request, timeout=30) as response:
            return json.load(response)


_LOADER = "LOADER"


class Dcmqrscp(_Archive):
    """dcmtk's dcmqrscp, which answers the destinations only.

    It wants host names, not addresses, in its table of peers. Debian's (3.6.7) has no TLS.
    """

    def _command(self, destinations: Mapping[str, int]) -> list[str]:
        (self._directory / "db").mkdir()
        hosts = [
            f"host{number} = ({title}, localhost, {port})"
            for number, (title, port) in enumerate([*destinations.items(), (_LOADER, 104)])
        ]
        lines = [
            f"NetworkTCPPort = {self.port}",
            "MaxPDUSize = 131072",
            "MaxAssociations = 16",
            "HostTable BEGIN",
            *hosts,
            "HostTable END",
            "VendorTable BEGIN",
            "VendorTable END",
            "AETable BEGIN",
            f"{self.ae_title} db RW (5000, 1gb) {', '.join(host.split()[0] for host in hosts)}",
            "AETable END",
        ]
        path = self._directory / "dcmqrscp.cfg"
        path.write_text("\n".join(lines) + "\n", encoding="ascii")
        return [program("dcmqrscp"), "-c", str(path), "--prefer-lossless", str(self.port)]

    def add(self, datasets: Iterable[FileDataset]) -> None:
        """Give it objects, by storescu."""
        paths = save(datasets, self._directory / f"in{time.monotonic_ns()}")
        storescu(paths, self.port, called=self.ae_title, calling=_LOADER, options=["-xe"], no_delay=True)

    def remove(self, instance: str) -> None:
        """Let it lose an object, which its index goes on telling of."""
        for path in (self._directory / "db").glob("*.dcm"):
            if instance.encode() in path.read_bytes():
                path.unlink()

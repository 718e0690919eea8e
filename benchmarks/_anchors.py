"""What people have today for the way from an archive to ciphertext, put together from existing programs."""

import http.client
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import FileDataset

from benchmarks._clients import seconds_of
from benchmarks._figures import ANCHOR, DCMTK_ANCHOR, NAIVE_ANCHOR
from srm_dicom.testing.archives import SYSTEM_PATH, Dcmqrscp, Orthanc, program
from srm_dicom.testing.ports import free_port

DCMTK = {"PATH": SYSTEM_PATH, "TCP_NODELAY": "1"}
LIMIT_S = 600


class Anchors:
    """Ways of an archive's images, each timed from asking to the last file that `age` has sealed.

    Args:
        directory: for what they write.
        images: what the archive has, by the name of its series.
        archive: where they are.
        ports: what the archive calls STORESCP and NAIVE.
    """

    def __init__(
        self,
        directory: Path,
        images: Mapping[str, list[FileDataset]],
        archive: Orthanc | Dcmqrscp,
        ports: Mapping[str, int],
    ) -> None:
        self._directory = directory
        self._images = images
        self._archive = archive
        self._ports = ports

    @staticmethod
    def new_ports() -> dict[str, int]:
        """Return where what they receive with will listen."""
        return {"STORESCP": free_port(), "NAIVE": free_port()}

    def ways(self) -> dict[str, Callable[[str], float]]:
        """Return those whose programs are here."""
        if not shutil.which("age", path=SYSTEM_PATH):
            return {}
        ways: dict[str, Callable[[str], float]] = {}
        if isinstance(self._archive, Orthanc):
            ways[ANCHOR] = self.rest
        if _anonymizer():
            ways[DCMTK_ANCHOR] = self.dcmtk
        return ways | {NAIVE_ANCHOR: self.naive}

    def rest(self, name: str) -> float:
        """Return the seconds of Orthanc's own anonymisation, REST and age."""
        clear, sealed = self._fresh("clear"), self._fresh("sealed")
        host = self._archive._http.removeprefix("http://")
        rest = http.client.HTTPConnection(host, timeout=120)
        study = _rest(rest, "POST", "/tools/lookup", self._images[name][0].StudyInstanceUID.encode())
        found = next(one["ID"] for one in study if one["Type"] == "Study")
        started_s = time.monotonic()
        new = _rest(rest, "POST", f"/studies/{found}/anonymize", b'{"Synchronous":true}')["ID"]
        for number, instance in enumerate(_rest(rest, "GET", f"/studies/{new}/instances")):
            rest.request("GET", f"/instances/{instance['ID']}/file", headers={"Accept-Encoding": "identity"})
            (clear / f"{number}.dcm").write_bytes(rest.getresponse().read())
        took_s = self._sealed(name, clear, sealed, started_s)
        rest.close()  # Orthanc has closed its end while age was at work
        _rest(rest, "DELETE", f"/studies/{new}")
        return took_s

    def dcmtk(self, name: str) -> float:
        """Return the seconds of movescu to storescp, dicom-anonymizer and age."""
        came, clear, sealed = self._fresh("came"), self._fresh("clear"), self._fresh("sealed")
        started_s = time.monotonic()
        with self._storescp(came):
            self._movescu(name, "SERIES")
        subprocess.run([_anonymizer() or "", came, clear], check=True, capture_output=True)
        return self._sealed(name, clear, sealed, started_s)

    def naive(self, name: str) -> float:
        """Return the seconds of a script of pynetdicom and pydicom, and age."""
        clear, sealed = self._fresh("clear"), self._fresh("sealed")
        first = self._images[name][0]
        ports = (str(self._ports["NAIVE"]), str(self._archive.port))
        started_s = time.monotonic()
        script = [sys.executable, "-m", "benchmarks._naive", *ports]
        subprocess.run([*script, first.StudyInstanceUID, first.SeriesInstanceUID, clear], check=True)
        return self._sealed(name, clear, sealed, started_s)

    def move_of_one(self, name: str) -> float:
        """Return the seconds of movescu of one image, to a storescp that is there already."""
        with self._storescp(self._fresh("came")):
            return self._movescu(name, "IMAGE")

    @contextmanager
    def _storescp(self, came: Path) -> Iterator[None]:
        receive = [program("storescp"), "-aet", "STORESCP", "+xa", "-od", came, self._ports["STORESCP"]]
        with subprocess.Popen(list(map(str, receive)), env=DCMTK) as storescp:
            time.sleep(0.1)
            yield
            storescp.terminate()

    def _movescu(self, name: str, level: str) -> float:
        first = self._images[name][0]
        keys = [f"QueryRetrieveLevel={level}", f"StudyInstanceUID={first.StudyInstanceUID}"]
        keys.append(f"SeriesInstanceUID={first.SeriesInstanceUID}")
        if level == "IMAGE":
            keys.append(f"SOPInstanceUID={first.SOPInstanceUID}")
        command = [program("movescu"), "-S", "-aet", "STORESCP", "-aem", "STORESCP", "-aec", "PACS"]
        command += [word for key in keys for word in ("-k", key)]
        return seconds_of([*command, "127.0.0.1", str(self._archive.port)], DCMTK, LIMIT_S)

    def _sealed(self, name: str, clear: Path, sealed: Path, started_s: float) -> float:
        recipient = self._age_recipient()
        command = f"ls {clear} | xargs -P2 -I{{}} age -r {recipient} -o {sealed}/{{}}.age {clear}/{{}}"
        subprocess.run(["/bin/sh", "-c", command], check=True, env={"PATH": SYSTEM_PATH})
        took_s = time.monotonic() - started_s
        assert len(list(sealed.iterdir())) == len(self._images[name])
        return took_s

    def _age_recipient(self) -> str:
        key = self._directory / "age.key"
        if not key.exists():
            subprocess.run([program("age-keygen"), "-o", key], check=True, capture_output=True)
        return subprocess.run(
            [program("age-keygen"), "-y", key], check=True, capture_output=True, text=True
        ).stdout.strip()

    def _fresh(self, name: str) -> Path:
        return fresh(self._directory / name)


def fresh(directory: Path) -> Path:
    """Make a directory with nothing in it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory


def _rest(connection: http.client.HTTPConnection, method: str, target: str, body: bytes | None = None):
    connection.request(method, target, body)
    return json.loads(connection.getresponse().read() or b"null")


def _anonymizer() -> str | None:
    """Return where dicom-anonymizer is, beside this interpreter or on the path."""
    beside = Path(sys.executable).parent / "dicom-anonymizer"
    return str(beside) if beside.exists() else shutil.which("dicom-anonymizer")

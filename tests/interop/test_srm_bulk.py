"""Many files in one call: brought online, looked at, given back; by gfal2, and a thousand by zeep."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from srm_dicom.ids import Guid, SitePath, parse_path
from srm_dicom.store.namespace import Kind
from srm_dicom.testing.conformance import callers
from srm_dicom.testing.element import ROOT, StorageElement
from srm_dicom.testing.verbs.requests import WAITING

FEW, MANY = 30, 1000
"""gfal2 2.21 spends a tenth of a second of its own on each name of such a call, so it gets few."""

PYTHON = "/usr/bin/python3"
PROGRAM = """
import sys, time, gfal2

surls = [line.strip() for line in sys.stdin]
options = gfal2.creat_context()
options.set_opt_boolean("BDII", "ENABLED", False)
errors, token = options.bring_online(surls, 600, 300, True)
begun = [error for error in errors if error]
until = time.time() + 90
while time.time() < until:
    polled = options.bring_online_poll(surls, token)
    waiting = [error for error in polled if error and error.code == 11]
    if not waiting:
        break
    time.sleep(0.5)
failed = [error for error in polled if error]
released = options.release(surls, token)
again = options.release(surls[:1], token)
print(len(begun), len(failed), len([error for error in released if error]), len(released))
"""


@pytest.fixture
def element(tmp_path: Path) -> Iterator[StorageElement]:
    made = StorageElement(tmp_path / "se")
    made.start()
    yield made
    made.stop()


def registered(element: StorageElement, count: int) -> list[str]:
    """Put files on the disk and their names into the namespace, as registration does: nothing is staged."""
    namespace = element.stores.namespace
    top = namespace.find(parse_path(ROOT))
    assert top is not None
    (element.root / "bulk").mkdir()
    with element.stores.database.transaction():
        for number in range(count):
            (element.root / "bulk" / f"{number}.dat").write_bytes(os.urandom(50))
            path, guid = SitePath(f"{ROOT}/{number}.dat"), Guid(str(uuid.uuid4()))
            ref = f"bulk/{number}.dat".encode()
            namespace.add_file(
                replace(top, path=path, kind=Kind.FILE, guid=guid, plugin="disk", plugin_ref=ref)
            )
    return [element.surl(f"{number}.dat") for number in range(count)]


@pytest.mark.interop("gfal-bringonline")  # comes with python3-gfal2
def test_gfal2_brings_files_online_and_gives_them_back(element: StorageElement, tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **element.pki.environment(element.alice)}
    done = subprocess.run(
        [PYTHON, "-c", PROGRAM],
        input="\n".join(registered(element, FEW)),
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["0", "0", "0", str(FEW)], done.stdout + done.stderr
    (request,) = element.stores.requests.of_owner(element.pki.dn(element.alice), None, 10)
    assert {state.name for state in element.stores.requests.states(request.token)} == {"RELEASED"}


def test_a_thousand_files_are_brought_online_and_given_back(element: StorageElement, tmp_path: Path) -> None:
    surls = registered(element, MANY)
    alice = callers(element, tmp_path)["alice"]
    files = [{"sourceSURL": surl} for surl in surls]
    begun = alice.service.srmBringOnline({"arrayOfFileRequests": {"requestArray": files}})
    told, until_s = begun, time.monotonic() + 90
    while told.returnStatus.statusCode in WAITING and time.monotonic() < until_s:
        time.sleep(0.5)
        told = alice.service.srmStatusOfBringOnlineRequest({"requestToken": begun.requestToken})
    assert told.returnStatus.statusCode == "SRM_SUCCESS"
    statuses = told.arrayOfFileStatuses.statusArray
    assert [file.sourceSURL for file in statuses] == surls
    assert {file.fileSize for file in statuses} == {50}
    released = alice.service.srmReleaseFiles({"arrayOfSURLs": {"urlArray": surls}})
    assert released.returnStatus.statusCode == "SRM_SUCCESS"
    assert {one.status.statusCode for one in released.arrayOfFileStatuses.statusArray} == {"SRM_SUCCESS"}
    again = alice.service.srmReleaseFiles({"arrayOfSURLs": {"urlArray": surls}})
    assert again.returnStatus.statusCode == "SRM_FAILURE"

"""Random kills while files are wanted: everything arrives, nothing hangs, scratch and rows agree.

A whole site in processes of its own over a directory of files. While a client asks for all of them, outer
and inner processes are killed without warning and started again, in an order that a fixed seed decides.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from srm_dicom.client.library import Client
from srm_dicom.client.srm import SrmClient
from srm_dicom.daemon.common import Common
from srm_dicom.demo.site import DemoSite
from srm_dicom.errors import MdmError, RequestUnknown
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.store.requests import FileState

FILES = 600
KILLS = 16
LEAST_KILLS = 4
SEED = 20261121
PATIENCE_S = 150.0

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def site(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    generator = random.Random(SEED)
    for number in range(FILES):
        (data / f"f{number}.bin").write_bytes(generator.randbytes(generator.randrange(1, 200_000)))
    disk = {
        "plugin": "disk",
        "projects": ["demo"],
        "settings": {"root": str(data), "batch_files": 2},
    }
    demo = DemoSite(tmp_path / "site", plugins={"disk": disk})
    demo.write()
    demo.start()
    try:
        environment = {**os.environ, "SRM_DICOM_CONFIG": str(demo.config)}
        command = [sys.executable, "-m", "srm_dicom.cli.admin", "register", "--plugin", "disk", "**/*.bin"]
        subprocess.run(command, env=environment, check=True, timeout=120)
        yield demo
    finally:
        demo.stop()


def kill_some(demo: DemoSite, stop: threading.Event, killed: list[str]) -> None:
    generator = random.Random(SEED)
    while len(killed) < KILLS and not stop.wait(generator.uniform(0.02, 0.2)):
        for name in ("stager", generator.choice(["front", "transfer"])):
            killed.append(name)
            demo.processes.restart(name, signal.SIGKILL)


def wait(demo: DemoSite, token: str) -> list[str]:
    """Poll as a patient client does: a refused connection is tried again until the patience ends."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with SrmClient.connect(demo.description.srm, demo.users["researcher"]) as srm:
                request = srm.status(token)
        except RequestUnknown:
            raise
        except MdmError:
            assert time.monotonic() < until
            time.sleep(0.3)
            continue
        if not request.waiting:
            return [file.status.code for file in request.files]
        assert time.monotonic() < until, "requests hang"
        time.sleep(0.3)


def test_everything_arrives_whatever_is_killed(site: DemoSite, tmp_path: Path) -> None:
    with Client(site.description, site.users["researcher"]) as client:
        surls = [str(row["surl"]) for row in client.find("FILE is not null")]
        assert len(surls) == FILES
        request = client.srm.prepare_to_get(surls, ("gsiftp",), total_s=600)
    stop = threading.Event()
    killed: list[str] = []
    killer = threading.Thread(target=kill_some, args=(site, stop, killed))
    killer.start()
    codes = wait(site, request.token)
    stop.set()
    killer.join()
    assert len(killed) >= LEAST_KILLS, "the work was done before anything was killed"
    assert codes == ["SRM_FILE_PINNED"] * FILES

    common = Common(site.config, "soak")
    staged = {(item.guid, item.generation): item for item in common.stores.staged.on_node(common.node)}
    area = ScratchArea(common.config.scratch.directory)
    assert {(name.guid, name.generation) for name in area.names()} == set(staged)
    assert common.stores.requests.counts() == {FileState.PINNED: FILES}

    with Client(site.description, site.users["researcher"]) as client:
        results = list(client.get(["FILE is not null"], tmp_path / "out"))
    assert [got.error for got in results if got.error] == []
    for path in (tmp_path / "data").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()

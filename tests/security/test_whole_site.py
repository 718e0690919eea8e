"""A site in processes of its own, registrar and catalogues too: on its disk the nominative group tells who.

Images come by arrival and by query, are registered, staged, refused, fetched, searched for and looked up by
who may know the patient; then every file below the site is searched, of every role.
"""

import os
import signal
import subprocess
import sys

import pytest

from srm_dicom.client.library import Client
from srm_dicom.daemon.skeleton import Archive
from srm_dicom.demo.site import DemoSite
from srm_dicom.errors import MdmError
from srm_dicom.testing.images import SeriesSpec, identities, make_series, written_forms
from srm_dicom.testing.pacs import PacsSimulator

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site that has done all that it does, and what its images say of whom."""
    directory = tmp_path_factory.mktemp("whole")
    images = make_series(SeriesSpec("CT", 3)) + make_series(SeriesSpec("MR", 2, study="2"))
    images[-1].BurnedInAnnotation = "YES"
    with PacsSimulator() as pacs:
        demo = DemoSite(directory / "site", archive=Archive(pacs.ae_title, pacs.host, pacs.port))
        demo.write()
        pacs.destinations["MDM1"] = ("127.0.0.1", demo.ports["moves"])
        pacs.add(images)
        demo.start()
        try:
            use(demo, directory)
            demo.processes.restart("registrar", signal.SIGKILL)
            demo.processes.restart("stager", signal.SIGKILL)
        finally:
            demo.stop()
    return demo, identities(images)


def use(demo, directory):
    command = [sys.executable, "-m", "srm_dicom.cli.admin", "register", "--plugin", "dicom"]
    environment = {**os.environ, "SRM_DICOM_CONFIG": str(demo.config)}
    for selector in ("Modality=CT", "Modality=MR"):
        subprocess.run([*command, selector], env=environment, check=True, timeout=120, capture_output=True)
    with Client(demo.description, demo.users["researcher"]) as client:
        got = list(client.get(["FILE is not null"], directory / "out"))
    assert sorted(one.error is None for one in got) == [False, True, True, True, True]
    assert all(b"CANARY" not in path.read_bytes() for path in (directory / "out").iterdir())
    with Client(demo.description, demo.users["physician"]) as client:
        rows = list(client.find('PatientName like "CANARY%"'))
        assert len(rows) == len(got), "who has the nominative right may ask by name"
    with Client(demo.description, demo.users["researcher"]) as client, pytest.raises(MdmError):
        list(client.find('PatientName like "CANARY%"'))


def below(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_every_role_has_written_something(site):
    demo, _ = site
    tops = {path.parts[0] for path in below(demo.directory)}
    assert tops >= {"inner", "outer", "audit", "log", "metadata", "files", *demo.key_servers}


def test_only_the_nominative_group_tells_who(site):
    demo, told = site
    found = {
        path
        for path, content in below(demo.directory).items()
        if any(form in content for identity in told for form in written_forms(identity))
    }
    assert {path.parts[0] for path in found} == {"metadata"}, "the search works, and finds nothing elsewhere"
    assert all("metadata.db" in path.name for path in found)

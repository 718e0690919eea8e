"""Real archives are given what users upload, once, and nothing that contradicts what they have."""

import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset

from srm_dicom.clock import SystemClock
from srm_dicom.errors import SourceRefused
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Discovered, PluginContext, Upload
from srm_dicom.plugin.host import PluginHost
from srm_dicom.testing.archives import ArchiveTls, Dcmqrscp, Orthanc
from srm_dicom.testing.contract import RELEASE
from srm_dicom.testing.images import CANARY, Patient, SeriesSpec, make_series, shipped
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.ports import free_port
from srm_plugin_dicom.plugin import DicomPlugin

ALICE = Patient(f"{CANARY}^ALICE", f"{CANARY}-1")
KNOWN = make_series(SeriesSpec("CT", 1, ALICE))
NEW = make_series(SeriesSpec("CT", 1, ALICE, study="9", seed="workstation"))[0]
STRANGER = make_series(SeriesSpec("CT", 1, Patient(f"{CANARY}^BOB", f"{CANARY}-2"), seed="stranger"))[0]
Archive = Orthanc | Dcmqrscp


def orthanc(directory: Path, port: int) -> tuple[Archive, ArchiveTls | None]:
    return Orthanc(directory / "pacs", {"MDM1": port}), None


def orthanc_over_tls(directory: Path, port: int) -> tuple[Archive, ArchiveTls | None]:
    pki = TestPki(directory / "pki", fast=True)
    authorities = pki.directory / "ca" / "cert.pem"
    theirs, ours = pki.host("localhost"), pki.host("mdm")
    archive = Orthanc(
        directory / "pacs", {"MDM1": port}, tls=ArchiveTls(theirs.certificate, theirs.key, authorities)
    )
    return archive, ArchiveTls(ours.certificate, ours.key, authorities)


def dcmqrscp(directory: Path, port: int) -> tuple[Archive, ArchiveTls | None]:
    return Dcmqrscp(directory / "pacs", {"MDM1": port}), None


Make = Callable[[Path, int], tuple[Archive, ArchiveTls | None]]


class Site:
    """The plugin beside an archive that knows one patient."""

    def __init__(self, directory: Path, make: Make) -> None:
        port = free_port()
        directory.mkdir(exist_ok=True)
        self.archive, tls = make(directory, port)
        self.archive.add(KNOWN)
        source = {"name": "main", "ae_title": "PACS", "host": "localhost", "port": self.archive.port}
        moves = {"ae_title": "MDM1", "port": port}
        for place in (source, moves) if tls else ():
            place["tls"] = {name: str(getattr(tls, name)) for name in ("certificate", "key", "authorities")}
        settings = {"sources": [source], "moves": moves, "settle_s": 0.3, "uploads_to": "main"}
        self.plugin = DicomPlugin(PluginContext("dicom", settings, directory, SystemClock()))
        self.host = PluginHost(self.plugin, name="dicom")

    def stop(self) -> None:
        self.plugin.close()
        self.archive.stop()

    def upload(self, image: FileDataset) -> Discovered:
        out = BytesIO()
        image.save_as(out, enforce_file_format=True)
        data = out.getvalue()
        adler32 = f"{zlib.adler32(data):08x}"
        upload = Upload(Guid(""), (), RELEASE, len(data), adler32, iter([data]))
        (told,) = self.host.ingest(upload, {RELEASE: lambda _found: None})
        return told

    def known(self) -> set[Guid]:
        return {found.guid for found in self.host.discover("source=main", RELEASE)}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(orthanc, marks=pytest.mark.interop("Orthanc")),
        pytest.param(orthanc_over_tls, marks=pytest.mark.interop("Orthanc")),
        pytest.param(dcmqrscp, marks=pytest.mark.interop("dcmqrscp", "storescu")),
    ],
    ids=["Orthanc", "Orthanc over TLS", "dcmqrscp"],
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("archive"), request.param)
    yield site
    site.stop()


def changed(dataset: FileDataset, **values: object) -> FileDataset:
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    copy = dcmread(BytesIO(out.getvalue()))
    for keyword, value in values.items():
        setattr(copy, keyword, value)
    return copy


def test_an_image_is_stored_and_repeating_it_changes_nothing(site: Site) -> None:
    told = site.upload(NEW)
    known = site.known()
    assert told.guid in known
    assert site.upload(NEW) == told
    assert site.known() == known


def test_compressed_images_are_stored_as_they_are_or_not_at_all(site: Site) -> None:
    image = shipped("JPEG2000.dcm")
    image.PatientID, image.IssuerOfPatientID, image.PatientBirthDate = ALICE.id, ALICE.issuer, ""
    if isinstance(site.archive, Dcmqrscp):  # which takes lossless JPEG of the older kind only
        with pytest.raises(SourceRefused, match="in this transfer syntax"):
            site.upload(image)
        return
    told = site.upload(image)
    assert site.upload(image) == told
    assert told.guid in site.known()


def test_another_object_under_the_same_instance_is_refused(site: Site) -> None:
    known = site.known()
    for other in (changed(KNOWN[0], SliceThickness=99), changed(KNOWN[0], SeriesInstanceUID="1.2.3.4")):
        with pytest.raises(SourceRefused, match="another object"):
            site.upload(other)
    assert site.known() == known


def test_unknown_patients_are_refused(site: Site) -> None:
    with pytest.raises(SourceRefused, match="knows no such patient"):
        site.upload(STRANGER)


def test_the_check_shows_that_it_takes_images(site: Site) -> None:
    assert [check.passed for check in site.host.checks() if "C-STORE" in check.name] == [True]

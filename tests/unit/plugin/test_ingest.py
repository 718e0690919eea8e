"""What users upload goes into the archive by C-STORE, or is refused with its class of reason."""

import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from srm_dicom.clock import SystemClock
from srm_dicom.errors import (
    ConfigError,
    InvalidRequest,
    MdmError,
    NotSupported,
    Overloaded,
    SourceRefused,
    SourceUnavailable,
    TooLarge,
)
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Discovered, PluginContext, Upload
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.project import Release
from srm_dicom.testing.contract import OTHER_RELEASE, RELEASE
from srm_dicom.testing.images import CANARY, Patient, SeriesSpec, make_series, shipped
from srm_dicom.testing.pacs import Faults, PacsSimulator
from srm_dicom.testing.ports import free_port
from srm_plugin_dicom.deidentify import Context, current_version
from srm_plugin_dicom.deidentify.engine import deidentify
from srm_plugin_dicom.plugin import DicomPlugin
from srm_plugin_dicom.uploaded import read_upload

KNOWN = make_series(SeriesSpec("CT", 1))
NEW = make_series(SeriesSpec("CT", 3, study="9", seed="workstation"))
PROFILE = "basic"


def settings(port: int, retrieve: str, **more: object) -> dict[str, object]:
    source = {"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "retrieve": retrieve}
    return {
        "sources": [source],
        "moves": {"ae_title": "MDM1", "port": free_port()},
        "arrivals": {"ae_title": "MDMIN", "port": free_port()},
        "answer_s": 5.0,
        "settle_s": 0.3,
        "uploads_to": "main",
        **more,
    }


class Site:
    """A plugin beside a PACS, and what it told of uploads."""

    def __init__(self, pacs: PacsSimulator, secrets: Path, retrieve: str = "move", **more: object) -> None:
        chosen = settings(pacs.port, retrieve, **more)
        secrets.mkdir(exist_ok=True)
        self.pacs = pacs
        self.plugin = DicomPlugin(PluginContext("dicom", chosen, secrets, SystemClock()))
        self.host = PluginHost(self.plugin, name="dicom")
        pacs.destinations["MDM1"] = ("127.0.0.1", chosen["moves"]["port"])  # type: ignore[index]
        self.told: list[tuple[Release, Discovered]] = []

    def upload(self, data: bytes, chunk: int = 10_000) -> tuple[Discovered, ...]:
        upload = Upload(
            guid=Guid("00000000-0000-4000-8000-000000000001"),
            path=(),
            release=RELEASE,
            size_bytes=len(data),
            adler32=f"{zlib.adler32(data):08x}",
            chunks=(data[at : at + chunk] for at in range(0, len(data), chunk)),
        )
        return self.host.ingest(upload, {each: self._tell(each) for each in (RELEASE, OTHER_RELEASE)})

    def _tell(self, release: Release) -> Any:
        return lambda found: self.told.append((release, found))

    def refusal(self, data: bytes) -> MdmError:
        before = self.pacs.instances
        with pytest.raises(MdmError) as caught:
            self.upload(data)
        assert self.pacs.instances == before
        assert not self.told
        assert CANARY not in f"{caught.value.message} {caught.value.advice}"
        return caught.value


@pytest.fixture(scope="module")
def one_pacs() -> Iterator[PacsSimulator]:
    with PacsSimulator() as pacs:
        yield pacs


@pytest.fixture
def pacs(one_pacs: PacsSimulator) -> PacsSimulator:
    """The PACS as new: it holds one image of the patient."""
    for instance in one_pacs.instances:
        one_pacs.remove(instance)
    one_pacs.add(KNOWN)
    one_pacs.faults, one_pacs.stores = Faults(), 0
    return one_pacs


@pytest.fixture
def site(pacs: PacsSimulator, tmp_path: Path) -> Iterator[Site]:
    site = Site(pacs, tmp_path)
    yield site
    site.plugin.close()


def file_of(dataset: FileDataset) -> bytes:
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def changed(dataset: FileDataset, **values: object) -> FileDataset:
    copy = dcmread(BytesIO(file_of(dataset)))
    for keyword, value in values.items():
        setattr(copy, keyword, value)
    return copy


def encoded(dataset: FileDataset, syntax: str) -> bytes:
    copy, out = changed(dataset), BytesIO()
    copy.file_meta.TransferSyntaxUID = syntax
    copy.save_as(out, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return out.getvalue()


def test_an_image_goes_into_the_archive_as_it_is_and_is_told_of_for_each_release(site: Site) -> None:
    told = site.upload(file_of(NEW[0]))
    assert site.pacs.held(NEW[0].SOPInstanceUID) == NEW[0]
    assert [release for release, _ in site.told] == [RELEASE, OTHER_RELEASE]
    assert told == tuple(found for _, found in site.told)
    assert len({found.guid for found in told}) == 2
    assert CANARY not in str([(found.guid, found.path, found.group, found.attributes) for found in told])
    assert told[0].nominative["SOPInstanceUID"] == NEW[0].SOPInstanceUID


def test_what_is_uploaded_is_told_of_as_what_is_found(site: Site) -> None:
    (uploaded, _) = site.upload(file_of(NEW[0]))
    found = {each.guid: each for each in site.host.discover("source=main", RELEASE)}
    again = found[uploaded.guid]
    assert (again.path, again.group, again.plugin_ref) == (uploaded.path, uploaded.group, uploaded.plugin_ref)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_it_keeps_its_transfer_syntax(site: Site, syntax: str) -> None:
    image = changed(NEW[0])
    site.upload(encoded(image, syntax))
    held = site.pacs.held(image.SOPInstanceUID)
    assert held.file_meta.TransferSyntaxUID == syntax
    assert held.PixelData == image.PixelData


def test_compressed_pixels_are_not_touched(pacs: PacsSimulator, tmp_path: Path) -> None:
    image = shipped("JPEG2000.dcm")
    other = changed(image, SOPInstanceUID="1.2.3.4.5")
    pacs.add([other])
    site = Site(pacs, tmp_path)
    site.upload(file_of(image))
    assert pacs.held(image.SOPInstanceUID).PixelData == image.PixelData
    site.plugin.close()


@pytest.mark.parametrize("retrieve", ["move", "get"])
def test_what_the_archive_has_already_is_not_sent_again(
    pacs: PacsSimulator, tmp_path: Path, retrieve: str
) -> None:
    site = Site(pacs, tmp_path, retrieve)
    first = site.upload(file_of(NEW[0]))
    assert site.upload(file_of(NEW[0])) == first
    assert pacs.stores == 1
    site.plugin.close()


def test_what_broke_off_before_the_answer_is_repeated_and_there_once(site: Site) -> None:
    site.pacs.faults.drops_stored = True
    with pytest.raises(SourceUnavailable):
        site.upload(file_of(NEW[0]))
    assert not site.told
    site.pacs.faults.drops_stored = False
    site.upload(file_of(NEW[0]))
    assert site.pacs.stores == 1
    assert len(site.told) == 2


@pytest.mark.parametrize("other", [{"PixelData": bytes(8192)}, {"SeriesNumber": 77}, {"SliceThickness": 1}])
def test_another_object_of_the_same_instance_is_refused(site: Site, other: dict[str, object]) -> None:
    site.pacs.add([changed(NEW[0], **other)])
    assert isinstance(site.refusal(file_of(NEW[0])), SourceRefused)
    assert site.pacs.stores == 0


def test_the_same_instance_in_another_study_is_found_too(site: Site) -> None:
    site.pacs.add([changed(NEW[0], StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")])
    assert isinstance(site.refusal(file_of(NEW[0])), SourceRefused)


def test_how_the_archive_encodes_it_does_not_make_it_another_object(site: Site) -> None:
    image = changed(NEW[0])
    image.remove_private_tags()
    held = dcmread(BytesIO(encoded(image, ImplicitVRLittleEndian)))
    held.OriginalAttributesSequence = []
    site.pacs.add([held])
    site.upload(file_of(image))
    assert site.pacs.stores == 0


def test_unknown_patients_are_refused(site: Site) -> None:
    stranger = make_series(SeriesSpec("CT", 1, patient=Patient(id=f"{CANARY}-0815"), seed="x"))[0]
    error = site.refusal(file_of(stranger))
    assert isinstance(error, SourceRefused)
    assert error.message == "main knows no such patient"


@pytest.mark.parametrize(
    "other", [{"IssuerOfPatientID": "ELSEWHERE"}, {"PatientBirthDate": "19991231"}, {"PatientID": "?*"}]
)
def test_a_patient_with_the_same_number_may_be_somebody_else(site: Site, other: dict[str, object]) -> None:
    site.refusal(file_of(changed(NEW[0], **other)))


def test_de_identified_objects_are_refused(site: Site) -> None:
    said = changed(NEW[0], PatientIdentityRemoved="YES", DeidentificationMethod="by hand")
    assert "de-identified" in site.refusal(file_of(said)).message
    release = Release("heart", PROFILE, current_version(PROFILE))
    plain = make_series(SeriesSpec("CT", 1, rows=16, columns=16))[0]
    ours = b"".join(map(bytes, deidentify(file_of(plain), "", "", Context(b"k" * 32, release))))
    assert "de-identified" in site.refusal(ours).message


def test_what_is_no_whole_dicom_file_is_refused(site: Site) -> None:
    whole = file_of(NEW[0])
    for data in (
        b"",
        b"crypt4gh",
        bytes(1000),
        whole[132:],
        whole[:140],
        whole[:-100],
        whole[: len(whole) // 9],
    ):
        assert isinstance(site.refusal(data), InvalidRequest)


def test_a_file_that_lacks_its_last_bytes_is_refused_wherever_it_is_cut() -> None:
    """In the delimiter of compressed pixels, in a deflated stream, and in the tag of the next element."""
    plain = file_of(NEW[0])
    pixels = plain.rindex(b"\xe0\x7f\x10\x00")
    cut = [
        *(plain[: pixels + some] for some in range(1, 12)),
        *(plain[:-some] for some in range(1, 20)),
        *(encoded(NEW[0], DeflatedExplicitVRLittleEndian)[:-some] for some in range(2, 20)),  # may be padded
        *(file_of(shipped("JPEG2000.dcm"))[:-some] for some in range(1, 20)),
    ]
    for data in cut:
        with pytest.raises(InvalidRequest, match=r"cut short|cannot be read to its end"):
            read_upload(bytearray(data), 1 << 24)


@pytest.mark.parametrize(
    "keyword", ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"]
)
def test_what_does_not_say_what_it_is_is_refused(site: Site, keyword: str) -> None:
    lacking = changed(NEW[0])
    del lacking[keyword]
    assert isinstance(site.refusal(file_of(lacking)), InvalidRequest)


@pytest.mark.parametrize(
    ("status", "error"),
    [(0xA700, SourceUnavailable), (0xA900, SourceRefused), (0xC000, SourceRefused), (0xB000, SourceRefused)],
)
def test_only_success_is_success(site: Site, status: int, error: type[MdmError]) -> None:
    site.pacs.faults.refuses_store = status
    assert type(site.refusal(file_of(NEW[0]))) is error


def test_an_archive_that_is_down_is_asked_again_later(site: Site) -> None:
    site.pacs.stop()
    with pytest.raises(SourceUnavailable):
        site.upload(file_of(NEW[0]))
    site.pacs.start()
    site.upload(file_of(NEW[0]))
    assert site.pacs.stores == 1


def test_memory_is_bounded_and_given_back(pacs: PacsSimulator, tmp_path: Path) -> None:
    size = len(file_of(NEW[0]))
    small = Site(pacs, tmp_path / "a", max_object_bytes=size - 1)
    assert isinstance(small.refusal(file_of(NEW[0])), TooLarge)
    site = Site(pacs, tmp_path / "b", max_held_bytes=size + 100)
    assert isinstance(site.refusal(file_of(NEW[0]) + bytes(101)), Overloaded)
    site.upload(file_of(NEW[0]))
    site.upload(file_of(NEW[1]))
    assert site.plugin._budget.held_bytes == 0
    for each in (small, site):
        each.plugin.close()


def test_large_values_are_sent_and_not_read(site: Site) -> None:
    image = changed(NEW[0])
    image.add_new(0x00090010, "LO", "MAKER")
    image.add_new(0x00091001, "OB", bytes(3 << 20))
    image.PixelData = bytes(5 << 20)
    site.upload(file_of(image), chunk=1 << 20)
    assert site.pacs.held(image.SOPInstanceUID) == image
    site.upload(file_of(image))
    assert site.pacs.stores == 1
    site.told.clear()
    assert isinstance(site.refusal(file_of(image)[:-10]), InvalidRequest)


def test_bytes_that_break_off_never_reach_the_archive(site: Site) -> None:
    def chunks() -> Iterator[bytes]:
        yield file_of(NEW[0])
        raise Overloaded("scratch does not answer")

    upload = Upload(Guid("0"), (), RELEASE, 1, "00000001", chunks())
    with pytest.raises(Overloaded):
        site.host.ingest(upload, {})
    assert site.pacs.stores == 0


def test_who_names_no_archive_takes_no_uploads(pacs: PacsSimulator, tmp_path: Path) -> None:
    site = Site(pacs, tmp_path, uploads_to="")
    assert isinstance(site.refusal(file_of(NEW[0])), NotSupported)
    assert not any("C-STORE" in check.name for check in site.host.checks())
    site.plugin.close()


def test_the_check_shows_whether_the_archive_takes_images(site: Site) -> None:
    (check,) = [check for check in site.host.checks() if "C-STORE" in check.name]
    assert check.passed
    assert check.detail == "it takes images from MDM1"
    assert site.pacs.stores == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"name": "main", "kind": "dicomweb", "url": "https://pacs.example.org"}, "DICOMweb"),
        ({"name": "other", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}, "unknown source"),
    ],
)
def test_an_archive_that_cannot_take_uploads_is_not_configured(
    tmp_path: Path, source: dict[str, object], words: str
) -> None:
    chosen = settings(1, "move") | {"sources": [source]}
    with pytest.raises(ConfigError, match=words):
        DicomPlugin(PluginContext("dicom", chosen, tmp_path, SystemClock()))

"""Every DICOM file that pydicom, its pydicom-data and pynetdicom ship, through an archive and the plugin.

It comes out in the transfer syntax that it had, with the pixels that it had, or it is refused for a stated
reason; the tables say which, file by file and way by way (C-MOVE, C-GET, WADO-RS). The plugin trusts every
machine, so that as much as possible comes through.
"""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import data_store
import pydicom
import pynetdicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.misc import is_dicom
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from srm_dicom.clock import SystemClock
from srm_dicom.plugin.api import FileRef, PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_dicom.testing.archives import ORTHANC_PLUGINS, Orthanc, program
from srm_dicom.testing.contract import RELEASE
from srm_dicom.testing.ports import free_port
from srm_dicom.testing.sink import MemorySink
from srm_plugin_dicom.plugin import DicomPlugin

CORPUS = sorted(
    path
    for package, below in (
        (pydicom, "data/test_files"),
        (pynetdicom, "tests/dicom_files"),
        (data_store, "data"),
    )
    for path in Path(package.__file__).parent.joinpath(below).rglob("*")
    if path.suffix == ".dcm" or (path.is_file() and is_dicom(path))
)
STAGED = "staged"
PLAIN = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
"""Transfer syntaxes by what pydicom finds out of a data set: implicit VR, little endian."""

NOT_HELD = {
    "SC_rgb_jpeg.dcm",
    "empty_charset_LEI.dcm",
    "meta_missing_tsyntax.dcm",
    "nested_priv_SQ.dcm",
    "no_meta.dcm",
    "rtplan_truncated.dcm",
}
"""Files that Orthanc does not take, as they are or completed; and no directory."""

REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "the pixel data do not fit their description (another size)",
    "MR_truncated.dcm": "the pixel data do not fit their description",
    "badVR.dcm": "the pixel data do not fit their description",
    "reportsi.dcm": "structured reports cannot be proven clean",
    "reportsi_with_empty_number_tags.dcm": "structured reports cannot be proven clean",
    "test-SR.dcm": "structured reports cannot be proven clean",
    "waveform_ecg.dcm": "waveforms cannot be proven clean",
}
"""Of each file that de-identification refuses, the class of its reason."""

MISNAMED = {"rtdose_rle.dcm", "rtdose_rle_1frame.dcm"}
"""Orthanc 1.10.1 names these "31" in its C-STORE, so nobody waits for what it sends; its WADO-RS does not."""

UNSENT = {"explicit_VR-UN.dcm"}
"""Its sequences are not well formed: Orthanc breaks off where it should send them, but for WADO-RS."""

UNNAMED = {"bad_sequence.dcm"}
"""Their UIDs are none: such a name is not taken from an archive."""

UNCLASSED = {
    *("UN_sequence.dcm", "no_meta_group_length.dcm", "priv_SQ.dcm"),
    "emri_small_jpeg_2k_lossless_too_short.dcm",
}
"""Files without a SOP class: there is no presentation context for them."""

NO_FILE = {"ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "OT-PAL-8-face.dcm", "rtstruct.dcm"}
"""Data sets without file meta information, which Orthanc's WADO-RS sends as they are: no DICOM files."""

NOT_FOUND = "not found"
NOT_SENT = "SourceRefused: main refused with status 0xC000"


def fate_of(name: str, way: str) -> str:
    """Return what is expected of a file that the archive holds."""
    if name in UNNAMED:
        return NOT_FOUND
    if way == "web" and name in UNCLASSED | NO_FILE:
        return "NotDelivered: main did not send 1 of 1 images"
    if name in UNCLASSED:
        return NOT_SENT
    if name in MISNAMED | UNSENT and way != "web":
        return NOT_SENT if way == "move" else "SourceUnavailable: main broke off"
    return f"ObjectRefused: {REFUSED[name]}" if name in REFUSED else STAGED


def maker(path: Path) -> str:
    return str(dcmread(path, force=True, specific_tags=["Manufacturer"]).get("Manufacturer") or "")


WAYS = ("move", "get", "web")


@dataclass(frozen=True)
class Site:
    """An archive, and a plugin for each way to its images."""

    archive: Orthanc
    hosts: dict[str, PluginHost]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory, port = tmp_path_factory.mktemp("corpus"), free_port()
    archive = Orthanc(directory / "pacs", {"MDM1": port})
    dicom = {"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": archive.port}
    sources: dict[str, dict[str, object]] = {
        "move": dicom,
        "get": dicom | {"retrieve": "get"},
        "web": {"kind": "dicomweb", "name": "main", "url": archive.web_url},
    }
    plugins = {way: make_plugin(directory, sources[way], port) for way in WAYS}
    yield Site(archive, {way: PluginHost(plugin, name=way) for way, plugin in plugins.items()})
    for plugin in plugins.values():
        plugin.close()
    archive.stop()


def make_plugin(directory: Path, source: dict[str, object], port: int) -> DicomPlugin:
    settings = {
        "sources": [source],
        "moves": {"ae_title": "MDM1", "port": port},
        "pixels": {
            "clean": [{"manufacturer": each} for each in sorted(set(map(maker, CORPUS)))],
            "recognizable_projects": [RELEASE.project],
        },
        "settle_s": 0.3,
    }
    return DicomPlugin(PluginContext("dicom", settings, directory, SystemClock()))


def stage(host: PluginHost) -> tuple[str, bytes]:
    """Bring the only object that the archive has; return its fate, and its bytes if it was staged."""
    sink = MemorySink()
    refs = [FileRef(each.guid, each.plugin_ref, RELEASE) for each in host.discover("source=main", RELEASE)]
    if not refs:
        return NOT_FOUND, b""
    assert len(refs) == 1
    (batch,) = host.plan(refs)
    error = host.stage(batch, sink, 20)[refs[0].guid]
    return (f"{type(error).__name__}: {error.message}", b"") if error else (STAGED, sink.files[refs[0].guid])


def completed(path: Path) -> bytes:
    """Return a file with the UIDs and meta information that an archive wants, where it lacks them."""
    dataset = dcmread(path, force=True)
    if not hasattr(dataset.file_meta, "TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, generate_uid(entropy_srcs=[path.name, keyword]))
    whole = BytesIO()
    dataset.save_as(whole, enforce_file_format=True)
    return whole.getvalue()


def original(path: Path) -> Dataset:
    """Read a file; of one that does not tell its transfer syntax, it is the one that it is read as."""
    dataset = dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = PLAIN[dataset.original_encoding]
    return dataset


def pixels(path: Path, scratch: Path) -> list[bytes]:
    """Return the decoded pixels, or where no decoder is at hand the frames without their comments."""
    dataset = original(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    for prefix, decoder in DECODERS.items():
        if syntax.startswith(prefix):
            plain = scratch / f"{path.stem}.plain"
            subprocess.run([program(decoder), str(path), str(plain)], check=True, capture_output=True)
            return [dcmread(plain).PixelData]
    if not syntax.is_encapsulated:
        # Bytes beyond the pixels do not leave.
        return [dataset.PixelData[: (get_expected_length(dataset) + 1) // 2 * 2]]
    frames = int(dataset.get("NumberOfFrames") or 1)
    return [without_comments(frame) for frame in generate_frames(dataset.PixelData, number_of_frames=frames)]


DECODERS = {
    "1.2.840.10008.1.2.5": "dcmdrle",
    "1.2.840.10008.1.2.4.5": "dcmdjpeg",
    "1.2.840.10008.1.2.4.70": "dcmdjpeg",
    "1.2.840.10008.1.2.4.8": "dcmdjpls",
}


def without_comments(codestream: bytes) -> bytes:
    """Return a JPEG 2000 codestream without the COM segments of its main header (T.800, A.9.2)."""
    codestream = codestream[codestream.index(b"\xff\x4f\xff\x51") :]  # a JP2 file may be around it
    kept, at = codestream[:2], 2
    while (marker := codestream[at : at + 2]) != b"\xff\x90":
        end = at + 2 + int.from_bytes(codestream[at + 2 : at + 4], "big")
        kept += b"" if marker == b"\xff\x64" else codestream[at:end]
        at = end
    return kept + codestream[at : codestream.rindex(b"\xff\xd9")]


@pytest.mark.interop("Orthanc", f"{ORTHANC_PLUGINS}/libOrthancDicomWeb.so", "dcmdjpeg", "dcmdjpls", "dcmdrle")
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_it_comes_as_it_is_or_not_at_all(
    site: Site, path: Path, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    ways = WAYS if path.parent.name in {"test_files", "dicom_files", "data"} else WAYS[:1]
    if not given(site.archive, path):
        assert path.name in NOT_HELD or path.name.startswith("DICOMDIR")
        record_property("fate", "not held")
        return
    try:
        fates = {way: stage(host) for way, host in site.hosts.items() if way in ways}
    finally:
        site.archive.clear()
    for way, (fate, data) in fates.items():
        record_property(way, fate)
        assert fate == fate_of(path.name, way), way
        if fate == STAGED:
            compare(path, data, tmp_path)


def given(archive: Orthanc, path: Path) -> bool:
    """Give a file to the archive, as it is or with what it lacks; tell whether it was taken."""
    if archive.add_file(path.read_bytes()):
        return True
    if path.name.startswith("DICOMDIR"):
        return False
    try:
        whole = completed(path)
    except Exception:  # noqa: BLE001 - what pydicom raises of a file that it cannot write is its own affair
        return False
    return archive.add_file(whole)


def compare(path: Path, data: bytes, scratch: Path) -> None:
    before, after = original(path), dcmread(BytesIO(data))
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert shape(after) == shape(before)
    if "PixelData" in before:
        clean = scratch / "clean.dcm"
        clean.write_bytes(data)
        assert pixels(clean, scratch) == pixels(path, scratch)


def shape(dataset: Dataset) -> list[object]:
    keywords = ("Modality", "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored")
    return [dataset.get(keyword) for keyword in (*keywords, "SamplesPerPixel", "PhotometricInterpretation")]

"""Every DICOM file that pydicom and pynetdicom ship, through a real archive and the plugin's stage.

It comes out in the transfer syntax that it had, with the pixels that it had, or it is refused for a stated
reason; `FATE` says which, file by file. The plugin trusts every machine, so that as much as possible
comes through.
"""

import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pynetdicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.misc import is_dicom
from pydicom.pixels.utils import get_expected_length

from srm_dicom.clock import SystemClock
from srm_dicom.plugin.api import FileRef, PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_dicom.testing.archives import Orthanc, free_port, program
from srm_dicom.testing.contract import RELEASE
from srm_dicom.testing.sink import MemorySink
from srm_plugin_dicom.plugin import DicomPlugin

CORPUS = sorted(
    path
    for package, below in ((pydicom, "data/test_files"), (pynetdicom, "tests/dicom_files"))
    for path in Path(package.__file__).parent.joinpath(below).rglob("*")
    if path.suffix == ".dcm" or (path.is_file() and is_dicom(path))
)
STAGED = "staged"
NOT_HELD = "Orthanc does not take it"
"""Files without meta information or UIDs, of directories, or that dcmtk cannot parse or decode."""

NOT_SENT = "SourceRefused: main refused with status 0xC000"
"""Orthanc 1.10.1 names these two wrongly in its C-STORE ("31"), so nobody waits for what it sends."""

_NO_FORMAT = "objects of this SOP class cannot be proven clean"
FATE = {
    "ExplVR_BigEndNoMeta.dcm": _NO_FORMAT,
    "ExplVR_LitEndNoMeta.dcm": _NO_FORMAT,
    "rtplan.dcm": _NO_FORMAT,
    "rtstruct.dcm": _NO_FORMAT,
    "GDCMJ2K_TextGBR.dcm": "the compressed pixels cannot be walked (SOC)",
    "badVR.dcm": "the pixel data do not fit their description",
    "reportsi.dcm": "structured reports cannot be proven clean",
    "reportsi_with_empty_number_tags.dcm": "structured reports cannot be proven clean",
    "test-SR.dcm": "structured reports cannot be proven clean",
    "waveform_ecg.dcm": "waveforms cannot be proven clean",
    "rtdose_rle.dcm": NOT_SENT,
    "rtdose_rle_1frame.dcm": NOT_SENT,
}
"""Of each file that the archive takes and that is not staged: the class of its reason."""


def maker(path: Path) -> str:
    return str(dcmread(path, force=True, specific_tags=["Manufacturer"]).get("Manufacturer") or "")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, PluginHost]]:
    directory, port = tmp_path_factory.mktemp("corpus"), free_port()
    archive = Orthanc(directory / "pacs", {"MDM1": port})
    settings = {
        "sources": [{"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": archive.port}],
        "moves": {"ae_title": "MDM1", "port": port},
        "pixels": {
            "clean": [{"manufacturer": each} for each in sorted(set(map(maker, CORPUS)))],
            "recognizable_projects": [RELEASE.project],
        },
        "settle_s": 0.3,
    }
    plugin = DicomPlugin(PluginContext("dicom", settings, directory, SystemClock()))
    yield archive, PluginHost(plugin, name="dicom")
    plugin.close()
    archive.stop()


def stage(host: PluginHost) -> tuple[str, bytes]:
    """Bring the only object that the archive has; return its fate, and its bytes if it was staged."""
    sink = MemorySink()
    refs = [FileRef(each.guid, each.plugin_ref, RELEASE) for each in host.discover("source=main", RELEASE)]
    assert len(refs) == 1
    (batch,) = host.plan(refs)
    error = host.stage(batch, sink, 20)[refs[0].guid]
    return (f"{type(error).__name__}: {error.message}", b"") if error else (STAGED, sink.files[refs[0].guid])


def pixels(path: Path, scratch: Path) -> list[bytes]:
    """Return the decoded pixels, or where no decoder is at hand the frames without their comments."""
    dataset = dcmread(path, force=True)
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
    kept, at = codestream[:2], 2
    while (marker := codestream[at : at + 2]) != b"\xff\x90":
        end = at + 2 + int.from_bytes(codestream[at + 2 : at + 4], "big")
        kept += b"" if marker == b"\xff\x64" else codestream[at:end]
        at = end
    return kept + codestream[at : codestream.rindex(b"\xff\xd9")]


@pytest.mark.interop("Orthanc", "dcmdjpeg", "dcmdjpls", "dcmdrle")
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_it_comes_as_it_is_or_not_at_all(
    archive: tuple[Orthanc, PluginHost], path: Path, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    orthanc, host = archive
    fate = NOT_HELD
    if orthanc.add_file(path.read_bytes()):
        try:
            fate, data = stage(host)
        finally:
            orthanc.clear()
        assert fate.removeprefix("ObjectRefused: ") == FATE.get(path.name, STAGED)
    record_property("fate", fate)
    if fate == STAGED:
        compare(path, data, tmp_path)


def compare(path: Path, data: bytes, scratch: Path) -> None:
    before, after = dcmread(path, force=True), dcmread(BytesIO(data))
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert shape(after) == shape(before)
    if "PixelData" in before:
        clean = scratch / "clean.dcm"
        clean.write_bytes(data)
        assert pixels(clean, scratch) == pixels(path, scratch)


def shape(dataset: Dataset) -> list[object]:
    keywords = ("Modality", "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored")
    return [dataset.get(keyword) for keyword in (*keywords, "SamplesPerPixel", "PhotometricInterpretation")]

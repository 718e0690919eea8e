"""Half a gigabyte of frames is staged by a stager that has a fraction of it in memory."""

import hashlib
import re
from pathlib import Path

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

from srm_dicom.broker.views import FileState
from srm_dicom.daemon.skeleton import Archive
from srm_dicom.testing.archives import Dcmqrscp
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_dicom.testing.ports import free_port
from srm_dicom.testing.staging import Staging

MOST_KIB = 150 * 1024
FRAMES, SIDE = 250, 1024
FRAME_BYTES = 2 * SIDE * SIDE
END = bytes.fromhex("feffdde000000000")
"""Behind the last item of compressed pixel data."""

PATIENCE_S = 300.0
# A stream that can be walked, of which nobody decodes the entropy-coded data.
JPEG_HEAD = bytes.fromhex(
    "ffd8 ffc3000b10040004000101 1100 ffc40013 00" + "00" * 16 + "ffda0008 0101 0001 0000"
)

pytestmark = pytest.mark.timeout(600)


def multi_frame(*, compressed=False):
    """Return an image of 500 MiB."""
    (image,) = make_series(SeriesSpec("CT", 1, rows=SIDE, columns=SIDE))
    image.NumberOfFrames = FRAMES
    if compressed:
        coded = bytes(range(128, 250)) * (FRAME_BYTES // 122)
        image.PixelData = encapsulate([JPEG_HEAD + coded + b"\xff\xd9"] * FRAMES, has_bot=False)
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
        image.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        image.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    else:
        image.PixelData = image.PixelData * FRAMES
    return image


def high_water_kib(pid):
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])


def check(staging, image, wait_for):
    """Stage it, and see how much memory that took and whether its pixels are there."""
    (files,) = staging.register()
    pid = staging.process()
    token = staging.want("/CN=Alice", files)
    wait_for(lambda: staging.states(token) <= {FileState.PINNED, FileState.FAILED}, PATIENCE_S)
    assert staging.is_there(token)
    used_kib = high_water_kib(pid)
    opened = staging.opened(files[0])
    pixels = image.PixelData
    assert len(opened) > 500_000_000
    assert (
        hashlib.sha256(opened.removesuffix(END)[-len(pixels) :]).digest() == hashlib.sha256(pixels).digest()
    )
    assert used_kib < MOST_KIB


@pytest.mark.parametrize("compressed", [False, True])
def test_from_a_simulated_archive(staging, pacs, wait_for, compressed):
    image = multi_frame(compressed=compressed)
    pacs.add([image])
    check(staging, image, wait_for)


@pytest.mark.interop("dcmqrscp", "storescu")
def test_from_dcmqrscp(tmp_path, wait_for):
    image, moves = multi_frame(), free_port()
    archive = Dcmqrscp(tmp_path / "archive", {"MDM1": moves})
    try:
        archive.add([image])
        staging = Staging.over(Archive("PACS", "127.0.0.1", archive.port), tmp_path / "site", moves=moves)
        try:
            check(staging, image, wait_for)
        finally:
            staging.demo.stop()
    finally:
        archive.stop()

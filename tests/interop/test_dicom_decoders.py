"""What left is decoded by DCMTK, and compared with the decoded original."""

import subprocess

import pydicom
import pytest
from pydicom.data import get_testdata_file

from srm_dicom.rights.project import Release
from srm_plugin_dicom.deidentify import Context, PixelPolicy, Trust, deidentify

RELEASE = Release("p", "basic", "v1")
DECODERS = {
    "SC_rgb_jpeg_dcmtk.dcm": "dcmdjpeg",
    "SC_rgb_jpeg_gdcm.dcm": "dcmdjpeg",
    "SC_rgb_dcmtk_+eb+cr.dcm": "dcmdjpeg",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm": "dcmdjpeg",
    "SC_rgb_jpeg_app14_dcmd.dcm": "dcmdjpeg",
    "JPGExtended.dcm": "dcmdjpeg",
    "MR_small_jpeg_ls_lossless.dcm": "dcmdjpls",
    "JPEGLSNearLossless_16.dcm": "dcmdjpls",
    "MR_small_RLE.dcm": "dcmdrle",
    "rtdose_rle.dcm": "dcmdrle",
}


PLAIN = ("CT_small.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "image_dfl.dcm")


def clean_copy(name, directory):
    """Write what leaves of a file whose maker the site trusts."""
    source = get_testdata_file(name)
    maker = str(pydicom.dcmread(source).get("Manufacturer", ""))
    policy = PixelPolicy(clean=(Trust(maker),), recognizable=True)
    with open(source, "rb") as file:  # noqa: PTH123
        output = deidentify(file.read(), "", "", Context(b"k" * 32, RELEASE, policy))
    target = directory / "clean.dcm"
    target.write_bytes(bytes(output))
    return source, target


def decoded(program, path, target):
    subprocess.run([f"/usr/bin/{program}", path, target], check=True, capture_output=True)
    return pydicom.dcmread(target).PixelData


@pytest.mark.interop("dcmdjpeg", "dcmdjpls", "dcmdrle")
@pytest.mark.parametrize(("name", "program"), DECODERS.items())
def test_decodes_to_the_same_pixels(name, program, tmp_path):
    source, clean = clean_copy(name, tmp_path)
    before = decoded(program, source, tmp_path / "before.dcm")
    assert decoded(program, clean, tmp_path / "after.dcm") == before


@pytest.mark.interop("dcmdump")
@pytest.mark.parametrize("name", [*DECODERS, *PLAIN])
def test_dcmdump_reads_without_a_warning(name, tmp_path):
    _, clean = clean_copy(name, tmp_path)
    result = subprocess.run(["/usr/bin/dcmdump", clean], check=True, capture_output=True, text=True)
    assert not [line for line in result.stderr.splitlines() if line.startswith(("W:", "E:"))]


RENDERED = [*(name for name, program in DECODERS.items() if program == "dcmdjpeg"), *PLAIN]
RENDERED.remove("JPEG2000.dcm")  # which dcmj2pnm does not read


@pytest.mark.interop("dcmj2pnm")
@pytest.mark.parametrize("name", RENDERED)
def test_is_rendered_as_the_original(name, tmp_path):
    shown = []
    for path in clean_copy(name, tmp_path):
        target = tmp_path / f"{len(shown)}.pnm"
        subprocess.run(["/usr/bin/dcmj2pnm", "+Wm", "+op", path, target], check=True, capture_output=True)
        shown.append(target.read_bytes())
    assert len(shown[0]) > 1000
    assert shown[0] == shown[1]

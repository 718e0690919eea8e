"""The page from a query to a volume is run as it stands, on a site over a PACS; so is ``--nifti``."""

import gzip
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from srm_dicom.cli.exits import exit_code
from srm_dicom.client import nifti
from srm_dicom.demo.site import DemoSite
from srm_dicom.errors import ConfigError, ObjectRefused
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_dicom.testing.pacs import PacsSimulator

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "user" / "volume.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPEC = SeriesSpec("CT", 12, rows=128, columns=128)

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    demo = DemoSite(tmp_path_factory.mktemp("volume") / "site")
    demo.write()
    pacs = PacsSimulator(demo.archive.ae_title, port=demo.archive.port)
    pacs.destinations = {"MDM1": ("127.0.0.1", demo.ports["moves"])}
    pacs.add(make_series(SPEC))
    with pacs:
        try:
            demo.start()
            environment = {**os.environ, "SRM_DICOM_CONFIG": str(demo.config)}
            command = [sys.executable, "-m", "srm_dicom.cli.admin", "register", "--plugin", "dicom"]
            subprocess.run([*command, "Modality=CT"], env=environment, check=True, timeout=120)
            demo.describe({})
            yield demo
        finally:
            demo.stop()


@pytest.fixture
def researcher(site, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MDM_SITE", str(site.directory / "site.json"))
    monkeypatch.setenv("X509_USER_PROXY", str(site.users["researcher"].certificate))
    monkeypatch.setenv("X509_CERT_DIR", str(site.pki.trust_dir))
    return tmp_path


def test_the_page_does_what_it_says(researcher):
    seen = {}
    for block in BLOCK.findall(PAGE.read_text()):
        exec(compile(block, PAGE.name, "exec"), seen)
    assert seen["volume"].shape == (SPEC.slices, SPEC.rows, SPEC.columns)
    originals = make_series(SPEC)
    middle = originals[SPEC.slices // 2]
    clear = middle.pixel_array * float(middle.RescaleSlope) + float(middle.RescaleIntercept)
    assert (seen["axial"] == clear).all()
    picture = (researcher / "volume.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    size = int.from_bytes(picture[33:37], "big")
    rows = zlib.decompress(picture[41 : 41 + size])
    assert len(rows) == SPEC.rows * (2 * SPEC.columns + 1)
    assert len(set(rows)) > 10, "something is to be seen"


def test_nifti(researcher):
    command = [sys.executable, "-m", "srm_dicom.cli.user", "get", 'Modality = "CT"', "--nifti", "-o", "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (volume,) = (researcher / "out").glob("*.nii.gz")
    header = gzip.decompress(volume.read_bytes())[:352]
    assert header[344:347] == b"n+1"
    shape = [int.from_bytes(header[42 + 2 * axis : 44 + 2 * axis], "little") for axis in range(3)]
    assert shape == [SPEC.columns, SPEC.rows, SPEC.slices]
    (told,) = (researcher / "out").glob("*.json")
    assert "CANARY" not in told.read_text()
    assert len(list((researcher / "out").glob("*.dcm"))) == SPEC.slices


def test_an_attribute_that_is_misspelled_is_guessed(researcher):
    command = [sys.executable, "-m", "srm_dicom.cli.user", "find", 'Modalty = "CT" and bodypart = "Modalty"']
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 12
    assert "Did you mean" in done.stderr
    assert "Modality" in done.stderr


def test_without_the_program_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(nifti.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(nifti.shutil, "which", lambda _name: None)
    with pytest.raises(ConfigError) as refused:
        nifti.find_program()
    assert "srm-dicom[nifti]" in refused.value.advice
    assert exit_code(refused.value) == 30


def test_what_makes_no_volume_is_told(tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"no image")
    with pytest.raises(ObjectRefused):
        nifti.convert([tmp_path / "x.dcm"], tmp_path, "x", program=nifti.find_program())
    assert not list(tmp_path.glob("*.nii.gz"))

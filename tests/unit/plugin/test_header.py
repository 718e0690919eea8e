"""Headers from the first bytes, references that say nothing, keys that are kept."""

import stat
import struct
import threading
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.errors import ConfigError, IntegrityError, InvalidRequest
from srm_dicom.ids import Guid
from srm_dicom.testing.images import CANARY, SeriesSpec, identities, make_patients, make_series, shipped
from srm_plugin_dicom.header import keep_values_out_of_logs, read_header
from srm_plugin_dicom.reference import ObjectRef, open_ref, seal_ref
from srm_plugin_dicom.secrets import load_or_create, project_key

EXPLICIT = "1.2.840.10008.1.2.1"
keep_values_out_of_logs()
SLICE = make_series(SeriesSpec(slices=1))[0]


def data_of(dataset) -> bytes:  # type: ignore[no-untyped-def]
    whole = BytesIO()
    dataset.save_as(whole, enforce_file_format=True)
    data = whole.getvalue()
    return data[144 + struct.unpack_from("<L", data, 140)[0] :]


def test_a_header_is_read_without_the_pixels() -> None:
    data = data_of(SLICE)
    header = read_header(data[: -len(SLICE.PixelData)], EXPLICIT)
    assert header["Modality"] == "CT"
    assert header["PatientID"] == SLICE.PatientID
    assert header["ImageType"] == "ORIGINAL\\PRIMARY\\AXIAL"
    assert "PixelData" not in header
    assert "RequestAttributesSequence" not in header


@pytest.mark.parametrize(
    "name", ["image_dfl.dcm", "ExplVR_BigEnd.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm"]
)
def test_every_transfer_syntax(name: str) -> None:
    dataset = shipped(name)
    header = read_header(data_of(dataset), str(dataset.file_meta.TransferSyntaxUID))
    assert header["SOPInstanceUID"] == dataset.SOPInstanceUID


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    for syntax in (EXPLICIT, "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.3"):
        try:
            read_header(data, syntax)
        except InvalidRequest:
            continue


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.data())
def test_no_damage_breaks_the_reader(draw: st.DataObject) -> None:
    data = bytearray(data_of(SLICE)[:2000])
    for _ in range(3):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        read_header(bytes(data), EXPLICIT)
    except InvalidRequest:
        return


@pytest.mark.filterwarnings("error")
def test_a_bad_value_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    data = data_of(SLICE).replace(
        SLICE.SOPInstanceUID.encode(), b"CANARY" + SLICE.SOPInstanceUID[6:].encode()
    )
    with caplog.at_level(0):
        assert read_header(data, EXPLICIT)["SOPInstanceUID"].startswith("CANARY")
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]


REF = ObjectRef(
    "main", *(str(SLICE[key].value) for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
)
KEY = bytes(range(32))


def test_a_reference_opens_for_its_file_only() -> None:
    guid, other = Guid(str(uuid4())), Guid(str(uuid4()))
    box = seal_ref(KEY, guid, REF)
    assert open_ref(KEY, guid, box) == REF
    assert box == seal_ref(KEY, guid, REF)
    for key, name in ((KEY, other), (bytes(32), guid)):
        with pytest.raises(IntegrityError):
            open_ref(key, name, box)


def test_the_length_of_a_reference_says_nothing() -> None:
    guid = Guid(str(uuid4()))
    assert len(seal_ref(KEY, guid, REF)) == len(seal_ref(KEY, guid, ObjectRef("m", "1", "2", "3")))


def test_keys_are_made_once(tmp_path: Path) -> None:
    path = tmp_path / "master"
    keys: set[bytes] = set()
    threads = [threading.Thread(target=lambda: keys.add(load_or_create(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys == {path.read_bytes()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["master"]
    path.write_bytes(b"short")
    with pytest.raises(ConfigError):
        load_or_create(path)


def test_projects_do_not_share_a_key() -> None:
    assert project_key(KEY, "a") == project_key(KEY, "a") != project_key(KEY, "b")


def test_made_images_are_the_same_every_time_and_full_of_identity() -> None:
    first, again = data_of(SLICE), data_of(make_series(SeriesSpec(slices=1))[0])
    assert first == again
    assert first.count(CANARY.encode()) > 20
    assert all(identity in first for identity in identities([SLICE]))
    several = make_patients(2, SeriesSpec("MR", 3))
    assert len({each.SOPInstanceUID for each in several}) == 6
    assert len({each.PixelData for each in make_series(SeriesSpec(slices=9))}) == 9

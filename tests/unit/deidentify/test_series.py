"""Series transforms: what may show a face leaves as the site's transform makes it, or not at all.

The transform is the example of the page: it blanks a block of voxels, and claims nothing else.
"""

import io
import json
import re
import struct
import tomllib
from dataclasses import replace
from pathlib import Path

import msgspec
import pydicom
import pytest
from click.testing import CliRunner
from pydicom.data import get_testdata_file

from srm_dicom.clock import SystemClock
from srm_dicom.errors import ConfigError, NotDelivered, ObjectRefused
from srm_dicom.plugin.api import FileRef, PluginContext
from srm_dicom.plugin.host import PluginHost
from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, TestObject, Writer
from srm_dicom.testing.images import SeriesSpec, make_series
from srm_dicom.testing.pacs import PacsSimulator
from srm_dicom.testing.ports import free_port
from srm_dicom.testing.sink import MemorySink
from srm_plugin_dicom.commands import group
from srm_plugin_dicom.deidentify import (
    Context,
    PixelPolicy,
    SeriesTransform,
    SiteProfile,
    Trust,
    current_version,
    deidentify,
)
from srm_plugin_dicom.deidentify.engine import deidentifier
from srm_plugin_dicom.deidentify.options import Option
from srm_plugin_dicom.deidentify.series import Received, SeriesNeeded, transform
from srm_plugin_dicom.delivery import Delivery
from srm_plugin_dicom.moves import MemoryBudget
from srm_plugin_dicom.plugin import DicomPlugin
from srm_plugin_dicom.settings import parse_settings

PAGE = (Path(__file__).parents[3] / "docs" / "plugins" / "transforms.md").read_text()
MODULE = (
    re.findall(r"(?ms)^```python\n(.*?)^```", PAGE)[0]
    + """

class Counting(BlankBlock):
    def clean(self, images):
        self.saw = len(images)
        super().clean(images)
"""
)
POINTS = "[srm_plugin_dicom.transforms]\nblank-block = blank_block:Counting\nbroken = blank_block:io\n"


@pytest.fixture
def blank_block(tmp_path, monkeypatch):
    """Install the transform as a site would: a distribution with an entry point."""
    site = tmp_path / "site"
    (site / "blank_block-1.0.dist-info").mkdir(parents=True)
    (site / "blank_block.py").write_text(MODULE)
    (site / "blank_block-1.0.dist-info" / "METADATA").write_text("Name: blank-block\nVersion: 1.0\n")
    (site / "blank_block-1.0.dist-info" / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(site))
    transform.cache_clear()
    yield transform("blank-block")
    transform.cache_clear()


def context(through, **policy):
    site = (SiteProfile("heads", 2, (Option.MODIFIED_DATES,), through),)
    release = Release("p", "heads", current_version("heads", site))
    return Context(b"k" * 32, release, PixelPolicy(**policy), site)


def head(number, write=None, pixels=None, **more):
    write = write or Writer()
    said = {
        0x00180015: write.element(0x00180015, "CS", b"HEAD"),
        0x00180050: write.element(0x00180050, "DS", b"1.0"),
        0x00080018: write.element(0x00080018, "UI", b"1.2.3.4.5.%d" % number),
        0x00200032: write.element(0x00200032, "DS", b"0\\0\\%d" % number),
    }
    pixels = write.element(0x7FE00010, "OW", bytes(range(1, 33))) if pixels is None else pixels
    return TestObject(write, extra=said, pixels=pixels, **more)


def read(data):
    return pydicom.dcmread(io.BytesIO(data))


def series(objects, using):
    return [bytes(each) for each in deidentifier(using).deidentify_series([Received(o) for o in objects])]


def test_a_version_names_the_transform(blank_block):
    assert context(blank_block).release.version == "v1.2-blank-block-1.0"
    assert context(None).release.version == "v1.2"


def test_a_thin_head_leaves_only_with_its_series(blank_block):
    with pytest.raises(SeriesNeeded) as needed:
        deidentify(head(1).file(), "", "", context(blank_block))
    assert needed.value.series == b"1.2.3.4.5.1"
    assert "1.2.3" not in str(needed.value)
    with pytest.raises(ObjectRefused, match="face"):
        deidentify(head(1).file(), "", "", context(None))
    with pytest.raises(SeriesNeeded):  # what leaves depends on the profile, never on what a project may have
        deidentify(head(1).file(), "", "", context(blank_block, recognizable=True))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_pixels_are_the_transforms_and_the_file_says_so(blank_block, syntax, kind):
    originals = [head(number, Writer(syntax)).file() for number in (3, 1, 2)]
    made = series(map(kind, originals), context(blank_block))
    assert blank_block.saw == 3
    for before, after in zip(map(read, originals), map(read, made), strict=True):
        assert after.PixelData == bytes(16) + before.PixelData[16:]
        assert after.ImagePositionPatient == before.ImagePositionPatient
        assert after.file_meta.TransferSyntaxUID == syntax
        assert after.RecognizableVisualFeatures == "NO"
        codes = [item.CodeValue for item in after.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113107", "113102"]
        assert after.DeidentificationMethod == "srm-dicom heads v1.2-blank-block-1.0"


def test_bytes_do_not_depend_on_the_order_in_which_objects_come(blank_block):
    originals = [head(number).file() for number in range(5)]
    made = series(originals, context(blank_block))
    assert series(originals[::-1], context(blank_block)) == made[::-1]


def test_compressed_frames_are_decoded(blank_block):
    with open(get_testdata_file("MR_small_RLE.dcm"), "rb") as file:  # noqa: PTH123
        data = file.read()
    plain = read(data)
    plain.decompress()
    using = context(blank_block)
    using = replace(using, policy=PixelPolicy(clean=(Trust(str(plain.Manufacturer)),)))
    thin = read(data)
    thin.SliceThickness, thin.BodyPartExamined = "1", "BRAIN"
    buffer = io.BytesIO()
    thin.save_as(buffer)
    (made,) = series([buffer.getvalue()], using)
    after, half = read(made), len(plain.PixelData) // 2
    assert after.file_meta.TransferSyntaxUID == EXPLICIT
    assert after.PixelData == bytes(half) + plain.PixelData[half:]


class Fails(SeriesTransform):
    name, version = "fails", "1"

    def __init__(self, how):
        self.how = how

    def clean(self, images):
        self.how(images)


def above(images):
    images[0].pixels[:2] = struct.pack("<H", 1 << 14)


@pytest.mark.parametrize(
    ("how", "error"),
    [(len, ObjectRefused), (above, ObjectRefused), (lambda images: 1 / 0, ZeroDivisionError)],
    ids=["nothing changed", "unused bits", "a defect"],
)
def test_a_transform_that_did_not_clean_lets_nothing_out(how, error):
    write = Writer()
    narrow = {0x00280101: write.u16(0x00280101, 12), 0x00280102: write.u16(0x00280102, 11)}
    made = head(1, pixels=write.element(0x7FE00010, "OW", bytes(32)))
    made.extra |= narrow
    with pytest.raises(error):
        series([made.file()], context(Fails(how)))


def test_what_cannot_be_part_of_a_volume_is_refused_with_it(blank_block):
    write = Writer()
    chest = TestObject(extra={0x00180015: write.element(0x00180015, "CS", b"CHEST")})
    assert deidentify(chest.file(), "", "", context(blank_block))
    for other in (chest, head(2, Writer(BIG_ENDIAN)), head(2, pixels=b"")):
        with pytest.raises(ObjectRefused):
            series([head(1).file(), other.file()], context(blank_block))


def test_photographs_and_contours_have_no_transform(blank_block):
    write = Writer()
    for sop_class, pixels in ((b"77.1.4", None), (b"481.3", b"")):
        extra = {0x00080016: write.element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1." + sop_class)}
        with pytest.raises(ObjectRefused):
            deidentify(TestObject(extra=extra, pixels=pixels).file(), "", "", context(blank_block))


def test_a_file_that_says_it_shows_a_face_is_refused():
    write = Writer()
    said = {0x00280302: write.element(0x00280302, "CS", b"YES")}
    with pytest.raises(ObjectRefused, match="face"):
        deidentify(TestObject(extra=said).file(), "", "", context(None))


def table(transform, **more):
    return {
        "sources": [{"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}],
        "profiles": [{"name": "heads", "options": ["modified_dates"], "transform": transform}],
    } | more


def test_settings_name_what_is_installed(blank_block):
    (shown,) = (block for block in re.findall(r"(?ms)^```toml\n(.*?)^```", PAGE) if "settings" in block)
    shown = tomllib.loads(shown)["settings"]["profiles"]
    (profile,) = parse_settings(table("blank-block", profiles=shown)).site_profiles
    assert profile.transform is blank_block
    assert f"`{profile.version}`" in PAGE
    for wrong in ("absent", "broken"):
        with pytest.raises(ConfigError, match="transform"):
            parse_settings(table(wrong))


def test_a_tree_is_cleaned_series_by_series(tmp_path, blank_block):
    source, target, site = tmp_path / "in", tmp_path / "out", tmp_path / "dicom.toml"
    source.mkdir()
    for number in range(3):
        (source / f"{number}.dcm").write_bytes(head(number).file())
    (source / "chest.dcm").write_bytes(TestObject().file())
    site.write_text(
        "[settings]\n[[settings.sources]]\nname = 'main'\nae_title = 'PACS'\nhost = 'pacs'\nport = 104\n"
        "[[settings.profiles]]\nname = 'heads'\noptions = []\ntransform = 'blank-block'\n"
    )
    words = ["deidentify", str(source), str(target), "--site", str(site), "--profile", "heads"]
    result = CliRunner().invoke(group(), words)
    assert result.exit_code == 0, result.output
    assert blank_block.saw == 3
    assert pydicom.dcmread(target / "1.dcm").PixelData[:16] == bytes(16)
    assert pydicom.dcmread(target / "chest.dcm").PixelData[:16] != bytes(16)
    size = sum(each.stat().st_size for each in source.glob("[0-9].dcm"))
    for most, refused in ((size, 0), (size - 1, 3)):
        site.write_text(
            site.read_text().replace("[settings]\n", f"[settings]\nmax_series_bytes = {most}\n", 1)
        )
        cleaned = tmp_path / str(most)
        result = CliRunner().invoke(group(), ["deidentify", str(source), str(cleaned), *words[3:]])
        assert (result.exit_code, len(list(cleaned.iterdir()))) == (bool(refused), 4 - refused)
        assert ("its series" in result.output) == bool(refused)
        site.write_text(site.read_text().replace(f"max_series_bytes = {most}\n", ""))


# --- where files are staged ----------------------------------------------------------------------


@pytest.fixture
def volume():
    images = make_series(SeriesSpec("MR", 6))
    for image in images:
        image.BodyPartExamined, image.SliceThickness = "BRAIN", "1"
    return images


@pytest.fixture
def site(tmp_path, blank_block, volume):
    with PacsSimulator() as pacs:
        pacs.add(volume)
        plugin = DicomPlugin(PluginContext("dicom", settings_of(pacs), tmp_path, SystemClock()))
        yield pacs, plugin, PluginHost(plugin, name="dicom")
        plugin.close()


def settings_of(pacs):
    port = free_port()
    pacs.destinations["MDM1"] = ("127.0.0.1", port)
    source = {"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}
    node = {"ae_title": "MDM1", "port": port}
    return table("blank-block", sources=[source], moves=node, settle_s=0.3)


def stage(host, count):
    release = Release("p", "heads", host.profile_version("heads"))
    files = [FileRef(each.guid, each.plugin_ref, release) for each in host.discover("", release)][:count]
    (batch,) = host.plan(files)
    sink = MemorySink()
    return host.stage(batch, sink, 20), sink


def test_one_file_of_a_series_is_what_the_whole_series_makes_of_it(site, blank_block):
    pacs, plugin, host = site
    outcomes, whole = stage(host, 6)
    assert set(outcomes.values()) == {None}
    assert pacs.moves == 1
    outcomes, one = stage(host, 1)
    assert list(outcomes.values()) == [None]
    assert blank_block.saw == 6
    ((guid, data),) = one.files.items()
    assert whole.files[guid] == data
    assert read(data).RecognizableVisualFeatures == "NO"
    assert json_options(one.slots[guid].report) == ["basic", "modified_dates", "features"]
    assert plugin._budget.held_bytes == 0


def json_options(report):
    return json.loads(report)["options"]


def test_a_series_that_does_not_come_whole_lets_nothing_out(site):
    pacs, plugin, host = site
    pacs.faults.drops_after = 1
    outcomes, sink = stage(host, 6)
    assert None not in outcomes.values()
    assert not sink.files
    assert plugin._budget.held_bytes == 0
    pacs.faults.drops_after = 3
    outcomes, sink = stage(host, 6)  # the rest comes when it is asked for again
    assert set(outcomes.values()) == {None}


def test_what_comes_when_the_visit_is_over_is_not_kept(blank_block):
    budget = MemoryBudget(1 << 20)
    with Delivery(context(blank_block), budget, 1 << 20) as delivery:
        delivery.deliver(Received(bytearray(head(0).file())), None)
        assert budget.held_bytes
    with pytest.raises(NotDelivered):
        delivery.deliver(Received(bytearray(head(1).file())), None)
    assert budget.held_bytes == 0


def test_a_series_beyond_its_bound_is_refused(site):
    _, plugin, host = site
    plugin._settings = msgspec.structs.replace(plugin._settings, max_series_bytes=20_000)
    outcomes, sink = stage(host, 6)
    assert {type(each) for each in outcomes.values()} == {ObjectRefused}
    assert not sink.files


def test_a_defect_of_a_transform_is_told_by_its_class_alone(site, blank_block, monkeypatch):
    _, _, host = site
    monkeypatch.setattr(type(blank_block), "clean", lambda self, images: {}["CANARY"])
    outcomes, sink = stage(host, 6)
    assert {each.message for each in outcomes.values()} == {"de-identification failed"}
    assert not sink.files

"""Where images are handed in: what the configuration has to say before a role starts, and `check` tells."""

import pytest

from srm_dicom.cli.checks import areas
from srm_dicom.daemon.common import Common
from srm_dicom.daemon.inner import check_areas
from srm_dicom.daemon.outer import make_sealed
from srm_dicom.errors import ConfigError
from srm_dicom.scratch.area import ScratchArea

SITE = """
database = "sqlite:///{base}/names.db"
audit = "audit"
projects = "projects.d"
[site]
name = "site"
vo = "vo"
host = "localhost"
[scratch]
directory = "scratch"
sealed_uploads = 3
[catalogues]
keys = []
files = ""
metadata = []
"""
INNER = '[inner]\nsecrets = "s"\ndatabase = "d"\nspool = "p"\nplugins = "plugins.d"\n'
NODE = 'node = "https://localhost:8445"\n'
INTAKE = '[intake]\nstagers = ["/CN=stager"]\n'
AREA = '[[areas]]\npath = "/vo/ingest"\nproject = "heart"\nplugin = "dicom"\nsealed = {}\n'


@pytest.fixture
def common(tmp_path):
    """Read a configuration with more than the least; returns what roles are made with."""

    def read(more, *, plugin_is_sealed="true"):
        for name in ("projects.d", "plugins.d"):
            (tmp_path / name).mkdir(exist_ok=True)
        plugin = f'plugin = "dicom"\nprojects = ["heart"]\nsealed = {plugin_is_sealed}\n'
        (tmp_path / "plugins.d" / "dicom.toml").write_text(plugin)
        config = tmp_path / "srm-dicom.toml"
        config.write_text(SITE.format(base=tmp_path) + more)
        return Common(config, "transfer")

    return read


def test_it_is_off_unless_a_site_says_so(common, tmp_path):
    for more in ("", AREA.format("false")):
        assert make_sealed(common(more), ScratchArea(tmp_path / "scratch")) is None


def test_the_doors_need_an_intake(common, tmp_path):
    area = ScratchArea(tmp_path / "scratch")
    with pytest.raises(ConfigError, match="intake"):
        make_sealed(common(AREA.format("true")), area)
    made = make_sealed(common(INTAKE + AREA.format("true")), area)
    for number in range(3):
        made.open(f"{number:032x}")
    with pytest.raises(Exception, match="too many"):
        made.open("f" * 32)


@pytest.mark.parametrize(
    ("area", "plugin", "node", "said"),
    [
        ("true", "true", NODE, None),
        ("false", "false", "", None),
        ("true", "true", "", "inner.node is missing"),
        ("true", "false", NODE, "differ about `sealed`"),
        ("false", "true", NODE, "differ about `sealed`"),
    ],
)
def test_area_plugin_and_node_agree(common, area, plugin, node, said):
    """An area that is not sealed, of a plugin that is, would have clear images in scratch."""
    made = common(INNER + node + AREA.format(area), plugin_is_sealed=plugin)
    if said is None:
        check_areas(made)
        assert f"{int(area == 'true')} of them for handing in" in areas(made)
        return
    for look in (check_areas, areas):
        with pytest.raises(ConfigError, match=said):
            look(made)


def test_an_area_of_no_plugin_is_found_at_once(common):
    with pytest.raises(ConfigError, match="which plugins"):
        check_areas(common(INNER + AREA.format("true").replace('"dicom"', '"dicon"')))

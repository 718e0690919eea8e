"""Copies between servers that a user's client arranges: our doors and a Globus server, each way."""

import pytest

from srm_dicom.testing.served import DirectoryFiles

GUC = pytest.mark.interop("globus-url-copy")
GFAL = pytest.mark.interop("gfal-copy")
GLOBUS = pytest.mark.interop("globus-gridftp-server")
OPTIONS = ["", "-nodcau", "-p 4", "-p 4 -nodcau", "-dcpriv", "-dcpriv -p 2", "-stripe", "-fast"]


@GLOBUS
@GUC
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["large", "empty"])
def test_from_our_door_to_globus(site, globus, tmp_path, options, name):
    site.succeed("globus-url-copy", *options.split(), f"{site.url}/{name}", f"{globus}{tmp_path}/copy")
    assert (tmp_path / "copy").read_bytes() == (site.root / name).read_bytes()


@GLOBUS
@GUC
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["large", "empty"])
def test_from_globus_to_our_door(site, globus, new_door, tmp_path, options, name):
    with new_door(DirectoryFiles(tmp_path)) as url:
        site.succeed("globus-url-copy", *options.split(), f"{globus}{site.root}/{name}", f"{url}/copy")
    assert (tmp_path / "copy").read_bytes() == (site.root / name).read_bytes()


@GLOBUS
@GUC
@pytest.mark.parametrize("options", ["", "-p 2", "-p 3 -nodcau", "-dcpriv"])
def test_striped_with_globus_of_two_data_nodes(site, striped_globus, new_door, tmp_path, options):
    """SPOR with an address for each node, and connections from each node to our SPAS."""
    command = ["globus-url-copy", "-stripe", *options.split()]
    site.succeed(*command, f"{site.url}/large", f"{striped_globus}{tmp_path}/there")
    assert (tmp_path / "there").read_bytes() == (site.root / "large").read_bytes()
    with new_door(DirectoryFiles(tmp_path)) as url:
        site.succeed(*command, f"{striped_globus}{tmp_path}/there", f"{url}/back")
    assert (tmp_path / "back").read_bytes() == (site.root / "large").read_bytes()


@GUC
@pytest.mark.parametrize("options", OPTIONS)
def test_between_two_of_our_doors(site, new_door, tmp_path, options):
    with new_door(DirectoryFiles(tmp_path)) as url:
        site.succeed("globus-url-copy", *options.split(), f"{site.url}/large", f"{url}/copy")
    assert (tmp_path / "copy").read_bytes() == (site.root / "large").read_bytes()


@GUC
@pytest.mark.parametrize("options", ["", "-pp", "-fast -p 2"])
def test_a_directory_between_two_of_our_doors(site, new_door, tmp_path, options):
    command = ["globus-url-copy", *options.split(), "-cd", "-r"]
    with new_door(DirectoryFiles(tmp_path)) as url:
        site.succeed(*command, f"{site.url}/dir/", f"{url}/copy/")
    here = {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    assert here == {path.name: path.read_bytes() for path in (site.root / "dir").iterdir()}


@GLOBUS
@GFAL
@pytest.mark.parametrize("options", ["-K ADLER32", "-n 4"])
def test_gfal_from_our_door_to_globus(site, globus, tmp_path, options):
    target = tmp_path / "copy"
    site.succeed("gfal-copy", "-f", *options.split(), f"{site.url}/file", f"{globus}{target}")
    assert target.read_bytes() == (site.root / "file").read_bytes()


@GLOBUS
@GFAL
@pytest.mark.parametrize("options", ["-K ADLER32", "-n 4"])
def test_gfal_from_globus_to_our_door(site, globus, new_door, tmp_path, options):
    with new_door(DirectoryFiles(tmp_path)) as url:
        site.succeed("gfal-copy", "-f", *options.split(), f"{globus}{site.root}/file", f"{url}/copy")
    assert (tmp_path / "copy").read_bytes() == (site.root / "file").read_bytes()


@GFAL
@pytest.mark.parametrize("options", ["", "--tcp-buffersize 1048576"])
def test_gfal_between_two_of_our_doors(site, new_door, tmp_path, options):
    with new_door(DirectoryFiles(tmp_path)) as url:
        site.succeed("gfal-copy", "-f", "-K", "ADLER32", *options.split(), f"{site.url}/file", f"{url}/copy")
    assert (tmp_path / "copy").read_bytes() == (site.root / "file").read_bytes()

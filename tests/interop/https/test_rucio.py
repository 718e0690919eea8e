"""A site as a Rucio storage element: Rucio's own class of the WebDAV protocol, driven as by its daemons.

Rucio pins what it needs, so it has an environment of its own: ``.ci/run`` makes ``.venv-rucio``.
"""

import json
import os
from pathlib import Path

import pytest

from srm_dicom.testing.element import ROOT

PYTHON = Path(__file__).parents[3] / ".venv-rucio" / "bin" / "python"

pytestmark = pytest.mark.interop(str(PYTHON.with_name("rucio")))

PROGRAM = """
import json, sys
from rucio.common import exception
from rucio.rse.protocols.webdav import Default

given = json.loads(sys.argv[1])
settings = {"rse": "SITE", "id": "1", "deterministic": True, "sign_url": None, "lfn2pfn_algorithm": "hash"}
attributes = {"scheme": "https", "hostname": "localhost", "port": given["port"], "prefix": given["prefix"],
              "extended_attributes": None, "auth_token": given["token"]}
site = Default(attributes, settings)
site.connect()
(pfn,) = site.lfns2pfns({"scope": "mock", "name": "file"}).values()
assert not site.exists(pfn)
site.put("local", pfn, given["directory"])
assert site.exists(pfn)
print(json.dumps({"pfn": pfn, "stat": site.stat(pfn)}))
site.get(pfn, given["directory"] + "/back")
renamed = pfn + ".renamed"
site.rename(pfn, renamed)
assert site.exists(renamed) and not site.exists(pfn)
assert renamed in site.ls(renamed.rpartition("/")[0])
site.delete(renamed)
try:
    site.delete(renamed)
except exception.SourceNotFound:
    site.close()
"""


@pytest.fixture(params=["X.509", "token"])
def who(request, tokened):
    """What Rucio has to show: a proxy, or a token whose scopes are those that its tokens have."""
    if request.param == "X.509":
        return None
    return tokened.token(f"storage.read:{ROOT} storage.modify:{ROOT}")


def test_the_life_of_a_replica(tokened, tmp_path, who):
    (tmp_path / "local").write_bytes(os.urandom(1_500_001))
    (tmp_path / "rucio.cfg").write_text("[client]\nrucio_host = https://none\nauth_host = https://none\n")
    given = {"port": tokened.port, "token": who, "directory": str(tmp_path), "prefix": ROOT}
    done = tokened.run(
        PYTHON, "-W", "ignore", "-c", PROGRAM, json.dumps(given),
        RUCIO_CONFIG=str(tmp_path / "rucio.cfg"), **({"X509_USER_PROXY": ""} if who else {}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["stat"] == {"filesize": 1_500_001}
    assert told["pfn"].startswith(tokened.url("mock/", "https"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "local").read_bytes()

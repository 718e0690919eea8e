"""``site.json`` as users bring it: what is wrong with it is said, and where it is."""

import json

import pytest

from srm_dicom.client.site import SiteDescription
from srm_dicom.errors import ConfigError

SITE = {
    "name": "hospital",
    "srm": "httpg://se.example.org:8446/srm/managerv2",
    "files": "https://files.example.org:8444",
    "metadata": ["meta.example.org:8822"],
    "keys": ["https://k1.example.org:8450"],
    "signing_keys": ["ab" * 32],
}


def read(tmp_path, **changes):
    path = tmp_path / "site.json"
    path.write_text(json.dumps(SITE | changes))
    return SiteDescription.from_environment({"MDM_SITE": str(path)})


def test_what_a_user_was_given_is_read(tmp_path):
    assert read(tmp_path, certificates="/for/people").signing_keys == ("ab" * 32,)


@pytest.mark.parametrize(
    "changes", [{"signing_keys": ["zz"]}, {"signing_keys": ["ab"]}, {"metadata": []}, {"keys": "one"}]
)
def test_what_is_wrong_is_said(tmp_path, changes):
    (name,) = changes
    with pytest.raises(ConfigError, match=rf"site\.json: .*{name}"):
        read(tmp_path, **changes)

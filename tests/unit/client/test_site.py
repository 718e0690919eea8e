"""``site.json`` as users bring it: what is wrong with it is said, and where it is."""

import json

import pytest

from srm_dicom.client.library import Client
from srm_dicom.client.site import SiteDescription
from srm_dicom.errors import CatalogueUnavailable, ConfigError
from srm_dicom.testing.pki import TestPki

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
    "changes", [{"signing_keys": ["zz"]}, {"signing_keys": ["ab"]}, {"metadata": "one"}, {"keys": "one"}]
)
def test_what_is_wrong_is_said(tmp_path, changes):
    (name,) = changes
    with pytest.raises(ConfigError, match=rf"site\.json: .*{name}"):
        read(tmp_path, **changes)


def test_who_only_needs_keys_needs_no_metadata_server(tmp_path):
    """As the glite-eds commands; who asks for what only such a server tells is told that there is none."""
    credential = TestPki(tmp_path / "pki", fast=True).user("alice")
    with Client(read(tmp_path, metadata=[]), credential) as client:
        for ask in (client.whoami, lambda: client.find("")):
            with pytest.raises(CatalogueUnavailable, match="no metadata server is configured"):
                ask()

"""``srm-dicom check``: key servers on one machine are one administration that holds two shares."""

import socket
from types import SimpleNamespace

import pytest

from mdm_keys.server import KeyServerSettings, public_key
from srm_dicom.cli import checks
from srm_dicom.config import Catalogues
from srm_dicom.demo.site import DemoSite
from srm_dicom.web.hosting import settings_of

OWN = socket.gethostbyname(socket.gethostname())
APART = ("https://192.0.2.1:8450", "https://192.0.2.2:8450", "https://192.0.2.3:8450")


def look(keys, threshold=2, **more):
    catalogues = Catalogues(keys=keys, threshold=threshold, files="", metadata=(), **more)
    return checks._apart(SimpleNamespace(config=SimpleNamespace(catalogues=catalogues)))


def test_servers_apart():
    assert look(APART) == "2 of 3 needed"


@pytest.mark.parametrize(
    "keys",
    [
        (*APART[:2], "https://192.0.2.1:8451"),
        ("https://localhost:8450", "https://127.0.0.1:8451"),
        (*APART, "https://[::ffff:192.0.2.9]:1", "https://[::ffff:192.0.2.9]:2"),
        ("https://127.0.0.1:8450", "https://127.0.0.2:8450"),
        ("https://127.0.0.1:8450", "https://[::1]:8450"),
        ("https://[::ffff:127.0.0.1]:8450", f"https://{OWN}:8450"),
    ],
)
def test_two_on_one_machine_fail_outside_of_a_trial(keys):
    with pytest.raises(ValueError, match="one machine"):
        look(keys)
    assert "for trying out only" in look(keys, one_machine=True)


def test_a_threshold_of_one_lets_each_server_read_all():
    with pytest.raises(ValueError, match="each of them could read every file"):
        look(APART, 1)
    assert "2 of 3" in look(APART, 2)
    assert "each of them could read every file" in look(APART, 1, one_machine=True)


def test_the_key_servers_of_the_demo_are_peers(tmp_path):
    """Or `srm-dicom keys reshare` fails on the first site that anybody tries it on."""
    demo = DemoSite(tmp_path)
    demo.write()
    settings = [
        settings_of(tmp_path / "etc/catalog.d" / f"{name}.toml", KeyServerSettings)[1]
        for name in demo.key_servers
    ]
    own = [public_key(one.database).hex() for one in settings]
    assert len(set(own)) == 3
    assert [set(one.peers) for one in settings] == [{*own} - {key} for key in own]


@pytest.mark.parametrize("threshold", [0, 4])
def test_an_impossible_threshold(threshold):
    with pytest.raises(ValueError, match="makes no sense"):
        look(APART, threshold)


def test_the_check_of_a_whole_site_fails_when_it_is_no_demo(tmp_path):
    demo = DemoSite(tmp_path)
    demo.write()

    def check():
        return next(one for one in checks.run(demo.config) if one.name == "key servers")

    assert check().passed
    text = demo.config.read_text()
    assert "one_machine = true" in text
    demo.config.write_text(text.replace("one_machine = true", "one_machine = false"))
    assert not check().passed
    assert "it would hold two shares" in check().detail

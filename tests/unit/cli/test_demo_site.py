"""A site of the demo whose directory is used again: names that it gave out lead to it."""

import socket

from srm_dicom.demo.site import DemoSite


def test_a_site_that_is_opened_again_is_where_it_was(tmp_path):
    first = DemoSite(tmp_path)
    first.write()
    assert DemoSite(tmp_path).ports == first.ports, "SURLs in the catalogues have them"
    with socket.create_server(("", first.ports["srm"])):
        assert set(DemoSite(tmp_path).ports.values()).isdisjoint(first.ports.values())


def test_what_is_left_of_another_version_is_no_hindrance(tmp_path):
    (tmp_path / "ports.json").write_text('{"srm": 1}')
    DemoSite(tmp_path).write()
    again = DemoSite(tmp_path)
    (tmp_path / "ports.json").write_text("nonsense")
    assert set(DemoSite(tmp_path).ports) == set(again.ports)

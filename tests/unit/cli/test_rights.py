"""``srm-dicom rights``: what goes wrong with one project or key keeps no other from its rights."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from srm_dicom.cli import rights
from srm_dicom.errors import CatalogueUnavailable, InvalidRequest
from srm_dicom.rights.acl import Acl, Tag
from srm_dicom.rights.project import Member, Project


def project(name: str) -> Project:
    members = (Member(Tag.USER, "/CN=a", frozenset(["search"])),)
    return Project(name, "permit", "purpose", "basic", "basis", datetime(2099, 1, 1, tzinfo=UTC), members)


class Server:
    """A metadata server that has trouble with one collection."""

    endpoint = "here:8822"

    def __init__(self, error: type[Exception]) -> None:
        self.error, self.acls = error, {}

    def has(self, _collection: str) -> bool:
        return True

    def set_acl(self, collection: str, acl: Acl) -> None:
        if "/b" in collection:
            raise self.error("no")
        self.acls[collection] = acl

    def set_valid_until(self, collection: str, end: datetime) -> None:
        pass


@pytest.mark.parametrize(("error", "done"), [(InvalidRequest, 2), (CatalogueUnavailable, 1)])
def test_a_project_that_a_server_refuses_keeps_no_other_from_its_rights(
    error: type[Exception], done: int
) -> None:
    projects = {name: project(name) for name in "abc"}
    site = SimpleNamespace(vo="vo", name="site", host="host")
    config = SimpleNamespace(site=site, srm=SimpleNamespace(port=1))
    server = Server(error)
    told = rights._of_server(SimpleNamespace(projects=projects, config=config), server, "abc")
    assert (told.done, told.known, len(server.acls), type(told.error)) == (done, done + 1, done, error)

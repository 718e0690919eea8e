"""A SURL of another site is told to be that, and no file of the same path here."""

from __future__ import annotations

from typing import Any

import pytest

from srm_dicom.broker.surls import OwnSurls
from srm_dicom.broker.views import FileState, PutWish, RequestKind, Wish
from srm_dicom.errors import ConfigError, NotFound
from srm_dicom.ids import Surl, parse_path
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.operations import OPERATIONS
from srm_dicom.srm.service import answer
from srm_dicom.srm.types import T

OTHER = "srm://other.example.org:8446/srm/managerv2?SFN=/vo/data/a.dat"
OWN = "srm://se.example.org:8446/srm/managerv2?SFN=/vo/data/a.dat"

SEVERAL = {
    "srmLs": {},
    "srmRm": {},
    "srmCheckPermission": {},
    "srmGetPermission": {},
    "srmReleaseFiles": {},
    "srmExtendFileLifeTime": {"newFileLifeTime": 10},
}
"""Operations on many names, without a token, and what else they need."""

SINGLE = {
    "srmMkdir": {},
    "srmRmdir": {},
    "srmMv": {"fromSURL": OTHER, "toSURL": OWN},
    "srmSetPermission": {"SURL": OTHER, "permissionType": "CHANGE", "ownerPermission": "RW"},
}


@pytest.mark.parametrize("text", [OTHER, "srm://other.example.org/vo/data/a.dat"])
@pytest.mark.parametrize("operation", SEVERAL)
def test_another_sites_surl_is_an_invalid_path_at_file_level(site: Any, operation: str, text: str) -> None:
    site.store("a.dat")
    response = call(site, operation, arrayOfSURLs=T.ArrayOfAnyURI(urlArray=[text]), **SEVERAL[operation])
    assert response.returnStatus.statusCode == "SRM_FAILURE"
    (status,) = file_statuses(response)
    assert status.statusCode == "SRM_INVALID_PATH"
    assert "another storage element" in status.explanation
    assert "se.example.org:8446" in status.explanation
    assert exists(site)


@pytest.mark.parametrize("operation", SINGLE)
def test_another_sites_surl_is_an_invalid_path_where_there_is_only_one(site: Any, operation: str) -> None:
    site.store("a.dat")
    with pytest.raises(NotFound, match="another storage element"):
        call(site, operation, **(SINGLE[operation] or {"SURL": OTHER}))
    assert exists(site)


def test_nothing_moves_to_another_site(site: Any) -> None:
    site.store("a.dat")
    with pytest.raises(NotFound, match="another storage element"):
        call(site, "srmMv", fromSURL=OWN, toSURL="srm://other.example.org/vo/data/b.dat")
    assert exists(site)


def test_another_sites_file_is_neither_read_nor_written_here(site: Any) -> None:
    site.store("a.dat")
    view = site.broker.submit(site.who(), Wish(RequestKind.GET, (OTHER, OWN)))
    assert [file.state for file in view.files] == [FileState.FAILED, FileState.PINNED]
    assert isinstance(view.files[0].failure, NotFound)
    view = site.broker.puts.submit(site.who(), PutWish(RequestKind.PUT, (OTHER.replace("a.dat", "b.dat"),)))
    assert [file.state for file in view.files] == [FileState.FAILED]


def test_another_sites_surl_names_no_file_of_a_request(site: Any) -> None:
    site.store("a.dat")
    view = site.broker.submit(site.who(), Wish(RequestKind.GET, (OWN,)))
    (file,) = site.broker.release(site.who(), view.token, [OTHER])
    assert isinstance(file.failure, NotFound)
    (file,) = site.broker.status(site.who(), view.token, None).files
    assert file.state is FileState.PINNED


def test_a_surl_is_own_by_its_host() -> None:
    surls = OwnSurls("se.example.org:8446", ["old-se.example.org"])
    for authority in (
        "se.example.org",
        "SE.Example.ORG:8446",
        "se.example.org.:8443",
        "old-se.example.org:1",
    ):
        assert isinstance(surls.parse(f"srm://{authority}/a"), Surl), authority
    for authority in ("example.org", "old-se", "localhost", "127.0.0.1:8446", "h:x", "["):
        assert isinstance(surls.parse(f"srm://{authority}/a"), NotFound), authority


def test_a_copy_tells_two_servers_of_one_host_apart() -> None:
    surls = OwnSurls("se.example.org:8446", ["old-se.example.org", "se.example.org:8443"])
    own = (
        "se.example.org",
        "SE.Example.ORG:8446",
        "se.example.org.:8446",
        "se.example.org:8443",
        "old-se.example.org:1",
    )
    for authority in own:
        assert surls.has(f" SRM://{authority}/a"), authority
    for authority in ("se.example.org:8444", "example.org", "localhost", "127.0.0.1:8446", "h:x", "["):
        assert not surls.has(f"srm://{authority}/a"), authority
    assert not surls.has("https://se.example.org:8446/a")


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1:1", "[::1]:1"])
def test_a_site_on_loopback_has_all_its_names(host: str) -> None:
    surls = OwnSurls(host)
    for name in ("localhost", "127.0.0.1:1", "[::1]:1"):
        assert surls.has(f"srm://{name}/a"), name
    assert not surls.has("srm://127.0.0.1:2/a")


@pytest.mark.parametrize("alias", ["", "a:b", "srm://a", ":8446", "a/b"])
def test_an_alias_that_is_no_host_is_refused_at_start(alias: str) -> None:
    with pytest.raises(ConfigError):
        OwnSurls("se.example.org", [alias])


def call(site: Any, operation: str, **fields: Any) -> Any:
    """Call an operation as the service does."""
    chosen = OPERATIONS[operation]
    return answer(chosen, T[chosen.request](**fields), Caller(site.who(), site.broker))


def exists(site: Any) -> bool:
    return site.stores.namespace.find(parse_path("/vo/data/a.dat")) is not None


def file_statuses(response: Any) -> list[Any]:
    """Return the statuses of the files of any response that has some."""
    names = ("details", "arrayOfFileStatuses", "arrayOfPermissions", "arrayOfPermissionReturns")
    holder = next(value for name in names if (value := getattr(response, name, None)) is not None)
    (files,) = [value for value in vars(holder).values() if isinstance(value, list)]
    return [getattr(file, "status", None) or file.returnStatus for file in files]

"""What the doors tell of names: who may change them, and what must not come over a network in clear."""

import pytest

from srm_dicom.broker.views import PutWish, RequestKind
from srm_dicom.errors import NotFound
from srm_dicom.ids import SitePath, parse_path
from srm_dicom.store.namespace import Namespace
from srm_dicom.transfer import served
from srm_dicom.wire.gridftp.facts import permissions

TOP = "/vo/data"


def told(site, path, by):
    """Return Perm of a name, as MLST tells it and as MLSD of its directory does."""
    single = site.served.stat(site.who(by), parse_path(path))
    directory = path.rpartition("/")[0] or "/"
    listed = {one.path: one for one in site.served.listdir(site.who(by), parse_path(directory))}
    assert permissions(listed[path]) == permissions(single)
    return permissions(single)


@pytest.fixture
def filled(site):
    site.store("file")
    site.written.mkdir(site.who("Alice"), parse_path(f"{TOP}/dir"))
    return site


@pytest.mark.parametrize(
    ("path", "by", "letters"),
    [
        (f"{TOP}/file", "Alice", "dfrw"),
        (f"{TOP}/file", "Bob", "dfrw"),
        (f"{TOP}/file", "Reader", "r"),
        (f"{TOP}/dir", "Alice", "cdeflmp"),
        (f"{TOP}/dir", "Reader", "el"),
        (TOP, "Alice", "celmp"),
        (TOP, "Reader", "el"),
        ("/vo", "Alice", "el"),
    ],
)
def test_perm_is_what_the_caller_may_do(filled, path, by, letters):
    """RFC 3659, 7.5.5."""
    wanted = "".join(sorted(letters))
    if path != "/vo":
        assert told(filled, path, by) == wanted
    assert permissions(filled.served.stat(filled.who(by), parse_path(path))) == wanted


def test_perm_speaks_the_truth(filled):
    """What Perm grants is done, and what it does not grant is refused."""
    reader, alice = filled.who("Reader"), filled.who("Alice")
    path = parse_path(f"{TOP}/file")
    with pytest.raises(Exception, match="may not"):
        filled.written.remove(reader, path, directory=False)
    filled.written.rename(alice, path, parse_path(f"{TOP}/other"))
    filled.written.remove(alice, parse_path(f"{TOP}/other"), directory=False)


@pytest.mark.parametrize(
    ("path", "by", "sealed"),
    [
        ("/vo/sealed/new", "Alice", True),
        ("/vo/sealed/new", "Bob", False),
        ("/vo/sealed/new", "Reader", False),
        ("/vo/sealed/new", "Stranger", False),
        (f"{TOP}/new", "Alice", False),
        ("/elsewhere/new", "Alice", False),
        ("/.upload/none", "Alice", False),
    ],
)
def test_who_may_write_into_a_sealed_area_hears_that_it_is_one(site, path, by, sealed):
    assert site.written.private_only(site.who(by), SitePath(path)) is sealed


def test_the_turl_of_an_upload_into_a_sealed_area_is_private_too(site):
    wish = PutWish(RequestKind.PUT, ("srm://se.example.org/vo/sealed/new",), ("https",))
    view = site.broker.puts.submit(site.who("Alice"), wish)
    path = parse_path(view.files[0].turl.removeprefix("https://node:8443"))
    assert site.written.private_only(site.who("Alice"), path)
    assert not site.written.private_only(site.who("Bob"), path)


def test_a_directory_of_many_pages_is_listed_in_order_and_held_by_the_page(site, monkeypatch):
    monkeypatch.setattr(served, "_PAGE", 3)
    for count in range(8):
        wanted = [f"{TOP}/{number}" for number in range(count)]
        assert [one.path for one in site.served.listdir(site.who(), parse_path(TOP))] == wanted
        site.broker.names.make_directory(site.who(), parse_path(f"{TOP}/{count}"), "mkdir")
    read = []
    page = Namespace.pages

    def reading(*arguments):
        for entries in page(*arguments):
            read.append(len(entries))
            yield entries

    monkeypatch.setattr(Namespace, "pages", reading)
    listing = iter(site.served.listdir(site.who(), parse_path(TOP)))
    next(listing)
    assert read == [3]
    with pytest.raises(NotFound):
        site.served.listdir(site.who("Stranger"), parse_path(TOP))

"""The tar that is computed is, byte for byte, the tar that `tarfile` writes."""

import io
import random
import tarfile
import zlib

import pytest

from srm_dicom.ids import SitePath
from srm_dicom.wire.bundle import Bundle, Member, adler32_joined

DIRECTORY = SitePath("/vo/study/series")


def contents(sizes, names=None):
    draw = random.Random(1)
    names = names or [f"{number:03d}.dcm.c4gh" for number in range(len(sizes))]
    return {name: draw.randbytes(size) for name, size in zip(names, sizes, strict=True)}


def bundle_of(files):
    members = [Member(name, len(data), f"{zlib.adler32(data):08x}") for name, data in files.items()]
    return Bundle(DIRECTORY, members)


def written(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(f"series/{name}")
            info.size = len(files[name])
            tar.addfile(info, io.BytesIO(files[name]))
    return out.getvalue()


def read(bundle, files, start, end):
    data = [files[member.name] for member in bundle.members]
    pieces = bundle.cut(start, end)
    return b"".join(
        (bundle.filler if one.member is None else data[one.member])[one.start : one.end] for one in pieces
    )


@pytest.mark.parametrize("sizes", [[0], [1], [512], [511, 513, 0, 512], [9000] * 30, [70_000, 3]])
def test_it_is_what_tarfile_writes(sizes):
    files = contents(sizes)
    bundle, wanted = bundle_of(files), written(files)
    assert read(bundle, files, 0, bundle.size_bytes) == wanted
    assert bundle.size_bytes == len(wanted)
    assert bundle.adler32 == f"{zlib.adler32(wanted):08x}"


def test_members_are_sorted_and_may_have_long_names():
    names = ["b.dcm.c4gh", "a" * 200 + ".dcm.c4gh", "A.dcm.c4gh"]
    files = contents([10, 20, 30], names)
    bundle = bundle_of(files)
    assert [member.name for member in bundle.members] == sorted(names)
    with tarfile.open(fileobj=io.BytesIO(read(bundle, files, 0, bundle.size_bytes))) as tar:
        assert tar.getnames() == [f"series/{name}" for name in sorted(names)]
        assert {info.mtime for info in tar} == {0}


def test_any_part_of_it():
    files = contents([700, 0, 512, 5000])
    bundle, whole = bundle_of(files), written(files)
    draw = random.Random(2)
    edges = sorted({0, len(whole), *bundle.offsets, *(draw.randrange(len(whole)) for _ in range(40))})
    for start in edges:
        for end in edges:
            assert read(bundle, files, start, end) == whole[start:end]


def test_a_member_begins_at_its_offset():
    files = contents([700, 0, 512, 5000])
    whole, bundle = written(files), bundle_of(files)
    for member, offset in zip(bundle.members, bundle.offsets, strict=True):
        assert whole[offset : offset + member.size_bytes] == files[member.name]


@pytest.mark.parametrize("size", [0, 1, 65_520, 65_521, 65_522, 1_000_003])
def test_checksums_join(size):
    first, second = random.Random(3).randbytes(777), b"\xff" * size
    joined = adler32_joined(zlib.adler32(first), zlib.adler32(second), size)
    assert joined == zlib.adler32(first + second)

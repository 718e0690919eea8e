"""The bytes of a release never change: other bytes need another profile version.

When a test here fails because a rule or a table was changed on purpose, give `profile.VERSION` a new
value and pin what that version makes.
"""

import hashlib

import pytest
from pydicom.data import get_testdata_file

from srm_dicom.rights.project import Release
from srm_dicom.testing.dicom_bytes import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, TestObject, Writer
from srm_plugin_dicom.deidentify import PROFILES, Context, PixelPolicy, Trust, deidentify
from srm_plugin_dicom.deidentify.profile import VERSION, profile

RULES = {"v1": "78d8c7c751a92368fcf9ca19e892ea43a4b286ab8805b4cf39add63c706a02c7"}
OUTPUTS = {"v1": "8d9a6bd1099f55aed119949af3d403642e7e3c4909a5828fd04d96e1a5f50be2"}
REAL = ("CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm")


def objects():
    for syntax in (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED):
        write = Writer(syntax)
        dated = {
            tag: write.element(tag, vr, value)
            for tag, vr, value in (
                (0x00080020, "DA", b"20040119"),
                (0x0008002A, "DT", b"20040119072730"),
                (0x00080080, "LO", b"Hospital"),
                (0x00101010, "AS", b"093Y"),
                (0x00180050, "DS", b"5.0\0"),
                (0x00181000, "LO", b"SN-0815"),
            )
        }
        yield TestObject(write, extra=dated).file()
    for name in REAL:
        with open(get_testdata_file(name), "rb") as file:  # noqa: PTH123
            yield file.read()


def digest_of_rules():
    total = hashlib.sha256()
    for name in PROFILES:
        for tag, rule in sorted(profile(name).rules.items()):
            total.update(repr((name, tag, rule.vrs, rule.action.name, rule.check, rule.most)).encode())
    return total.hexdigest()


def digest_of_outputs():
    total = hashlib.sha256()
    policy = PixelPolicy(clean=(Trust(""),), recognizable=True)
    for name in PROFILES:
        context = Context(b"k" * 32, Release("p", name, VERSION), policy)
        for data in objects():
            total.update(bytes(deidentify(data, "", "", context)))
    return total.hexdigest()


@pytest.mark.parametrize(("pinned", "digest"), [(RULES, digest_of_rules), (OUTPUTS, digest_of_outputs)])
def test_a_version_makes_what_it_always_made(pinned, digest):
    assert digest() == pinned[VERSION]

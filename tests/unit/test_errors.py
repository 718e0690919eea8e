"""Every leaf of the error tree has its place in the table of every edge."""

import importlib

import pytest

from srm_dicom.errors import MdmError, leaves

TABLES = {
    "SRM status": ("srm_dicom.srm.status", "ERROR_STATUS"),
    "FTP reply": ("srm_dicom.transfer.replies", "TABLE"),
    "HTTP status": ("srm_dicom.web.problems", "STATUS"),
    "exit code": ("srm_dicom.cli.exits", "EXIT_CODES"),
}


@pytest.mark.parametrize("edge", TABLES)
def test_every_leaf_is_in_the_table(edge):
    module, name = TABLES[edge]
    table = getattr(importlib.import_module(module), name)
    assert set(leaves()) == set(table)


def test_families_are_told_apart():
    for leaf in leaves():
        family = leaf.__mro__[-5] if MdmError in leaf.__mro__ else None
        assert family is not None, leaf
        assert leaf.__mro__[leaf.__mro__.index(MdmError) - 1].__name__ in {
            "CallerError",
            "SiteError",
            "SourceError",
            "KeyServerError",
        }


def test_a_message_is_one_line_and_advice_stands_apart():
    for leaf in leaves():
        error = leaf("what and why", advice="do this")
        assert str(error) == error.message == "what and why"
        assert error.advice == "do this"

"""The table of operations: complete, each with a declared right, each answered in its own type."""

from __future__ import annotations

import pytest

from srm_dicom.rights.declare import OpenAccess, Right
from srm_dicom.srm.contract import contract
from srm_dicom.srm.operations import OPERATIONS

FIRST_CUT = {
    "srmPing",
    "srmGetTransferProtocols",
    "srmLs",
    "srmPrepareToGet",
    "srmStatusOfGetRequest",
    "srmReleaseFiles",
    "srmAbortRequest",
}


def test_table_is_the_contract() -> None:
    assert tuple(OPERATIONS) == contract().operations
    assert all({op.request, op.response} <= contract().types.keys() for op in OPERATIONS.values())


@pytest.mark.parametrize("name", contract().operations)
def test_every_operation_declares_a_right(name: str) -> None:
    assert isinstance(OPERATIONS[name].right, Right | OpenAccess)


def test_what_is_done() -> None:
    assert {op.name for op in OPERATIONS.values() if op.since} >= FIRST_CUT
    assert all(op.how for op in OPERATIONS.values())


@pytest.mark.parametrize("name", sorted(op.name for op in OPERATIONS.values() if not op.since))
@pytest.mark.parametrize("inner", ["", "<requestToken>x</requestToken><nonsense/>"])
def test_the_rest_is_not_supported_and_never_a_fault(site, name: str, inner: str) -> None:
    answer = site.call(name, inner)
    assert answer.code == "SRM_NOT_SUPPORTED"
    assert answer.text("returnStatus/explanation")

"""The table of operations: complete, each with a declared right, each answered in its own type."""

from __future__ import annotations

import pytest

from srm_dicom.rights.declare import OpenAccess, Right
from srm_dicom.srm.contract import contract
from srm_dicom.srm.operations import OPERATIONS


def test_table_is_the_contract() -> None:
    assert tuple(OPERATIONS) == contract().operations
    assert all({op.request, op.response} <= contract().types.keys() for op in OPERATIONS.values())


@pytest.mark.parametrize("name", contract().operations)
def test_every_operation_declares_a_right(name: str) -> None:
    assert isinstance(OPERATIONS[name].right, Right | OpenAccess)


def test_every_operation_is_told_of() -> None:
    assert all(op.since and op.how for op in OPERATIONS.values())

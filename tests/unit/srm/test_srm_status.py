"""Every error and every mixture of file states has its TStatusCode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom import errors
from srm_dicom.broker.views import FileState, FileView, RequestKind
from srm_dicom.srm import status
from srm_dicom.srm.contract import contract
from srm_dicom.store.requestrows import WORST_FIRST

Q, I, P, R = FileState.QUEUED, FileState.IN_PROGRESS, FileState.PINNED, FileState.RELEASED  # noqa: E741
E, F, A = FileState.EXPIRED, FileState.FAILED, FileState.ABORTED


def test_every_leaf_has_a_status_of_the_standard() -> None:
    assert set(status.ERROR_STATUS) == set(errors.leaves())
    assert set(status.ERROR_STATUS.values()) <= set(contract().enums["TStatusCode"])


def test_every_file_state_has_a_status_of_the_standard() -> None:
    assert sorted(WORST_FIRST, key=str) == sorted(FileState, key=str)
    assert set(status.STATE_STATUS) == set(FileState)
    assert set(status.STATE_STATUS.values()) <= set(contract().enums["TStatusCode"])


def test_internal_error_only_for_what_may_heal() -> None:
    healing = {leaf for leaf, code in status.ERROR_STATUS.items() if code == "SRM_INTERNAL_ERROR"}
    assert healing == {
        errors.Overloaded,
        errors.CatalogueUnavailable,
        errors.KeyServerUnavailable,
        errors.KeyQuorumMissing,
    }


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([Q, Q], "SRM_REQUEST_QUEUED"),
        ([Q, I], "SRM_REQUEST_INPROGRESS"),
        ([Q, F], "SRM_REQUEST_INPROGRESS"),
        ([P, I], "SRM_REQUEST_INPROGRESS"),
        ([P, P], "SRM_SUCCESS"),
        ([P, R], "SRM_SUCCESS"),
        ([R], "SRM_SUCCESS"),
        ([P, F], "SRM_PARTIAL_SUCCESS"),
        ([R, A], "SRM_PARTIAL_SUCCESS"),
        ([P, E], "SRM_PARTIAL_SUCCESS"),
        ([F, F], "SRM_FAILURE"),
        ([F, A], "SRM_FAILURE"),
        ([A, A], "SRM_ABORTED"),
        ([E], "SRM_REQUEST_TIMED_OUT"),
    ],
)
def test_request_follows_from_its_files(states: list[FileState], code: str) -> None:
    assert status.of_request(states).statusCode == code


WAITING = (Q, I, FileState.STORING)


@given(st.lists(st.sampled_from(FileState), min_size=1))
def test_request_status_waits_exactly_while_a_file_waits(states: list[FileState]) -> None:
    code = status.of_request(states).statusCode
    assert (code in ("SRM_REQUEST_QUEUED", "SRM_REQUEST_INPROGRESS")) == any(s in WAITING for s in states)
    assert status.of_request(states[::-1]).statusCode == code, "order does not matter"


def test_bring_online_succeeds_where_get_pins() -> None:
    pinned = FileView("srm://h/f", P)
    assert status.of_file(pinned, RequestKind.GET).statusCode == "SRM_FILE_PINNED"
    assert status.of_file(pinned, RequestKind.BRING_ONLINE).statusCode == "SRM_SUCCESS"


def test_waiting_file_tells_why() -> None:
    waiting = FileView("srm://h/f", I, explanation="the archive does not answer; asked again")
    told = status.of_file(waiting, RequestKind.GET)
    assert (told.statusCode, told.explanation) == (
        "SRM_REQUEST_INPROGRESS",
        "the archive does not answer; asked again",
    )


def test_source_that_stayed_away_is_failure_at_the_deadline() -> None:
    failed = FileView("srm://h/f", F, failure=errors.SourceUnavailable("the archive did not answer in time"))
    assert status.of_file(failed, RequestKind.GET).statusCode == "SRM_FAILURE"

import json

import pytest

from srm_dicom import errors
from srm_dicom.web.problems import STATUS, Problem, error_of


def test_every_leaf_has_a_status():
    assert set(STATUS) == set(errors.leaves())


@pytest.mark.parametrize("leaf", list(errors.leaves()))
def test_a_problem_is_read_back_as_the_leaf_that_it_was(leaf):
    error = leaf("what and why", advice="what to do")
    problem = Problem.of(error)
    again = error_of(problem.status, problem.body())
    assert (type(again), again.message, again.advice) == (leaf, error.message, error.advice)
    assert json.loads(problem.body())["status"] == problem.status


@pytest.mark.parametrize(
    ("status", "leaf"),
    [
        (401, errors.NotAuthenticated),
        (404, errors.NotFound),
        (418, errors.InvalidRequest),
        (599, errors.InternalError),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error": "Sabotage", "detail": "x"}', b'{"error": []}']
)
def test_another_servers_refusal_goes_by_its_status(status, leaf, body):
    assert type(error_of(status, body)) is leaf

import pytest

from srm_dicom import errors
from srm_dicom.transfer.replies import TABLE, reply_for


def test_every_leaf_of_the_tree_has_a_reply():
    assert set(TABLE) == set(errors.leaves())


@pytest.mark.parametrize("leaf", list(errors.leaves()), ids=lambda leaf: leaf.__name__)
def test_every_reply_is_a_refusal_with_a_text(leaf):
    reply = reply_for(leaf("what and why"))
    assert 400 <= reply.code < 600
    assert all(reply.lines)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.NotFound("x"), "No such file or directory"),
        (errors.NotAuthorised("x"), "Permission denied"),
        (errors.NotADirectory("x"), "Not a directory"),
    ],
)
def test_the_words_that_gfal_maps(error, words):
    assert reply_for(error).encode()[0].decode() == f"550-GridFTP-Error-String: {words}\r\n"


def test_absent_and_forbidden_cannot_be_told_apart():
    assert reply_for(errors.NotFound("no such name")) == reply_for(
        errors.NotFound("the caller may not see it", advice="Ask Alice.")
    )

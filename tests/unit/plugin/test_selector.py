"""The selector language and its matching."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.errors import InvalidRequest
from srm_plugin_dicom.selector import Level, Selector, matches, parse_selector


def test_words() -> None:
    selector = parse_selector('source=main Modality=CT StudyDate=20240101-20240201 SeriesDescription="a b*"')
    assert selector == Selector(
        "main", {"Modality": "CT", "StudyDate": "20240101-20240201", "SeriesDescription": "a b*"}
    )
    assert selector.at(Level.STUDY) == {"StudyDate": "20240101-20240201"}
    assert selector.query(Level.STUDY)["ModalitiesInStudy"] == "CT"
    assert parse_selector("") == Selector("", {})


@pytest.mark.parametrize(
    "text",
    ["Modality", "=CT", "Modality=", "Modality=CT Modality=MR", "PixelData=1", 'x="', "a=" + "b" * 9000],
)
def test_nonsense(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_selector(text)
    assert "bbb" not in caught.value.message


@given(st.text(max_size=50))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        parse_selector(text)
    except InvalidRequest:
        return


@pytest.mark.parametrize(
    ("keyword", "wanted", "value", "expected"),
    [
        ("Modality", "CT", "CT", True),
        ("Modality", "CT", "ct", False),
        ("Modality", "CT\\MR", "MR", True),
        ("Modality", "CT", "", False),
        ("ModalitiesInStudy", "SR", "CT\\SR", True),
        ("SeriesDescription", "*thorax?", "CT thorax1", True),
        ("SeriesDescription", "*", "", False),
        ("SeriesDescription", "a.c", "abc", False),
        ("PatientName", "canary*", "CANARY^PATIENT", True),
        ("StudyDate", "20240101-20240131", "20240131", True),
        ("StudyDate", "20240101-", "20231231", False),
        ("StudyDate", "-20240101", "20231231", True),
        ("StudyDate", "20240101-20240131", "", False),
        ("StudyDate", "20240117", "20240117", True),
    ],
)
def test_matching(keyword: str, wanted: str, value: str, expected: bool) -> None:
    assert matches(keyword, wanted, value) is expected

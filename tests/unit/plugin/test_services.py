"""The conformance table is what the receiver negotiates."""

import re
import tomllib
from pathlib import Path

import pytest

from srm_plugin_dicom import negotiation
from srm_plugin_dicom.pdu import ContextAnswer, ProposedContext
from srm_plugin_dicom.services import SERVICES, Service, as_markdown
from srm_plugin_dicom.settings import parse_settings


@pytest.mark.parametrize(
    "service", [each for each in SERVICES if each.role == "SCP"], ids=lambda each: each.name
)
def test_the_receiver_takes_what_the_table_says(service: Service) -> None:
    abstract = (
        service.sop_class + "1.1.2" if service.sop_class.endswith(".4.") else service.sop_class.rstrip(".")
    )
    if service.sop_class.endswith(".2."):
        abstract += ".2.1"
    proposed = ProposedContext(1, abstract, ("1.2.840.10008.1.2.1",))
    assert (negotiation.answer(proposed).answer == ContextAnswer.ACCEPTED) is service.supported


def test_every_service_is_told() -> None:
    text = as_markdown()
    assert text.count("\n") == len(SERVICES) + 2
    assert all(each.name in text for each in SERVICES)


def test_the_example_is_accepted_with_every_comment_taken_out() -> None:
    text = (Path(__file__).parents[3] / "etc" / "plugins.d" / "dicom.toml").read_text(encoding="utf-8")
    uncommented = re.sub(r"^# (?=(\[|[a-z_]+ = ))", "", text, flags=re.MULTILINE)
    # Scalars that stand commented after a table's head belong to that table; all heads are in place.
    plain, full = (
        parse_settings(tomllib.loads(text)["settings"]),
        parse_settings(tomllib.loads(uncommented)["settings"]),
    )
    assert plain.sources[0].ae_title == full.sources[0].ae_title == "PACS"
    assert full.peers[0].source == "main"
    assert full.pixels.policy("heart").recognizable
    assert full.sources[0].store_ae_titles == ("PACSOUT",)

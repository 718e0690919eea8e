"""What is registered, and where the words that name it stand."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from srm_dicom.cli import operate
from srm_dicom.cli.admin import main

WORDS = "PatientID=4711 Modality=CT"


class Registrar:
    """Is asked for nothing but to look."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def discover(self, plugin: str, selector: str) -> list[int]:
        self.asked.append((plugin, selector))
        return [3]

    def step(self) -> bool:
        return False

    def pending(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("word", "told"), [(WORDS, ""), ("-", f"{WORDS}\n"), ("-", "PatientID=4711\nModality=CT")]
)
def test_a_selector_may_come_by_standard_input(
    word: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Everybody on a machine can read the words of a command."""
    registrar = Registrar()
    monkeypatch.setattr(operate, "make_registrar", lambda _common: registrar)
    monkeypatch.setattr(operate, "Common", lambda *_: None)
    config = tmp_path / "srm-dicom.toml"
    config.touch()
    said = CliRunner().invoke(
        main, ["register", "--config", str(config), "--plugin", "dicom", word], input=told
    )
    assert said.exit_code == 0, said.output
    ((plugin, selector),) = registrar.asked
    assert (plugin, selector.split()) == ("dicom", WORDS.split())

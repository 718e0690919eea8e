"""The examples that an administrator copies are accepted, and show every key with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mdm_files.settings import FileCatalogueSettings
from mdm_keys.server import KeyServerSettings
from mdm_metadata.settings import MetadataSettings
from srm_dicom.config import CatalogueFile, read

EXAMPLES = Path(__file__).parents[3] / "etc" / "catalog.d"
SETTINGS = {"files": FileCatalogueSettings, "metadata": MetadataSettings, "keys": KeyServerSettings}


@pytest.mark.parametrize("name", SETTINGS)
def test_an_example_is_accepted_and_complete(name: str, tmp_path: Path) -> None:
    text = (EXAMPLES / f"{name}.toml").read_text()
    uncommented = tmp_path / "full.toml"
    uncommented.write_text(re.sub(r"(?m)^# (?=[a-z_]+ = )", "", text))
    example = read(EXAMPLES / f"{name}.toml", CatalogueFile)
    full = read(uncommented, CatalogueFile)
    settings: Any = SETTINGS[name]
    assert example.role == name
    assert set(full.server) == set(settings.__struct_fields__)
    assert msgspec.convert(full.server, settings) == msgspec.convert(example.server, settings)
    assert full.trust == example.trust

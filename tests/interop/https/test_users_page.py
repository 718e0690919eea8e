"""What docs/user/https.md says is what happens: its commands, one after the other, against two doors."""

import re
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "user" / "https.md"
COMMANDS = re.findall(r"^\$ (.*)$", PAGE.read_text(), re.MULTILINE)
TAPE = ("gfal-bringonline", "gfal-evict")  # of the door that has a stager: test_tape_rest_api.py


@pytest.mark.interop("gfal-copy", "davix-get", "curl")
def test_the_page_does_what_it_says(pair, tmp_path):
    for door in (pair.here, pair.there):
        (door.root / "biomed").mkdir(exist_ok=True)
    (pair.here.root / "biomed" / "scan.c4gh").write_bytes(pair.content)
    places = {"se.example.org:8443": pair.here, "other.example.net:8443": pair.there}
    for command in COMMANDS:
        if command.startswith(TAPE):
            continue
        real = command
        for name, door in places.items():
            real = real.replace(name, f"localhost:{door.server.port}")
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **pair.pki.environment(pair.alice)}
        if "/scan.c4gh file:" in command:  # gfal2 does not overwrite
            (tmp_path / "scan.c4gh").unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", "-c", real], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout + done.stderr)
    assert (tmp_path / "again.c4gh").read_bytes() == pair.content
    assert (pair.there.root / "biomed" / "scan.c4gh").read_bytes() == pair.content
    assert list((pair.here.root / "biomed" / "results").iterdir()) == []

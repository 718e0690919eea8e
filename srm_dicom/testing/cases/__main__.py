"""Write the table of credentials out: ``python -m srm_dicom.testing.cases DIR``.

Each case gets a directory with its credential, its trust directory and its vomsdir; ``manifest.json`` says
what each deserves. Cases about the lists of a site are left out: those are settings of a server.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from srm_dicom.testing.cases import CASES, Workshop
from srm_dicom.testing.cases.workshop import HOST


def write(directory: Path) -> int:
    """Write every case; returns how many."""
    manifest = []
    for title, case in CASES.items():
        place = directory / re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        shop = Workshop.at(place)
        credential = case.make(shop)
        vomsdir = shop.vo.vomsdir
        if shop.settings:
            continue
        entry = {
            "title": title,
            "file": str(credential.certificate.relative_to(directory)),
            "trust_dir": str(shop.trust_dir.relative_to(directory)),
            "vomsdir": str(vomsdir.relative_to(directory)),
            "host": HOST,
            "accepted": case.accepted,
            "dn": case.dn or "",
            "fqans": case.fqans,
            "limited": case.limited,
        }
        manifest.append(entry)
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), "utf-8")
    return len(manifest)


if __name__ == "__main__":
    sys.stdout.write(f"{write(Path(sys.argv[1]))} credentials\n")

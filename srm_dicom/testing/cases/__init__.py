"""Credentials good and bad, each with the verdict that it deserves: one table for every verifier.

`CASES` is the table. A case builds its credential, and the trust directory that it is to be judged by, in a
`Workshop`; keys and serial numbers are drawn anew, everything else is the same each time. The project's own
tests hold the gate to it, interop tests compare it with Globus and the VOMS library, and
``python -m srm_dicom.testing.cases DIR`` writes it all out for anybody else's verifier.
"""

from __future__ import annotations

from collections.abc import Mapping

from srm_dicom.testing.cases import files, groups, names, paths, proxies, revocations, sites
from srm_dicom.testing.cases.case import Case
from srm_dicom.testing.cases.workshop import Workshop

__all__ = ["CASES", "Case", "Workshop"]

CASES: Mapping[str, Case] = {
    f"{area}: {title}": case
    for area, cases in {
        "name": names.CASES,
        "path": paths.CASES,
        "site": sites.CASES,
        "crl": revocations.CASES,
        "file": files.CASES,
        "proxy": proxies.CASES,
        "voms": groups.CASES,
    }.items()
    for title, case in cases.items()
}

r"""What an authority may certify by its ``<hash>.namespaces`` file (EUGridPMA), beside the signing policy.

::

    TO Issuer "/DC=org/CN=Some CA" \
      PERMIT Subject "/DC=org/DC=some/.*"

``SELF`` stands for the authority itself, ``DENY`` refuses. The first rule of an issuer that matches the whole
subject decides; an issuer that has rules and none that matches may not certify. A signing policy is still
wanted: a namespaces file only ever narrows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from srm_dicom.errors import InvalidRequest
from srm_dicom.identity import dn

_RULE = re.compile(
    r"""TO\s+ISSUER\s+(?:"(?P<issuer>[^"]+)"|(?P<own>SELF))\s+
        (?P<verb>PERMIT|DENY)\s+SUBJECT\s+"(?P<subject>[^"]+)"\s*""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One statement about the subjects of an issuer."""

    permit: bool
    subject: re.Pattern[str]


def parse(text: str, own_name: str) -> dict[str, tuple[Rule, ...]]:
    """Read one namespaces file.

    Args:
        text: the file.
        own_name: canonical name of the authority whose file it is.

    Returns:
        Canonical name of an issuer -> its rules, in order.

    Raises:
        InvalidRequest: something is not understood; the authority is then to certify nothing.
    """
    lines = text.replace("\\\n", " ").splitlines()
    rest = " ".join(line for line in lines if not line.lstrip().startswith("#")).strip()
    rules: dict[str, tuple[Rule, ...]] = {}
    while rest:
        match = _RULE.match(rest)
        if match is None:
            raise InvalidRequest("a namespaces file has something that is not a rule")
        issuer = own_name if match["own"] else dn.normalise(match["issuer"])
        rules[issuer] = (*rules.get(issuer, ()), Rule(match["verb"].upper() == "PERMIT", _pattern(match)))
        rest = rest[match.end() :]
    return rules


def permits(rules: tuple[Rule, ...], subject: str) -> bool:
    """Say whether an issuer with these rules may certify a subject."""
    return next((rule.permit for rule in rules if rule.subject.fullmatch(subject)), False)


def _pattern(match: re.Match[str]) -> re.Pattern[str]:
    try:
        return re.compile(dn.modern_types(match["subject"]))
    except re.error as error:
        raise InvalidRequest("a namespaces file has a pattern that cannot be read") from error

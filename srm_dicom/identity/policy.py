r"""Whom an authority may certify: the ``<hash>.signing_policy`` files of a trust directory.

Trusting an authority does not mean to believe whatever name it signs: without this check any trusted
authority could certify the name of another one's user. The files hold Globus's extended access
control lists::

    access_id_CA   X509    '/DC=org/CN=Some CA'
    pos_rights     globus  CA:sign
    cond_subjects  globus  '"/DC=org/DC=some/*" "/DC=org/DC=other/*"'

An authority without an entry may sign nothing, and a file that does not read like this grants
nothing. In a pattern ``*`` stands for any characters, slashes included, ``?`` for one. Where an authority
has a namespaces file too, both have to agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from srm_dicom.errors import InvalidRequest, NotAuthenticated
from srm_dicom.identity import dn, namespaces

_LINE = re.compile(r"""(?P<keyword>\w+)\s+(?P<kind>\S+)\s+(?P<value>'[^']*'|"[^"]*"|\S+)\s*(?:\#.*)?\Z""")
_PATTERN = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_RIGHT = ("globus", "CA:sign")


@dataclass(frozen=True, slots=True)
class SigningPolicies:
    """The rules of one trust directory, by the canonical name of an authority.

    Attributes:
        rules: patterns of the subjects that its signing policy allows.
        narrowed: rules of the namespaces files, for the authorities that have one.
    """

    rules: Mapping[str, tuple[re.Pattern[str], ...]] = field(default_factory=dict)
    narrowed: Mapping[str, tuple[namespaces.Rule, ...]] = field(default_factory=dict)

    def check(self, authority: str, subject: str) -> None:
        """Refuse a subject that its authority has no business to certify.

        Raises:
            NotAuthenticated: no policy, or none of its patterns matches.
        """
        patterns = self.rules.get(authority)
        if patterns is None:
            raise NotAuthenticated(f"{subject}: its authority {authority} has no signing policy here")
        if not any(pattern.fullmatch(subject) for pattern in patterns):
            raise NotAuthenticated(f"{subject}: the signing policy of {authority} does not cover this name")
        narrowed = self.narrowed.get(authority)
        if narrowed is not None and not namespaces.permits(narrowed, subject):
            raise NotAuthenticated(f"{subject}: the namespaces of {authority} do not cover this name")


def parse(text: str) -> dict[str, tuple[re.Pattern[str], ...]]:
    """Read one signing_policy file.

    Raises:
        InvalidRequest: a line that is not understood; nothing of the file is then to be used.
    """
    rules: dict[str, tuple[re.Pattern[str], ...]] = {}
    authority, may_sign = "", False
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        match = _LINE.match(bare)
        if match is None:
            raise InvalidRequest(f"signing policy, line {number}: keyword, authority and value were expected")
        value = _unquoted(match["value"])
        if match["keyword"] == "access_id_CA":
            authority, may_sign = dn.normalise(value), False
        elif match["keyword"] == "pos_rights" and authority:
            may_sign = (match["kind"], value) == _RIGHT
        elif match["keyword"] == "cond_subjects" and may_sign:
            rules[authority] = (*rules.get(authority, ()), *map(_compiled, _patterns(value)))
        else:
            raise InvalidRequest(
                f"signing policy, line {number}: {match['keyword'][:40]} is not expected here"
            )
    return rules


def _unquoted(value: str) -> str:
    return value[1:-1] if value[0] in "'\"" else value


def _patterns(value: str) -> list[str]:
    quoted = [single or double for single, double in _PATTERN.findall(value)]
    return quoted or [value]


def _compiled(pattern: str) -> re.Pattern[str]:
    wildcards = {"*": ".*", "?": "."}
    plain = dn.modern_types(dn.unescape(pattern))
    return re.compile("".join(wildcards.get(char, re.escape(char)) for char in plain))

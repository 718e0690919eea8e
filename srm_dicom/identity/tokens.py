"""WLCG tokens: who a bearer is, and to what the token narrows what he may do.

A token is believed when an issuer of the settings signed it with one of its published keys, for this site
as audience, and when it is neither early, late, nor made for longer than a token should live. Its user is
``token:<issuer>#<subject>``, which ACLs, ban and admission lists take as they take a DN, or the DN that the
site's map gives to that name. The storage scopes of the token narrow what the ACLs grant to this user; one
without any narrows to nothing, unless it carries groups (``wlcg.groups``): then the groups count by the ACLs.
Groups are those of the issuer's own organisation. A bearer is never an administrator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt

from srm_dicom.clock import Clock
from srm_dicom.errors import InvalidRequest, NotAuthenticated
from srm_dicom.identity import dn, scopes
from srm_dicom.identity.jwks import Fetch, KeySource, fetch_https
from srm_dicom.identity.listed import FQAN, TOKEN, WatchedList
from srm_dicom.identity.principal import Principal, TokenName

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA")
REQUIRED = ("iss", "sub", "aud", "exp", "iat")
MAX_TOKEN_CHARS = 16 * 1024
MAX_SKEW_S = 300.0
MAX_GROUPS = 200
_OPTIONS: Any = {  # times are ours to check, by the clock that is given
    "require": list(REQUIRED),
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}
_SUBJECT = re.compile(r"[!#-\[\]-~]{1,255}\Z")
_MAP_LINE = re.compile(r'"(?P<token>token:[^"\s]+)"\s+"(?P<dn>/[^"]+)"\Z')


@dataclass(frozen=True, slots=True)
class Issuer:
    """One that may say who a bearer is.

    Attributes:
        url: its ``iss``, to the letter.
        audiences: names of this site in its tokens; one has to be there.
        organisation: its groups are ``/<organisation>`` and below; empty takes no groups.
        keys: file with its key set (JWKS), or https URL of it; None asks its ``.well-known`` document.
        base_path: the directory that ``/`` means in its scopes.
    """

    url: str
    audiences: tuple[str, ...]
    organisation: str = ""
    keys: str | None = None
    base_path: str = "/"


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Whose tokens are taken.

    Attributes:
        issuers: by whom.
        map_file: lines of ``"token:<issuer>#<subject>" "/DC=.../CN=..."``; None maps nobody.
        skew_s: by how much clocks may differ; 300 at most.
        lifetime_s: for how long a token may have been made.
    """

    issuers: tuple[Issuer, ...]
    map_file: Path | None = None
    skew_s: float = 60.0
    lifetime_s: float = 24 * 3600.0


class TokenVerifier:
    """Turns a token into a `Principal`; for any number of threads.

    Args:
        settings: whose tokens are taken.
        clock: the time.
        fetch: gets a document of an issuer by https.

    Raises:
        InvalidRequest: an issuer without audience, twice, or a skew that is too wide.
    """

    def __init__(self, settings: TokenSettings, clock: Clock, fetch: Fetch = fetch_https) -> None:
        if not 0 <= settings.skew_s <= MAX_SKEW_S:
            raise InvalidRequest(f"clocks may differ by {MAX_SKEW_S:.0f} s at most")
        if any(not issuer.audiences for issuer in settings.issuers):
            raise InvalidRequest("an issuer of tokens needs an audience: who are we to it?")
        self._settings = settings
        self._clock = clock
        self._issuers = {issuer.url: issuer for issuer in settings.issuers}
        if len(self._issuers) != len(settings.issuers):
            raise InvalidRequest("an issuer of tokens stands there twice")
        self._keys = {
            issuer.url: KeySource(issuer.url, issuer.keys, clock, fetch) for issuer in settings.issuers
        }
        self._map = WatchedList(settings.map_file, "token map", _map_line) if settings.map_file else None

    def principal(self, token: str) -> Principal:
        """Say who the bearer of a token is.

        Raises:
            NotAuthenticated: naming the reason; never a part of the token.
        """
        try:
            issuer, key = self._issuer_and_key(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=issuer.audiences,
                issuer=issuer.url,
                options=_OPTIONS,
            )
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise NotAuthenticated(f"the token is not good: {_why(error)}") from error
        ends = self._check_times(claims)
        fqans = _groups(claims, issuer.organisation)
        narrowed: tuple[scopes.Scope, ...] | None = _scopes(claims, issuer.base_path)
        if not narrowed and fqans and "storage." not in str(claims.get("scope", "")):
            narrowed = None
        name = _name(claims)
        return Principal(
            self._mapped(name), fqans, limited=True, expires=ends, scopes=narrowed, evidence=TokenName(name)
        )

    def _issuer_and_key(self, token: str) -> tuple[Issuer, Any]:
        if len(token) > MAX_TOKEN_CHARS:
            raise NotAuthenticated("the token is not good: too long")
        head = jwt.get_unverified_header(token)
        if "crit" in head or head.get("b64") is False:
            raise NotAuthenticated("the token is not good: it has a critical header")
        if head.get("alg") not in ALGORITHMS:
            raise NotAuthenticated("the token is not good: its algorithm is not taken")
        said = jwt.decode(token, options={"verify_signature": False})
        issuer = self._issuers.get(str(said.get("iss")))
        if issuer is None:
            raise NotAuthenticated("the token is not good: its issuer is not known here")
        return issuer, self._keys[issuer.url].key(head.get("kid"), str(head["alg"]))

    def _check_times(self, claims: Mapping[str, Any]) -> datetime:
        now_s, skew_s = self._clock.now().timestamp(), self._settings.skew_s
        issued_s, ends_s = _seconds(claims["iat"]), _seconds(claims["exp"])
        begins_s = _seconds(claims.get("nbf", issued_s))
        if now_s >= ends_s + skew_s:
            raise NotAuthenticated("the token is not good: it has expired")
        if max(begins_s, issued_s) > now_s + skew_s:
            raise NotAuthenticated("the token is not good: it is not yet valid")
        if ends_s - min(issued_s, begins_s) > self._settings.lifetime_s:
            raise NotAuthenticated("the token is not good: it lives too long")
        return datetime.fromtimestamp(ends_s + skew_s, UTC)

    def _mapped(self, name: str) -> str:
        lines = self._map.current() if self._map else ()
        return next((mapped for token, mapped in lines if token == name), name)


def _name(claims: Mapping[str, Any]) -> str:
    subject = claims["sub"]
    if not isinstance(subject, str) or not _SUBJECT.match(subject):
        raise NotAuthenticated("the token is not good: its subject is no plain word")
    return f"{TOKEN}{claims['iss']}#{subject}"


def _map_line(line: str) -> tuple[str, str]:
    match = _MAP_LINE.match(line)
    if match is None:
        raise InvalidRequest('a line of the token map reads "token:<issuer>#<subject>" "<DN>"')
    return match["token"], dn.normalise(match["dn"])


def _scopes(claims: Mapping[str, Any], base_path: str) -> tuple[scopes.Scope, ...]:
    text = claims.get("scope", "")
    if not isinstance(text, str):
        raise NotAuthenticated("the token is not good: its scope is no text")
    try:
        return scopes.parse(text, base_path)
    except InvalidRequest as error:
        raise NotAuthenticated(f"the token is not good: {error.message}") from error


def _groups(claims: Mapping[str, Any], organisation: str) -> tuple[str, ...]:
    """Return the groups of the issuer's own organisation; others are not its to give."""
    said = claims.get("wlcg.groups", [])
    if not isinstance(said, list) or len(said) > MAX_GROUPS:
        raise NotAuthenticated("the token is not good: its groups are no list")
    return tuple(
        group
        for group in said
        if isinstance(group, str)
        and FQAN.match(group)
        and organisation
        and group.split("/")[1] == organisation
    )


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotAuthenticated("the token is not good: a time in it is no number")
    if not 0 <= value < 253402300800:  # the year 10000; what is not a number is not between
        raise NotAuthenticated("the token is not good: a time in it is out of range")
    return float(value)


def _why(error: Exception) -> str:
    """Name the kind of error in words; PyJWT's own texts may repeat what the token says."""
    words = re.sub(r"(?<!^)([A-Z])", r" \1", type(error).__name__.removesuffix("Error")).lower()
    return words or "malformed"

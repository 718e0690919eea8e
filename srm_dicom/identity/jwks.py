"""The keys that an issuer of tokens publishes: from a file, or over https with a cache and bounds.

Only RSA keys of 2048 bits and more, EC and Edwards keys count. A key that is not known is asked for once
more, but not more often than once a minute; when an issuer does not answer, what it published last holds for
a day.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import jwt

from srm_dicom.clock import Clock
from srm_dicom.errors import NotAuthenticated
from srm_dicom.telemetry import logger

Fetch = Callable[[str], bytes]

log = logger("identity")

MAX_BYTES = 256 * 1024
MAX_KEYS = 50
_FETCH_S = 10.0
_FRESH_S = 3600.0
_FRESH_FILE_S = 30.0
_STALE_S = 24 * 3600.0
_RETRY_S = 60.0
_RETRY_FILE_S = 5.0
_MIN_RSA_BITS = 2048
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class _Nowhere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_options: Any) -> None:
        return None


def fetch_https(url: str) -> bytes:
    """Get a document, within ten seconds and 256 KiB, following nobody elsewhere.

    Raises:
        OSError: not https, no answer, not a good one, or too much of it.
    """
    if not url.startswith("https://"):
        raise OSError("keys of issuers are fetched by https")
    https = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    try:
        with urllib.request.build_opener(_Nowhere, https).open(url, timeout=_FETCH_S) as answer:
            data = _bounded(answer.read1)
    except HTTPException as error:
        raise OSError("the answer is not HTTP") from error
    return data


def _bounded(read: Callable[[int], bytes]) -> bytes:
    """Read to the end, within the bounds of time and size: a timeout is one of each piece.

    Raises:
        OSError: there is more, or it takes longer.
    """
    data, until_s = bytearray(), time.monotonic() + _FETCH_S
    while piece := read(MAX_BYTES):
        data += piece
        if len(data) > MAX_BYTES:
            raise OSError("the answer is too large")
        if time.monotonic() > until_s:
            raise OSError("the answer takes too long")
    return bytes(data)


class KeySource:
    """The key set of one issuer.

    Args:
        issuer: its URL.
        place: a file, an https URL, or None for what its ``.well-known/openid-configuration`` names.
        clock: ages of what is cached.
        fetch: gets a document by https.
    """

    def __init__(self, issuer: str, place: str | None, clock: Clock, fetch: Fetch) -> None:
        self._issuer = issuer
        self._place = place
        self._clock = clock
        self._fetch = fetch
        is_file = place is not None and "://" not in place
        self._fresh_s = _FRESH_FILE_S if is_file else _FRESH_S
        self._retry_s = _RETRY_FILE_S if is_file else _RETRY_S
        self._lock = threading.Lock()
        self._keys: tuple[jwt.PyJWK, ...] = ()
        self._got_s = self._tried_s = float("-inf")

    def key(self, kid: object, algorithm: str) -> Any:
        """Return the one key that a token's header means.

        Raises:
            NotAuthenticated: there is none, or more than one.
        """
        now_s = self._clock.monotonic_s()
        found = self._matching(kid, algorithm)
        if not found or now_s - self._got_s > self._fresh_s:
            # The issuer may take its time: whose key is known, and holds still, waits for nobody's look.
            if self._lock.acquire(blocking=not found or now_s - self._got_s > _STALE_S):
                try:
                    self._renew(now_s)
                finally:
                    self._lock.release()
            found = self._matching(kid, algorithm)
        if now_s - self._got_s > _STALE_S:
            raise NotAuthenticated("the token is not good: its issuer's keys cannot be had")
        if len(found) != 1:
            raise NotAuthenticated("the token is not good: its issuer has no such key")
        return found[0].key

    def _matching(self, kid: object, algorithm: str) -> list[jwt.PyJWK]:
        return [key for key in self._keys if kid in (key.key_id, None) and _fits(key, algorithm)]

    def _renew(self, now_s: float) -> None:
        if now_s - self._tried_s < self._retry_s:
            return
        self._tried_s = now_s
        try:
            self._keys = _parse(self._read())
            self._got_s = now_s
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            log.warning("issuer_keys_missing", source=self._issuer, error=type(error).__name__)

    def _read(self) -> bytes:
        if self._place is None:
            base = self._issuer.rstrip("/")
            document = json.loads(self._fetch(f"{base}/.well-known/openid-configuration"))
            if document["issuer"].rstrip("/") != base:
                raise ValueError("the document is another issuer's")
            return self._fetch(document["jwks_uri"])
        if "://" in self._place:
            return self._fetch(self._place)
        with Path(self._place).open("rb") as file:
            return file.read(MAX_BYTES)


def _parse(data: bytes) -> tuple[jwt.PyJWK, ...]:
    keys = []
    for entry in json.loads(data)["keys"][:MAX_KEYS]:
        try:
            if entry.get("use", "sig") == "sig" and "d" not in entry:
                keys.append(jwt.PyJWK(entry))
        except jwt.PyJWTError:
            continue  # a key of a kind that nobody here takes
    return tuple(key for key in keys if _is_strong(key))


def _is_strong(key: jwt.PyJWK) -> bool:
    return key.key_type != "RSA" or key.key.key_size >= _MIN_RSA_BITS


def _fits(key: jwt.PyJWK, algorithm: str) -> bool:
    """Say whether a key is of the kind that an algorithm needs, and is not meant for another one."""
    said = key._jwk_data  # noqa: SLF001 PyJWK guesses an algorithm where the key names none
    if said.get("alg") not in (None, algorithm):
        return False
    if algorithm in _CURVES:
        return key.key_type == "EC" and said.get("crv") == _CURVES[algorithm]
    return key.key_type == ("OKP" if algorithm == "EdDSA" else "RSA")

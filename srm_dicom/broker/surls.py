"""Which SURLs are this site's: those of its own names.

Catalogues, scripts and FTS hold SURLs of many sites. Whoever sends one of another site hears that, and
gets no file that has the same path here.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from srm_dicom.errors import ConfigError, InvalidRequest, NotFound
from srm_dicom.ids import Surl

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""What every machine calls itself: a site of one of these names has them all."""

_Place = tuple[str, int | None]
"""A host, and its port if one is named."""


class OwnSurls:
    """Reads SURLs.

    Args:
        host: what SURLs of this site have for a host, with the port of its SRM.
        aliases: what else they may have: ``host``, at whatever port, or ``host:port``.

    Raises:
        ConfigError: one of them is neither.
    """

    def __init__(self, host: str, aliases: Iterable[str] = ()) -> None:
        self.host = host
        self._places: set[_Place] = set()
        for text in (host, *aliases):
            name, port = _place(text)
            if not name:
                raise ConfigError(f"[site] {text} is neither a host nor host:port")
            self._places.update((one, port) for one in (_LOOPBACK if name in _LOOPBACK else (name,)))
        self._hosts = {name for name, _ in self._places}

    def parse(self, text: str) -> Surl | NotFound:
        """Read a SURL; one that names nothing here is as one that is not there.

        Its host decides, and not its port: ARC puts one of its own there when it speaks SRM v1.1.
        """
        try:
            surl = Surl.parse(text)
        except InvalidRequest as error:
            return NotFound(error.message)
        if _place(surl.authority)[0] not in self._hosts:
            return NotFound(f"this SURL is of another storage element: this one is {self.host}")
        return surl

    def has(self, url: str) -> bool:
        """Tell whether a URL is a SURL of this server, and of no other one that the host may have."""
        try:
            parts = urlsplit(url.strip())
        except ValueError:
            return False
        name, port = _place(parts.netloc)
        is_own = name in self._hosts if port is None else {(name, port), (name, None)} & self._places
        return parts.scheme.lower() == "srm" and bool(is_own)


def _place(authority: str) -> _Place:
    """Read ``host[:port]``; the host of what is none is empty. Port 0 is whatever port is free."""
    try:
        parts = urlsplit(f"//{authority}")
        port = parts.port or None
    except ValueError:
        return "", None
    return ((parts.hostname or "").rstrip("."), port) if parts.netloc == authority else ("", None)

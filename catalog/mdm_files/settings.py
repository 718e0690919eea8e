"""Settings of a file catalogue, as in ``etc/catalog.d/files.toml``."""

from __future__ import annotations

import msgspec


class FileCatalogueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file catalogue.

    Attributes:
        database: URL of its own database; no other service may write there.
        registrars: DNs that may see and write every name.
        host: address to listen on.
        port: 0 takes any.
        body_bytes: of one request.
        misses_per_minute: names tried in vain before a caller is told to come back later; 0 sets no bound.
    """

    database: str
    registrars: tuple[str, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104 - a server's default is to serve
    port: int = 8444
    body_bytes: int = 16 * 1024 * 1024
    misses_per_minute: int = 2000

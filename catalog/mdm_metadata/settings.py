"""Settings of a metadata server, as in ``etc/catalog.d/metadata.toml``."""

from __future__ import annotations

import msgspec


class MetadataSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One metadata server.

    Attributes:
        database: URL of its own database; no other service may write there.
        host: address to listen on.
        port: 8822 is AMGA's; 0 takes any.
        registrars: DNs that may create collections and write entries; it does not let them search.
        allow_plain: let callers in without TLS; they are nobody and get what ``other`` may.
        validity_days: life of a collection that was made without an end of its own.
        indexed: attributes that get an index in every collection.
        sessions: connections open at once.
        sessions_per_address: of them from one address.
        sessions_per_identity: of them of one caller.
        handshake_s: from accept to the end of the TLS handshake.
        idle_s: between two commands of a session.
        send_s: that a client may take to accept a piece of a reply.
        rows: of one reply, and entries of one upload.
        smallest_answer: a search that chooses fewer people than this chooses nobody, for callers who may not
            know who they are; 0 sets no bound.
        people_by: the attribute whose values tell people apart; entries without a value count one each.
        misses_per_minute: names tried in vain before a caller is told to come back later; 0 sets no bound.
    """

    database: str
    host: str = "0.0.0.0"  # noqa: S104 - a server's default is to serve
    port: int = 8822
    registrars: tuple[str, ...] = ()
    allow_plain: bool = False
    validity_days: int = 365
    indexed: tuple[str, ...] = ()
    sessions: int = 200
    sessions_per_address: int = 150
    sessions_per_identity: int = 100
    handshake_s: float = 10.0
    idle_s: float = 600.0
    send_s: float = 30.0
    rows: int = 100_000
    smallest_answer: int = 0
    people_by: str = "PatientID"
    misses_per_minute: int = 2000

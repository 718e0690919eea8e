"""A key server: the service over its database, behind the web server."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mdm_keys.access import Access, Spend
from mdm_keys.application import MAX_MESSAGE_BYTES, application
from mdm_keys.ledger import DestructionLedger
from mdm_keys.resharing import own_key
from mdm_keys.service import KeyService
from mdm_keys.store import Key, KeyStore
from srm_dicom.audit.doors import DoorLog
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import Clock
from srm_dicom.crypto import sealing
from srm_dicom.crypto.signing import trusting
from srm_dicom.db.database import Database
from srm_dicom.db.usage import Ledger
from srm_dicom.errors import ConfigError
from srm_dicom.identity.gate import Gate
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.budget import Account, Budget
from srm_dicom.rights.enumeration import Guesses, Patience
from srm_dicom.rights.pace import Pace
from srm_dicom.web.limits import Limits
from srm_dicom.web.server import WebServer

ANY_OTHER = "*"
"""In `KeyServerSettings.keys_per_day_of`: a project that is not named there."""


class KeyServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key server, as in ``etc/catalog.d/keys.toml``.

    Attributes:
        database: URL of its own database; no other service may write there.
        sites: Ed25519 public keys of the registering sites, 64 hex digits each; no record is kept that
            none of them signed.
        creators: DNs and FQANs that may register keys; it does not let them fetch.
        host: address to listen on.
        port: 0 takes any.
        peers: public keys of the key servers that may get shares when a key is shared anew, 64 hex digits
            each, as ``mdm-keys public-key`` prints them over there.
        keys_per_minute: that one caller may fetch in a minute; 0 sets no bound.
        keys_per_day: different ones that one caller may fetch in a day (UTC); 0 sets no bound.
        keys_per_day_of: of each project, by its id, how many of its keys all callers together may fetch in
            a day; ``"*"`` is for the projects that are not named. What is not there has no bound.
        misses_per_minute: ids tried in vain before a caller is told to come back later; 0 sets no bound.
    """

    database: str
    sites: tuple[str, ...] = ()
    creators: tuple[str, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104 - a server's default is to serve
    port: int = 8450
    peers: tuple[str, ...] = ()
    keys_per_minute: int = 0
    keys_per_day: int = 0
    keys_per_day_of: dict[str, int] = {}
    misses_per_minute: int = 2000


class KeyServer:
    """Listens from `start` to `stop`; `port` is known before."""

    def __init__(self, settings: KeyServerSettings, gate: Gate, audit: AuditLog, clock: Clock) -> None:
        """Open the database and bind the port.

        Raises:
            ConfigError: a site's key is none, or the database's URL names none.
        """
        self._database = Database(settings.database)
        store = KeyStore(self._database)
        access = Access(
            store,
            audit,
            frozenset(settings.creators),
            Guesses(Patience(settings.misses_per_minute), clock),
            spending(settings, Ledger(self._database, audit, clock), clock),
            DoorLog(audit, "keys", clock),
        )
        sites = trusted_sites(settings)
        ledger = DestructionLedger(ledger_path(audit.path.parent, audit.path.name.partition("@")[0]))
        store.remove_of(ledger)
        store.wipe()
        peers = frozenset(_peer(text) for text in settings.peers)
        self._web = WebServer(
            application(KeyService(store, access, sites, clock, ledger, peers)),
            gate,
            host=settings.host,
            port=settings.port,
            limits=Limits(body_bytes=MAX_MESSAGE_BYTES),
            name="keys",
            clock=clock,
            audit=audit,
        )
        self.port = self._web.port

    def start(self) -> None:
        """Begin to serve."""
        self._web.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End what is going on and close."""
        self._web.stop(timeout_s)
        self._database.close()


def spending(settings: KeyServerSettings, ledger: Ledger, clock: Clock) -> Spend:
    """Return what charges a caller, and every project that keys are released for."""
    pace, daily = Pace(settings.keys_per_minute, clock), Budget(objects=settings.keys_per_day)
    bounds, others = settings.keys_per_day_of, settings.keys_per_day_of.get(ANY_OTHER, 0)

    def spend(principal: Principal, keys: Collection[Key], operation: str) -> None:
        pace.take(principal.dn, len(keys))
        if not (daily.objects or bounds):
            return
        charges = {Account.of_caller(principal.dn, daily): [key.id for key in keys]}
        of_projects: dict[str, list[str]] = {}
        for key in keys:
            of_projects.setdefault(key.project, []).append(key.id)
        for project in of_projects.keys() - {""}:
            bound = Budget(objects=bounds.get(project, others))
            charges[Account.of_project(project, bound)] = of_projects[project]
        ledger.charge(principal, charges, operation)

    return spend


def public_key(url: str) -> bytes:
    """Return the public half of the own key of the key server that has a database."""
    database = Database(url)
    try:
        return sealing.public_key_of(own_key(KeyStore(database)))
    finally:
        database.close()


def ledger_path(directory: Path, name: str) -> Path:
    """Return where the ledger of destroyed keys is: beside the audit logs, which no backup replaces."""
    return directory / f"{name}.destroyed"


def trusted_sites(settings: KeyServerSettings) -> dict[str, Ed25519PublicKey]:
    """Return the registering sites' keys by fingerprint.

    Raises:
        ConfigError: one is no key.
    """
    return trusting(*(_site(text) for text in settings.sites))


def _peer(text: str) -> bytes:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ConfigError("a peer is the public key of a key server, 64 hex digits")
    return bytes.fromhex(text)


def _site(text: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError as error:
        raise ConfigError("a site's key is an Ed25519 public key of 64 hex digits") from error

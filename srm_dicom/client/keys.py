"""The key servers, seen from outside: register on all of them, fetch from any k.

For a fetch, k servers are asked at the same time, the others as soon as one of these fails or is late,
and the first k good shares win: a dead, slow or lying server costs a hedge at most, once. Registration is
all or nothing: what a failed one has written is removed again by id and generation, and never more than
that. Keys and shares stay in memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from srm_dicom.client.asking import HEDGE_S, ask
from srm_dicom.client.fetching import Fetch, statuses
from srm_dicom.client.http import HttpClient
from srm_dicom.client.keyserver import Call, Connection, Server
from srm_dicom.client.keyshares import Charters
from srm_dicom.client.outcomes import each
from srm_dicom.client.reshare import Resharer
from srm_dicom.crypto.keyrecord import Charter, KeyRecord
from srm_dicom.errors import (
    AlreadyExists,
    ConfigError,
    InternalError,
    KeyServerUnavailable,
    KeyShareInvalid,
    MdmError,
    NotFound,
)
from srm_dicom.identity.credential import Credential
from srm_dicom.rights.acl import Acl
from srm_dicom.telemetry import logger
from srm_dicom.wire.hydra.contract import (
    KeyReference,
    KeyStatus,
    Perm,
    Permission,
    PermissionEntry,
    SharedKey,
    StringPair,
    error_of,
)
from srm_dicom.wire.hydra.permissions import acl_of, permission_of

log = logger("keys")

KEYS_PER_CALL = 1000
"""Fewer than a server takes: so many are done well within the timeout of a call."""

HEDGE_PER_KEY_S = 0.001
"""How much longer a server may be silent that was asked for many keys."""


@dataclass(frozen=True, slots=True)
class Destruction:
    """How far the destruction of a key has come.

    Attributes:
        needed: servers that have to confirm, n - k + 1, so that fewer than k shares can be left.
        described: whether a server has told of what is signed about the key; else `needed` is all.
        confirmed: servers that have destroyed their share, or never had one.
        failures: why the others have not, by server.
    """

    needed: int
    described: bool = False
    confirmed: frozenset[str] = frozenset()
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Tell whether the key is gone for good."""
        return len(self.confirmed) >= self.needed


class KeyServers:
    """The n key servers of a site, in the order of share index."""

    def __init__(
        self,
        endpoints: Sequence[str],
        credential: Credential,
        *,
        sites: Mapping[str, Ed25519PublicKey] | None = None,
        timeout_s: float = 10.0,
        connect: Callable[[str], Connection] | None = None,
    ) -> None:
        """Name the servers; nothing is sent yet.

        Args:
            endpoints: ``https://host:port[/path]`` of each.
            credential: the caller's.
            sites: keys of the registering sites by fingerprint; without them nothing can be fetched,
                because no share could be told from a forged one.
            timeout_s: for a call to all servers, whatever one of them does.
            connect: makes a connection to an endpoint; None is `HttpClient`.
        """
        self.endpoints = tuple(endpoints)
        self._timeout_s = timeout_s

        def dial(url: str) -> Connection:
            return HttpClient(url, credential, timeout_s=timeout_s, unavailable=KeyServerUnavailable)

        self._dial = connect or dial
        self._servers = tuple(Server(url, self._dial) for url in self.endpoints)
        self._needed: int | None = None
        self._charters = Charters(dict(sites or {}))
        self._looking: set[threading.Thread] = set()

    def close(self) -> None:
        """Close all connections; answers that come at once are still looked at, to name who lies."""
        until_s = time.monotonic() + HEDGE_S
        for thread in tuple(self._looking):
            thread.join(max(0.0, until_s - time.monotonic()))
        for server in self._servers:
            server.close()

    # --- fetch -----------------------------------------------------------------------------------

    def fetch(self, key_id: str, public_key: bytes | None = None) -> bytes:
        """Return an X25519 private key.

        Args:
            key_id: of the key.
            public_key: the file's; None for a key that is of no file, whose public half is the signed one.

        Raises:
            NotAuthorised: the servers refuse.
            NotFound: no server has the key.
            KeyQuorumMissing: too few servers gave a good share; the message has the reason of each.
        """
        found = self.fetch_many({key_id: public_key})[key_id]
        if isinstance(found, MdmError):
            raise found
        return found

    def fetch_many(self, wanted: Mapping[str, bytes | None]) -> dict[str, bytes | MdmError]:
        """Return the private key, or why there is none, of each key id.

        Args:
            wanted: public half by key id.
        """
        found: dict[str, bytes | MdmError] = {}
        ids = list(wanted)
        for start in range(0, len(ids), KEYS_PER_CALL):
            found |= self._fetch({key_id: wanted[key_id] for key_id in ids[start : start + KEYS_PER_CALL]})
        return found

    def _fetch(self, wanted: Mapping[str, bytes | None]) -> dict[str, bytes | MdmError]:
        fetch = Fetch(wanted, self._charters)
        left: list[Iterator[tuple[Server, Any]]] = []
        asked = ask(
            self._servers,
            self._timeout_s,
            Call("getKeys", [fetch.ids]),
            first=self._needed,
            hedge_s=HEDGE_S + len(fetch.ids) * HEDGE_PER_KEY_S,
            late=left.append,
        )
        with closing(asked) as answers:
            for server, answer in answers:
                fetch.add(server, answer)
                if fetch.complete:
                    break
        found = fetch.result()
        self._needed = fetch.needed or self._needed
        for late in left:
            self._look_later(fetch, late)
        return found

    def _look_later(self, fetch: Fetch, late: Iterator[tuple[Server, Any]]) -> None:
        """Look at answers that are under way in a thread of their own."""

        def look() -> None:
            fetch.look_at(late)
            self._looking.discard(thread)

        thread = threading.Thread(target=look, name="keys-late", daemon=True)
        self._looking.add(thread)
        thread.start()

    def may(self, key_id: str, letter: str) -> bool:
        """Tell whether the servers that answer would let the caller do something with a key.

        Raises:
            KeyServerUnavailable: none of them answers.
        """
        wanted = Perm.of(letter)
        answers = ask(
            self._servers,
            self._timeout_s,
            lambda server: server.call("checkPermission", [key_id], wanted),
        )
        refusals = [answer for _, answer in answers]
        if refusals and all(isinstance(answer, KeyServerUnavailable) for answer in refusals):
            raise refusals[0]
        return any(not isinstance(answer, MdmError) for answer in refusals)

    # --- register --------------------------------------------------------------------------------

    def register(self, records: Sequence[KeyRecord], acl: Acl) -> None:
        """Register one key: a record for each server, on all servers or on none.

        Raises:
            MdmError: as `register_many`.
        """
        self.register_many([records], acl)

    def register_many(self, keys: Sequence[Sequence[KeyRecord]], acl: Acl) -> None:
        """Register keys, each with a record for each server in the order of endpoints.

        They go in calls of `KEYS_PER_CALL`. When one fails, the keys of the calls before it stay; doing all
        of it again does no harm.

        Raises:
            KeyServerUnavailable: a server did not answer; what was written elsewhere is removed again.
            AlreadyExists: a key of this id is there already; it stays as it is.
            NotAuthorised: the caller may not register keys.
            ConfigError: there are not as many records as servers.
        """
        if any(len(records) != len(self._servers) for records in keys):
            raise ConfigError(f"a key needs a record for each of the {len(self._servers)} key servers")
        for start in range(0, len(keys), KEYS_PER_CALL):
            self._register(keys[start : start + KEYS_PER_CALL], acl)

    def _register(self, keys: Sequence[Sequence[KeyRecord]], acl: Acl) -> None:
        permission = permission_of(acl)
        ids = [records[0].charter.key_id for records in keys]
        outcomes: dict[Server, dict[str, KeyStatus | MdmError]] = {}

        def put(server: Server) -> Any:
            position = self._servers.index(server)
            shares = [_shared_key(records[position]) for records in keys]
            return server.call("putKeys", shares, permission)

        for server, answer in ask(self._servers, self._timeout_s, put):
            outcomes[server] = statuses(ids, answer)
        errors = [error for outcome in outcomes.values() for error in _errors(outcome)]
        if errors:
            self._undo(keys, outcomes)
            raise errors[0]

    def _undo(
        self,
        keys: Sequence[Sequence[KeyRecord]],
        outcomes: Mapping[Server, Mapping[str, KeyStatus | MdmError]],
    ) -> None:
        """Remove what was written, or may have been: a key that was there before is left alone."""
        charters = [records[0].charter for records in keys]
        references = {
            server: [
                KeyReference(charter.key_id, charter.generation)
                for charter in charters
                if _to_undo(charter.key_id, server, outcomes)
            ]
            for server in outcomes
        }
        touched = [server for server in outcomes if references[server]]
        undo = ask(touched, self._timeout_s, lambda server: server.call("removeKeys", references[server]))
        for server, answer in undo:
            if isinstance(answer, MdmError):
                log.warning("key_undo_failed", server=server.name, reason=answer.message)

    # --- administer ------------------------------------------------------------------------------

    def remove(self, key_id: str, generation: int = 0) -> bool:
        """Remove a key, or one generation of it, from every server; one that has none of it is content.

        Returns:
            Whether a server knew the key.

        Raises:
            KeyServerUnavailable: a server did not answer; the others have removed it.
            NotAuthorised: a server refuses.
        """
        reference = [KeyReference(key_id, generation)]
        known = False
        for _, answer in list(
            ask(self._servers, self._timeout_s, lambda server: server.call("removeKeys", reference))
        ):
            error = next(_errors(statuses([key_id], answer)), None)
            if error is not None and not isinstance(error, NotFound):
                raise error
            known |= error is None
        return known

    def destroy(self, halves: Mapping[str, bytes]) -> dict[str, Destruction]:
        """Destroy keys for good; what becomes of each is told, nothing is raised.

        Args:
            halves: the public half by key id; at most as many keys as a call takes.
        """
        keys = [StringPair(key_id, half.hex()) for key_id, half in halves.items()]
        answers: dict[str, dict[str, KeyStatus | MdmError]] = {key_id: {} for key_id in halves}
        for server, answer in ask(
            self._servers, self._timeout_s, lambda server: server.call("destroyKeys", keys)
        ):
            for key_id, status in statuses(list(halves), answer).items():
                answers[key_id][server.name] = status
        return {key_id: self._destruction(key_id, halves[key_id], told) for key_id, told in answers.items()}

    def _destruction(self, key_id: str, half: bytes, told: Mapping[str, KeyStatus | MdmError]) -> Destruction:
        """Count who confirms; a server that proves what it says with something else has confirmed nothing."""
        failures: dict[str, str] = {}
        charters: list[Charter] = []
        for server, status in told.items():
            try:
                charters += self._destroyed(key_id, half, status)
            except MdmError as error:
                failures[server] = error.message
        needed = max((charter.n - charter.k + 1 for charter in charters), default=len(self._servers))
        return Destruction(needed, bool(charters), frozenset(told) - frozenset(failures), failures)

    def _destroyed(self, key_id: str, half: bytes, status: KeyStatus | MdmError) -> list[Charter]:
        for error in _errors({key_id: status}):
            raise error
        keys = status.keys if isinstance(status, KeyStatus) else ()
        charters = [self._charters.verify(key.charter) for key in keys]
        if any((charter.key_id, charter.public_key) != (key_id, half) for charter in charters):
            raise KeyShareInvalid("it tells of another key")
        return charters

    def resharer(
        self,
        new: Sequence[str],
        k: int,
        signing_key: Ed25519PrivateKey,
        timeout_s: float = 60.0,
        *,
        without_proof: bool = False,
    ) -> Resharer:
        """Return what leads keys from these servers to others, or to fresh shares on the same ones.

        Args:
            new: endpoints of the servers of the next generation, in the order of index.
            k: shares that it needs.
            signing_key: the registering site's.
            timeout_s: for each step.
            without_proof: drop old shares even where nobody could prove the new ones.

        Raises:
            ConfigError: k of that many servers makes no sense.
        """
        known = dict(zip(self.endpoints, self._servers, strict=True))
        servers = [known.get(url) or Server(url, self._dial) for url in new]
        return Resharer(self._servers, servers, k, signing_key, timeout_s, without_proof=without_proof)

    def set_acls(self, acls: Mapping[str, Acl]) -> dict[str, list[str] | MdmError]:
        """Replace the named entries of keys' ACLs on every server; base entries only where an ACL has some.

        Returns:
            By server the keys that it does not have, or why it has changed none.
        """

        def change(server: Server) -> list[str]:
            told = each(acls, server.call("describeKeys", list(acls)))
            missing = [key_id for key_id, one in told.items() if isinstance(one, NotFound)]
            there = {key_id: acl for key_id, acl in acls.items() if key_id not in missing}
            for acl in dict.fromkeys(there.values()):
                server.set_acl([key_id for key_id, its in there.items() if its == acl], acl)
            return missing

        return {server.name: told for server, told in ask(self._servers, self._timeout_s, change)}

    def permissions(self, key_id: str) -> dict[str, Permission | MdmError]:
        """Return what each server says of owner, group, base permissions and ACL of a key."""
        return self._each(lambda server: server.permissions([key_id])[0].permission)

    def versions(self) -> dict[str, tuple[str, str, str] | MdmError]:
        """Return the versions of each server's program, contract and tables."""
        names = ("getVersion", "getInterfaceVersion", "getSchemaVersion")
        return self._each(lambda server: tuple(server.call(name) for name in names))

    def _each(self, call: Callable[[Server], Any]) -> dict[str, Any]:
        """Ask every server; the answers are by endpoint, in their order."""
        answers = dict(ask(self._servers, self._timeout_s, call))
        return {url: answers[server] for url, server in zip(self.endpoints, self._servers, strict=True)}

    def set_permissions(self, permissions: Mapping[str, Mapping[str, Permission]]) -> None:
        """Replace base permissions and ACL of keys, on each server all or none.

        Args:
            permissions: by endpoint and by key id; a server that is not among them is left alone.

        Raises:
            KeyServerUnavailable: a server did not answer; the others have the new ones.
            NotAuthorised: a server refuses.
        """
        entries = {
            server: [PermissionEntry(key_id, one) for key_id, one in permissions[url].items()]
            for url, server in zip(self.endpoints, self._servers, strict=True)
            if permissions.get(url)
        }
        told = ask(
            list(entries), self._timeout_s, lambda server: server.call("setPermission", entries[server])
        )
        for _, answer in list(told):
            if isinstance(answer, MdmError):
                raise answer

    def get_acl(self, key_id: str) -> dict[str, Acl | MdmError]:
        """Return what each server says of a key's ACL, by server; they should all say the same."""
        answers = ask(
            self._servers, self._timeout_s, lambda server: server.permissions([key_id])[0].permission
        )
        return {
            server.name: answer if isinstance(answer, MdmError) else acl_of(answer)
            for server, answer in answers
        }


def _errors(outcome: Mapping[str, KeyStatus | MdmError]) -> Iterator[MdmError]:
    for status in outcome.values():
        if isinstance(status, MdmError):
            yield status
        elif status.exception:
            yield error_of(status.exception, status.message)


def _shared_key(record: KeyRecord) -> SharedKey:
    charter, share = record.charter, record.share
    return SharedKey(charter.key_id, share.index, share.data.hex(), charter.text)


def _to_undo(
    key_id: str, server: Server, outcomes: Mapping[Server, Mapping[str, KeyStatus | MdmError]]
) -> bool:
    """Tell whether a failed registration may have left a key on a server.

    When some server had the key before, what another one holds, and did not say, may be of before too.
    """
    status = outcomes[server][key_id]
    if isinstance(status, KeyStatus):
        return status.is_new
    if not isinstance(status, KeyServerUnavailable | InternalError):
        return False
    others = (outcome[key_id] for outcome in outcomes.values())
    return not any(
        isinstance(other, KeyStatus)
        and not other.is_new
        and (not other.exception or isinstance(error_of(other.exception, ""), AlreadyExists))
        for other in others
    )

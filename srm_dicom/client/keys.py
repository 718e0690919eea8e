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
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from srm_dicom.client.asking import HEDGE_S, ask
from srm_dicom.client.destroying import Destruction, destroy
from srm_dicom.client.fetching import Fetch
from srm_dicom.client.http import HttpClient
from srm_dicom.client.keyserver import Call, Connection, Server
from srm_dicom.client.keyshares import Charters
from srm_dicom.client.outcomes import each, or_raise
from srm_dicom.client.registering import register
from srm_dicom.client.reshare import Resharer
from srm_dicom.crypto.keyrecord import KeyRecord
from srm_dicom.errors import (
    ConfigError,
    KeyServerUnavailable,
    MdmError,
    NotFound,
)
from srm_dicom.identity.credential import Credential
from srm_dicom.rights.acl import Acl
from srm_dicom.telemetry import logger
from srm_dicom.wire.hydra.contract import (
    KeyReference,
    Perm,
    Permission,
    PermissionEntry,
)
from srm_dicom.wire.hydra.permissions import acl_of

log = logger("keys")

KEYS_PER_CALL = 1000
"""Fewer than a server takes: so many are done well within the timeout of a call."""

HEDGE_PER_KEY_S = 0.001
"""How much longer a server may be silent that was asked for many keys."""


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
        """Tell whether most of the servers that answer would let the caller do something with a key.

        Raises:
            KeyServerUnavailable: none of them answers.
        """
        wanted = Perm.of(letter)
        asked = ask(
            self._servers,
            self._timeout_s,
            lambda server: server.call("checkPermission", [key_id], wanted),
        )
        answers = [answer for _, answer in asked]
        if answers and all(isinstance(answer, KeyServerUnavailable) for answer in answers):
            raise answers[0]
        answered = [one for one in answers if not isinstance(one, KeyServerUnavailable)]
        return 2 * sum(not isinstance(one, MdmError) for one in answered) > len(answered)

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
            register(self._servers, self._timeout_s, keys[start : start + KEYS_PER_CALL], acl)

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
            told = each([key_id], answer)[key_id]
            if isinstance(told, MdmError) and not isinstance(told, NotFound):
                raise told
            known |= not isinstance(told, MdmError)
        return known

    def destroy(self, halves: Mapping[str, bytes]) -> dict[str, Destruction]:
        """Destroy keys for good; what becomes of each is told, nothing is raised.

        Args:
            halves: the public half by key id; at most as many keys as a call takes.
        """
        return destroy(self._servers, self._timeout_s, self._charters, halves)

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
            By server the keys that it does not have, or why it has not changed all others.
        """

        def change(server: Server) -> list[str]:
            told = each(acls, server.call("describeKeys", list(acls)))
            missing = [key_id for key_id, one in told.items() if isinstance(one, NotFound)]
            there = {key_id: acls[key_id] for key_id, one in told.items() if not isinstance(one, MdmError)}
            for acl in dict.fromkeys(there.values()):
                server.set_acl([key_id for key_id, its in there.items() if its == acl], acl)
            for key_id in told.keys() - there.keys() - set(missing):
                or_raise(told[key_id])
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

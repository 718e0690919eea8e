"""A next generation of shares: other servers, another k, or fresh shares so that old ones are worthless.

The servers of the old generation deal their own shares; each new server sums what it gets; nobody ever holds
the key (`crypto.reshare`). Until the new generation is whole, proven and adopted everywhere, the old one
stands untouched, and whatever fails before that is undone. Doing it again does no harm. Where only as many
servers are left as the key needs, nobody can prove what they dealt: then both generations stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import starmap
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.client.asking import ask
from srm_dicom.client.holdings import Held, Holdings
from srm_dicom.client.keyserver import Server
from srm_dicom.client.outcomes import each, may_have_left, or_raise
from srm_dicom.crypto import reshare
from srm_dicom.crypto.keyrecord import Charter, sign_charter
from srm_dicom.crypto.reshare import Order, Suspects
from srm_dicom.crypto.signing import trusting
from srm_dicom.errors import (
    ConfigError,
    KeyShareInvalid,
    MdmError,
    NotFound,
)
from srm_dicom.rights.acl import Acl
from srm_dicom.telemetry import logger
from srm_dicom.wire.hydra.contract import (
    Dealt,
    KeyReference,
    SealedPieces,
    SharedKey,
    Taken,
)
from srm_dicom.wire.hydra.permissions import permission_of

log = logger("keys")

T = TypeVar("T")

_AS_BEFORE: Mapping[str, datetime] = {}
_HEX = re.compile("([0-9a-f]{2})+")
_HEX_32 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reshared:
    """What became of one key.

    Attributes:
        generation: that serves now; 0 if nothing was changed.
        error: why nothing was changed.
        left: servers that still hold shares of the old generation; they were out of reach.
        proven: whether others have confirmed what was dealt; if not, the old generation stays everywhere.
    """

    key_id: str
    generation: int = 0
    error: MdmError | None = None
    left: tuple[str, ...] = ()
    proven: bool = True


class Resharer:
    """Leads keys from the servers that have them to those that shall.

    Args:
        old: the servers of today; some may be dead.
        new: the servers of the next generation in the order of index; all have to answer.
        k: shares that the next generation needs.
        signing_key: the registering site's.
        timeout_s: for each step.
        without_proof: take servers, and generations that were not proven, at their word.

    Raises:
        ConfigError: k of that many servers makes no sense.
    """

    def __init__(
        self,
        old: Sequence[Server],
        new: Sequence[Server],
        k: int,
        signing_key: Ed25519PrivateKey,
        timeout_s: float,
        *,
        without_proof: bool = False,
    ) -> None:
        if not 1 <= k <= len(new):
            raise ConfigError(
                f"{k} shares of a key on {len(new)} key servers make no sense",
                advice="--threshold says how many shares a key needs.",
            )
        self._old = old
        self._new = new
        self._k = k
        self._signing_key = signing_key
        self._sites = trusting(signing_key.public_key())
        self._timeout_s = timeout_s
        self._without_proof = without_proof

    def reshare(self, acls: Mapping[str, Acl], ends: Mapping[str, datetime] = _AS_BEFORE) -> list[Reshared]:
        """Make the next generation of keys.

        Args:
            acls: by key id, for the servers that do not have the key yet; at most as many as a call takes.
            ends: until when keys are valid then; what is not there, as long as before.

        Raises:
            KeyServerUnavailable: one of the new servers does not answer; nothing was changed.
        """
        receivers = self._receivers()
        held, lost = self._held(list(acls))
        outcomes = [Reshared(key_id, error=error) for key_id, error in lost.items()]
        orders, dealt = self._dealt(held, receivers)
        charters: dict[str, Charter] = {}
        for key_id, made in self._take(orders, dealt, held, ends).items():
            if isinstance(made, Charter):
                charters[key_id] = made
            else:
                outcomes.append(Reshared(key_id, error=made))
        adopted, failed = self._adopt(charters, acls)
        outcomes += [Reshared(key_id, error=error) for key_id, error in failed.items()]
        return outcomes + self._drop({key_id: charters[key_id] for key_id in adopted}, held)

    # --- steps -----------------------------------------------------------------------------------

    def _receivers(self) -> list[bytes]:
        """Return the public keys of the new servers.

        Raises:
            KeyServerUnavailable: one does not tell.
            KeyShareInvalid: one tells what is none, or another's.
        """
        told = self._ask(self._new, lambda server: server.call("getServiceMetadata", "public_key"))
        receivers: list[bytes] = []
        for server in self._new:
            key = or_raise(told[server])
            if not _HEX_32.fullmatch(key) or bytes.fromhex(key) in receivers:
                raise KeyShareInvalid(f"{server.name} has no public key of its own to deal to")
            receivers.append(bytes.fromhex(key))
        return receivers

    def _held(self, ids: Sequence[str]) -> tuple[dict[str, Held], dict[str, MdmError]]:
        """Find the generation of each key to deal, and its holders."""
        told = self._ask(self._old, lambda server: server.call("describeKeys", ids))
        in_order = {server: told[server] for server in self._old}
        holdings = Holdings(ids, in_order, self._sites, without_proof=self._without_proof)
        held: dict[str, Held] = {}
        lost: dict[str, MdmError] = {}
        for key_id in ids:
            try:
                held[key_id] = holdings.of(key_id)
            except MdmError as error:
                lost[key_id] = error
        return held, lost

    def _order(self, held: Held, receivers: Sequence[bytes]) -> Order:
        following, dealers = 1 + max(held.seen), sorted(held.holders)
        return reshare.order(held.charter, following, dealers, receivers, self._k, self._signing_key)

    def _dealt(
        self, held: Mapping[str, Held], receivers: Sequence[bytes]
    ) -> tuple[dict[str, Order], dict[str, dict[int, Dealt | MdmError]]]:
        """Let every holder deal; where some cannot, and enough are left, these deal again by themselves."""
        orders = {key_id: self._order(one, receivers) for key_id, one in held.items()}
        dealt = self._deal(orders, held)
        again: dict[str, Held] = {}
        for key_id, one in held.items():
            able = {i: s for i, s in one.holders.items() if not isinstance(dealt[key_id][i], MdmError)}
            if one.charter.k <= len(able) < len(one.holders):
                again[key_id] = replace(one, holders=able)
                self._tell_of(key_id, one, dealt[key_id])
        if again:
            others, dealt_again = self._dealt(again, receivers)
            orders, dealt = {**orders, **others}, {**dealt, **dealt_again}
        return orders, dealt

    @staticmethod
    def _tell_of(key_id: str, held: Held, dealt: Mapping[int, Dealt | MdmError]) -> None:
        for index, answer in dealt.items():
            if isinstance(answer, MdmError):
                server = held.holders[index].name
                log.warning("key_share_not_dealt", server=server, key_id=key_id, reason=answer.message)

    def _deal(
        self, orders: Mapping[str, Order], held: Mapping[str, Held]
    ) -> dict[str, dict[int, Dealt | MdmError]]:
        """Let every dealer deal; returns what came of it by key and by index of the dealer."""
        of_server: dict[Server, dict[str, int]] = {}
        for key_id, order in orders.items():
            for index in order.dealers:
                of_server.setdefault(held[key_id].holders[index], {})[key_id] = index
        told = self._ask(
            list(of_server),
            lambda server: server.call("dealKeys", [orders[key_id].text for key_id in of_server[server]]),
        )
        dealt: dict[str, dict[int, Dealt | MdmError]] = {key_id: {} for key_id in orders}
        for server, indices in of_server.items():
            for key_id, answer in each(indices, told[server]).items():
                dealt[key_id][indices[key_id]] = self._whole(server, answer)
        return dealt

    def _whole(self, server: Server, answer: Dealt | MdmError) -> Dealt | MdmError:
        """Return what a dealer has told, if it can be what it should."""
        if isinstance(answer, Dealt) and not (
            len(answer.pieces) == len(self._new)
            and _HEX_32.fullmatch(answer.blinded)
            and all(map(_HEX.fullmatch, answer.pieces))
        ):
            return KeyShareInvalid(f"{server.name} has dealt what makes no sense")
        return answer

    def _take(
        self,
        orders: Mapping[str, Order],
        dealt: Mapping[str, Mapping[int, Dealt | MdmError]],
        held: Mapping[str, Held],
        ends: Mapping[str, datetime],
    ) -> dict[str, Charter | MdmError]:
        """Let every new server take; returns a charter for each key whose new shares are proven."""
        made: dict[str, Charter | MdmError] = {}
        whole: dict[str, list[Dealt]] = {}
        for key_id, order in orders.items():
            try:
                whole[key_id] = [or_raise(dealt[key_id][index]) for index in order.dealers]
            except MdmError as error:
                made[key_id] = error

        def take(server: Server) -> Sequence[Taken]:
            at = self._new.index(server)
            pieces = [
                SealedPieces(orders[key_id].text, tuple(one.pieces[at] for one in dealings))
                for key_id, dealings in whole.items()
            ]
            answer: Sequence[Taken] = server.call("takeKeys", pieces)
            return answer

        told = self._ask(self._new, take) if whole else {}
        taken = {server: each(whole, answer) for server, answer in told.items()}
        for key_id, dealings in whole.items():
            try:
                of_servers = [
                    self._told(server, taken[server][key_id], orders[key_id], held[key_id])
                    for server in self._new
                ]
                self._prove(orders[key_id], held[key_id], dealings, of_servers)
                made[key_id] = self._charter(orders[key_id], held[key_id], of_servers, ends.get(key_id))
            except MdmError as error:
                made[key_id] = error
        return made

    def _told(self, server: Server, answer: Taken | MdmError, order: Order, held: Held) -> Taken:
        """Return what a receiver tells of its new share.

        Raises:
            MdmError: it has none; the message names it, and who dealt which share.
            KeyShareInvalid: it makes no sense.
        """
        if isinstance(answer, MdmError):
            dealers = ", ".join(f"{index} {held.holders[index].name}'s" for index in order.dealers)
            raise type(answer)(f"{server.name} took nothing: {answer.message} (share {dealers})")
        if not (
            len(answer.checks) == len(order.spare)
            and all(map(_HEX_32.fullmatch, (answer.hash, answer.blinded, *answer.checks)))
        ):
            raise KeyShareInvalid(f"{server.name} tells what makes no sense of its new share")
        return answer

    def _prove(self, order: Order, held: Held, dealt: Sequence[Dealt], taken: Sequence[Taken]) -> None:
        """Compare new shares with those that were dealt: they have to be of the same key.

        Raises:
            KeyShareInvalid: they are not; the message names the server, or those that it may be.
        """
        checks = [[bytes.fromhex(check) for check in one.checks] for one in taken]
        blinded = [[bytes.fromhex(one.blinded) for one in told] for told in (dealt, taken)]
        found = reshare.suspects(order, checks) or reshare.misfits(order, *blinded)
        if found is not None:
            raise KeyShareInvalid(self._accusation(found, held))

    def _charter(self, order: Order, held: Held, taken: Sequence[Taken], end: datetime | None) -> Charter:
        """Sign the new generation."""
        before = held.charter
        return sign_charter(
            order.key_id,
            generation=order.next_generation,
            k=order.k,
            hashes=[one.hash for one in taken],
            public_key=before.public_key,
            valid_until=end or before.valid_until,
            signing_key=self._signing_key,
            project=before.project,
            unproven=not self._without_proof and (before.unproven or not order.spare),
        )

    def _accusation(self, found: Suspects, held: Held) -> str:
        dealers = [held.holders[index].name for index in found.dealers]
        receivers = [self._new[index - 1].name for index in found.receivers]
        names = ", ".join(dict.fromkeys([*dealers, *receivers]))
        if not names:
            return "several key servers have dealt something else than the shares that the site signed"
        if not receivers and len(dealers) == 1:
            return f"{names} has dealt something else than the share that the site signed"
        if not dealers and len(receivers) == 1:
            return f"{names} tells something else than it was dealt"
        return f"one of {names} has lied about what was dealt"

    def _adopt(
        self, charters: Mapping[str, Charter], acls: Mapping[str, Acl]
    ) -> tuple[list[str], dict[str, MdmError]]:
        """Make the new generation valid on every new server, or on none.

        Undone is what this call has adopted, or may have: another reshare of the key may be under way, whose
        generation has the same number.
        """
        failed: dict[str, MdmError] = {}
        touched: dict[Server, set[str]] = {server: set() for server in self._new}
        for acl in dict.fromkeys(str(acls[key_id]) for key_id in charters):
            ids = [key_id for key_id in charters if str(acls[key_id]) == acl]
            permission = permission_of(Acl.stored(acl))

            def adopt(server: Server, ids: Sequence[str] = ids, permission: object = permission) -> Any:
                index = 1 + self._new.index(server)
                keys = [SharedKey(key_id, index, "", charters[key_id].text) for key_id in ids]
                return server.call("adoptKeys", keys, permission)

            for server, answer in self._ask(self._new, adopt).items():
                for key_id, status in each(ids, answer).items():
                    if may_have_left(status):
                        touched[server].add(key_id)
                    if isinstance(status, MdmError):
                        error = type(status)(f"{server.name} did not adopt its new share: {status.message}")
                        failed.setdefault(key_id, error)
        generations = {key_id: charters[key_id].generation for key_id in failed}
        self._remove(
            {
                server: {key_id: generations[key_id] for key_id in failed if key_id in ids}
                for server, ids in touched.items()
            }
        )
        return [key_id for key_id in charters if key_id not in failed], failed

    def _drop(self, serving: Mapping[str, Charter], held: Mapping[str, Held]) -> list[Reshared]:
        """Remove the generations that new ones replace; an unproven one replaces only unproven ones."""
        gone = {
            key_id: {
                generation
                for generation in held[key_id].seen
                if not charter.unproven or generation > held[key_id].charter.generation
            }
            for key_id, charter in serving.items()
        }
        left: dict[str, set[str]] = {key_id: set() for key_id in serving}
        servers = list(dict.fromkeys([*self._old, *self._new]))  # an unproven one may be on new ones too
        for generation in sorted({generation for some in gone.values() for generation in some}):
            having = {key_id: generation for key_id, some in gone.items() if generation in some}
            for key_id, names in self._remove(dict.fromkeys(servers, having)).items():
                left[key_id].update(names)
        return [
            Reshared(
                key_id, charter.generation, left=tuple(sorted(left[key_id])), proven=not charter.unproven
            )
            for key_id, charter in serving.items()
        ]

    # --- parts -----------------------------------------------------------------------------------

    def _remove(self, generations: Mapping[Server, Mapping[str, int]]) -> dict[str, list[str]]:
        """Remove one generation of keys from servers; returns those where that failed, by key."""
        left: dict[str, list[str]] = {}

        def remove(server: Server) -> Any:
            return server.call("removeKeys", list(starmap(KeyReference, generations[server].items())))

        servers = [server for server, some in generations.items() if some]
        for server, answer in self._ask(servers, remove).items():
            for key_id, status in each(generations[server], answer).items():
                if isinstance(status, MdmError) and not isinstance(status, NotFound):
                    left.setdefault(key_id, []).append(server.name)
        return left

    def _ask(self, servers: Sequence[Server], call: Callable[[Server], T]) -> dict[Server, T | MdmError]:
        return dict(ask(servers, self._timeout_s, call))

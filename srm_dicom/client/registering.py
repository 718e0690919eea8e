"""Registration of keys on all key servers or on none.

What a failed one has written, or may have, is removed again by id and generation, and never more than
that: a key that was there before is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from srm_dicom.client.asking import ask
from srm_dicom.client.keyserver import Server
from srm_dicom.client.outcomes import each, may_have_left
from srm_dicom.crypto.keyrecord import KeyRecord
from srm_dicom.errors import AlreadyExists, MdmError
from srm_dicom.rights.acl import Acl
from srm_dicom.telemetry import logger
from srm_dicom.wire.hydra.contract import KeyReference, KeyStatus, SharedKey
from srm_dicom.wire.hydra.permissions import permission_of

log = logger("keys")

Outcomes = Mapping[Server, Mapping[str, KeyStatus | MdmError]]
"""What each server made of each key, by key id."""


def register(
    servers: Sequence[Server], timeout_s: float, keys: Sequence[Sequence[KeyRecord]], acl: Acl
) -> None:
    """Register keys by one call to each server.

    Args:
        servers: the site's, in the order of share index.
        timeout_s: for all of them.
        keys: each with a record for each server.
        acl: of all of them.

    Raises:
        MdmError: the first error of a server; what was written is removed again.
    """
    permission = permission_of(acl)
    ids = [records[0].charter.key_id for records in keys]

    def put(server: Server) -> Any:
        position = servers.index(server)
        return server.call("putKeys", [_shared_key(records[position]) for records in keys], permission)

    outcomes = {server: each(ids, answer) for server, answer in ask(servers, timeout_s, put)}
    errors = [told for of in outcomes.values() for told in of.values() if isinstance(told, MdmError)]
    if errors:
        _undo(timeout_s, keys, outcomes)
        raise errors[0]


def _undo(timeout_s: float, keys: Sequence[Sequence[KeyRecord]], outcomes: Outcomes) -> None:
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
    for server, answer in ask(
        touched, timeout_s, lambda server: server.call("removeKeys", references[server])
    ):
        if isinstance(answer, MdmError):
            log.warning("key_undo_failed", server=server.name, reason=answer.message)


def _to_undo(key_id: str, server: Server, outcomes: Outcomes) -> bool:
    """Tell whether a failed registration may have left a key on a server.

    When some server had the key before, what another one holds, and did not say, may be of before too.
    """
    told = outcomes[server][key_id]
    if isinstance(told, KeyStatus) or not may_have_left(told):
        return may_have_left(told)
    others = [outcome[key_id] for outcome in outcomes.values()]
    return not any(
        isinstance(other, AlreadyExists) or (isinstance(other, KeyStatus) and not other.is_new)
        for other in others
    )


def _shared_key(record: KeyRecord) -> SharedKey:
    charter, share = record.charter, record.share
    return SharedKey(charter.key_id, share.index, share.data.hex(), charter.text)

"""One fetch of keys: what the servers answer, put together; and who is named for a share that is none.

Nobody waits for an answer that is not needed any more. It is looked at all the same when it comes, or a
liar that is slower than the honest servers would never be named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from srm_dicom.client.keyserver import Server
from srm_dicom.client.keyshares import Assembly, Charters
from srm_dicom.errors import KeyServerUnavailable, KeyShareInvalid, MdmError
from srm_dicom.telemetry import logger
from srm_dicom.wire.hydra.contract import KeyStatus

log = logger("keys")


class Fetch:
    """Some keys being fetched in one call.

    Args:
        wanted: public half by key id.
        charters: reads the texts of charters.
    """

    def __init__(self, wanted: Mapping[str, bytes | None], charters: Charters) -> None:
        self.ids = list(wanted)
        self._assemblies = {key_id: Assembly(key_id, half, charters) for key_id, half in wanted.items()}
        self._named: set[tuple[str, str]] = set()

    def add(self, server: Server, answer: Sequence[KeyStatus] | MdmError) -> None:
        """Take a server's answer."""
        for key_id, status in statuses(self.ids, answer).items():
            self._assemblies[key_id].add(server.name, status)

    @property
    def complete(self) -> bool:
        """Tell whether every key is there."""
        return all(assembly.private_key for assembly in self._assemblies.values())

    @property
    def needed(self) -> int:
        """How many shares a key took, the one that took most; 0 when there is none."""
        return max((one.needed for one in self._assemblies.values()), default=0)

    def result(self) -> dict[str, bytes | MdmError]:
        """Return each key, or why there is none, and name who has lied."""
        found = {key_id: one.result() for key_id, one in self._assemblies.items()}
        self._name_liars()
        return found

    def look_at(self, late: Iterable[tuple[Server, Sequence[KeyStatus]]]) -> None:
        """Take answers that came after the result, and name who has lied in them."""
        for server, answer in late:
            self.add(server, answer)
            self.result()

    def _name_liars(self) -> None:
        for key_id, one in self._assemblies.items():
            for server, failure in one.failures.items():
                if isinstance(failure, KeyShareInvalid) and (key_id, server) not in self._named:
                    self._named.add((key_id, server))
                    log.warning("key_share_invalid", server=server, key_id=key_id, reason=failure.message)


def statuses(ids: Sequence[str], answer: Sequence[KeyStatus] | MdmError) -> dict[str, KeyStatus | MdmError]:
    """Return an outcome for each key, also when a server speaks of others or of none."""
    if isinstance(answer, MdmError):
        return dict.fromkeys(ids, answer)
    answered = {status.item: status for status in answer}
    return {key_id: answered.get(key_id) or _missing() for key_id in ids}


def _missing() -> KeyServerUnavailable:
    return KeyServerUnavailable("the key server did not answer for this key")

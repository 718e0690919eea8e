"""Requests by number, for protocols whose requests have no token: SRM v1.1.

The number of a file in a request is that of its row, the number of a request that of its first file: both
outlive a restart, and need no place of their own. A number says nothing to who does not own the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from srm_dicom.broker.owned import Owned
from srm_dicom.errors import NotSupported
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Token
from srm_dicom.store.requests import Requests

_MAX_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Numbers:
    """Tells the numbers of a request, and the request of a number."""

    requests: Requests
    owned: Owned

    def of(self, token: Token) -> tuple[int, ...]:
        """Return the numbers of the files of a request, in their order; the first is that of the request.

        Raises:
            NotSupported: the numbers have outgrown an xsd:int.
        """
        numbers = tuple(file.rows[0].id for file in self.requests.files(token))
        if max(numbers) > _MAX_NUMBER:
            raise NotSupported("this request has no number that fits", advice="Use SRM v2.2.")
        return numbers

    def token(self, principal: Principal, number: int) -> Token:
        """Return the token of a request of the caller.

        Raises:
            RequestUnknown: the caller has none of this number.
        """
        mine = (file for file in self.requests.find_files([number]) if file.owner == principal.dn)
        firsts = (file for file in mine if self.of(file.token)[0] == number)
        token = next((file.token for file in firsts), "")
        return self.owned.request(principal, token).token

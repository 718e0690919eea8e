"""srmStatusOfLsRequest: there is never anything to wait for (SRM v2.2, 4.5)."""

from __future__ import annotations

from typing import Any

from srm_dicom.errors import RequestUnknown
from srm_dicom.rights.declare import OpenAccess, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.types import Record


@requires(OpenAccess("answers everybody that there is no such request"))
def run(request: Any, caller: Caller) -> Record:
    """Refuse: srmLs answers at once and gives no token.

    Raises:
        RequestUnknown: always.
    """
    del request, caller
    raise RequestUnknown("srmLs answers at once: no such request is left behind")

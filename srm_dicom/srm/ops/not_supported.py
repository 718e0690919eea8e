"""What stands in for every operation of the contract that this server does not do."""

from __future__ import annotations

from srm_dicom.errors import NotSupported
from srm_dicom.rights.declare import OpenAccess, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.types import Record


@requires(OpenAccess("answers SRM_NOT_SUPPORTED to everybody"))
def run(request: Record, caller: Caller) -> Record:
    """Refuse.

    Raises:
        NotSupported: always.
    """
    del request, caller
    raise NotSupported("this server does not support this operation")

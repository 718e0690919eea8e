"""srmGetTransferProtocols: what the doors of this site speak (SRM v2.2, 6.1)."""

from __future__ import annotations

from srm_dicom.rights.declare import OpenAccess, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.status import success
from srm_dicom.srm.types import Record, T, array


@requires(OpenAccess("the doors are no secret"))
def run(request: Record, caller: Caller) -> Record:
    """Answer the transfer protocols, the preferred one first."""
    del request
    names = [T.TSupportedTransferProtocol(transferProtocol=name) for name in caller.broker.protocols()]
    response: Record = T.srmGetTransferProtocolsResponse(
        returnStatus=success(), protocolInfo=array("ArrayOfTSupportedTransferProtocol", names)
    )
    return response

"""srmPing: is anybody there, and who (SRM v2.2, 6.2)."""

from __future__ import annotations

from srm_dicom import __version__
from srm_dicom.rights.declare import OpenAccess, requires
from srm_dicom.srm.caller import Caller
from srm_dicom.srm.types import Record, T, array

ABOUT = {"backend_type": "srm-dicom", "backend_version": __version__}


@requires(OpenAccess("tells nothing but the version"))
def run(request: Record, caller: Caller) -> Record:
    """Answer the version of the protocol and of this server."""
    del request, caller
    about = [T.TExtraInfo(key=key, value=value) for key, value in ABOUT.items()]
    response: Record = T.srmPingResponse(versionInfo="v2.2", otherInfo=array("ArrayOfTExtraInfo", about))
    return response

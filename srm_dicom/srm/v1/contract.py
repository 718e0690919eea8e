"""The SRM v1.1 contract, restated as tables: three structures and fourteen operations.

The codec and the WSDL derive from here. A type is a primitive of XML Schema, a structure below, or with
``[]`` behind it a SOAP-encoded array of one. Arguments have no names but ``arg0``, ``arg1`` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MESSAGES = "http://tempuri.org/diskCacheV111.srm.server.SRMServerV1"
"""Namespace of the wrapper elements."""
SERVICE = "http://srm.1.0.ns"
"""Namespace of the WSDL itself."""
STRUCTURES = "http://www.themindelectric.com/package/diskCacheV111.srm/"
ARRAYS: Mapping[str, str] = {
    "string": "http://www.themindelectric.com/package/java.lang/",
    "long": "http://www.themindelectric.com/package/",
    "boolean": "http://www.themindelectric.com/package/",
    "FileMetaData": STRUCTURES,
    "RequestFileStatus": STRUCTURES,
}
"""Namespace of the array type of each item."""

FILE_META_DATA: Mapping[str, str] = {
    "SURL": "string",
    "size": "long",
    "owner": "string",
    "group": "string",
    "permMode": "int",
    "checksumType": "string",
    "checksumValue": "string",
    "isPinned": "boolean",
    "isPermanent": "boolean",
    "isCached": "boolean",
}

REQUEST_FILE_STATUS: Mapping[str, str] = {
    "state": "string",
    "fileId": "int",
    "TURL": "string",
    "estSecondsToStart": "int",
    "sourceFilename": "string",
    "destFilename": "string",
    "queueOrder": "int",
}
"""What a RequestFileStatus has beside what it is as a FileMetaData."""

REQUEST_STATUS: Mapping[str, str] = {
    "requestId": "int",
    "type": "string",
    "state": "string",
    "submitTime": "dateTime",
    "startTime": "dateTime",
    "finishTime": "dateTime",
    "estTimeToStart": "int",
    "fileStatuses": "RequestFileStatus[]",
    "errorMessage": "string",
    "retryDeltaTime": "int",
}


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure: what it extends, and its own elements in order."""

    base: str | None
    own: Mapping[str, str]

    @property
    def elements(self) -> Mapping[str, str]:
        """Return all elements in their order on the wire."""
        return {**(STRUCTURE[self.base].elements if self.base else {}), **self.own}


STRUCTURE: Mapping[str, Structure] = {
    "FileMetaData": Structure(None, FILE_META_DATA),
    "RequestFileStatus": Structure("FileMetaData", REQUEST_FILE_STATUS),
    "RequestStatus": Structure(None, REQUEST_STATUS),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """What an operation takes, and what it gives; None for an answer without anything in it."""

    arguments: tuple[str, ...]
    result: str | None = "RequestStatus"

    @property
    def parts(self) -> Mapping[str, str]:
        """Return the type of each argument by its name."""
        return {f"arg{place}": kind for place, kind in enumerate(self.arguments)}


_PUT = Signature(("string[]", "string[]", "long[]", "boolean[]", "string[]"))

SIGNATURES: Mapping[str, Signature] = {
    "put": _PUT,
    "get": Signature(("string[]", "string[]")),
    "copy": Signature(("string[]", "string[]", "boolean[]")),
    "ping": Signature((), "boolean"),
    "pin": Signature(("string[]",)),
    "unPin": Signature(("string[]", "int")),
    "setFileStatus": Signature(("int", "int", "string")),
    "getRequestStatus": Signature(("int",)),
    "getFileMetaData": Signature(("string[]",), "FileMetaData[]"),
    "mkPermanent": Signature(("string[]",)),
    "getEstGetTime": Signature(("string[]", "string[]")),
    "getEstPutTime": _PUT,
    "advisoryDelete": Signature(("string[]",), None),
    "getProtocols": Signature((), "string[]"),
}

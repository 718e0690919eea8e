"""The SRM v2.2 contract, restated as a table: 12 enumerations, 45 types, 39 operations.

Everything else derives from this file: the models that read and write SOAP (`srm.types`), the check
of what came in (`srm.checks`), the WSDL (`srm.wsdl`). The notation is one line a declaration:

* ``name = A | B`` an enumeration;
* ``name(field: type, ...)`` a complex type, fields in their order on the wire;
* ``name(...) -> (...)`` an operation: types ``nameRequest`` and ``nameResponse``.

A mark after a field's type tells its occurrence: none = exactly once, ``?`` = optional and nillable,
``-`` = optional, ``~`` = nillable, ``*`` = once or more and nillable, ``+`` = once or more. The two oddities
of the published contract (``~`` in srmLs, ``-`` in srmStatusOfLsRequest) are kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

NAMESPACE = "http://srm.lbl.gov/StorageResourceManager"
PRIMITIVES = frozenset({"string", "anyURI", "int", "unsignedLong", "boolean", "dateTime"})
"""The types of XML Schema that the contract uses; every other name is declared below."""


@dataclass(frozen=True, slots=True)
class Field:
    """One element of a complex type; `many` means ``maxOccurs="unbounded"``."""

    name: str
    type: str
    optional: bool = False
    nillable: bool = False
    many: bool = False

    @property
    def required(self) -> bool:
        """Tell whether a request without this element makes no sense (SRM v2.2, underlined arguments)."""
        return not (self.optional or self.nillable or self.many)


@dataclass(frozen=True, slots=True)
class Contract:
    """The whole contract, in the order of the published one."""

    enums: Mapping[str, tuple[str, ...]]
    types: Mapping[str, tuple[Field, ...]]
    operations: tuple[str, ...]


_MARKS: Mapping[str, Mapping[str, bool]] = {
    "": {},
    "?": {"optional": True, "nillable": True},
    "-": {"optional": True},
    "~": {"nillable": True},
    "*": {"many": True, "nillable": True},
    "+": {"many": True},
}
_ENUM = re.compile(r"(\w+) = ([\w |]+)\Z")
_TYPE = re.compile(r"(\w+)\((.*?)\)(?: -> \((.*)\))?\Z")
_FIELD = re.compile(r"(\w+): (\w+)([?~*+-]?)")


@cache
def contract() -> Contract:
    """Return the contract, read from the table once."""
    enums: dict[str, tuple[str, ...]] = {}
    types: dict[str, tuple[Field, ...]] = {}
    operations: list[str] = []
    for line in _declarations(_ENUMS + _TYPES + _OPERATIONS):
        if enum := _ENUM.match(line):
            enums[enum[1]] = tuple(enum[2].split(" | "))
        elif declared := _TYPE.match(line):
            name, first, second = declared.groups()
            if second is None:
                types[name] = _fields(first)
            else:
                operations.append(name)
                types[f"{name}Request"] = _fields(first)
                types[f"{name}Response"] = _fields(second)
        else:
            raise AssertionError(f"not a declaration: {line}")
    return Contract(MappingProxyType(enums), MappingProxyType(types), tuple(operations))


def _declarations(table: str) -> Iterator[str]:
    for block in re.split(r"\n(?=\S)", table.strip()):
        yield " ".join(block.split())


def _fields(text: str) -> tuple[Field, ...]:
    return tuple(Field(name, type_, **_MARKS[mark]) for name, type_, mark in _FIELD.findall(text))


_ENUMS = """
TFileStorageType = VOLATILE | DURABLE | PERMANENT
TFileType = FILE | DIRECTORY | LINK
TRetentionPolicy = REPLICA | OUTPUT | CUSTODIAL
TAccessLatency = ONLINE | NEARLINE
TPermissionMode = NONE | X | W | WX | R | RX | RW | RWX
TPermissionType = ADD | REMOVE | CHANGE
TRequestType = PREPARE_TO_GET | PREPARE_TO_PUT | COPY | BRING_ONLINE | RESERVE_SPACE | UPDATE_SPACE |
    CHANGE_SPACE_FOR_FILES | LS
TOverwriteMode = NEVER | ALWAYS | WHEN_FILES_ARE_DIFFERENT
TFileLocality = ONLINE | NEARLINE | ONLINE_AND_NEARLINE | LOST | NONE | UNAVAILABLE
TAccessPattern = TRANSFER_MODE | PROCESSING_MODE
TConnectionType = WAN | LAN
TStatusCode = SRM_SUCCESS | SRM_FAILURE | SRM_AUTHENTICATION_FAILURE | SRM_AUTHORIZATION_FAILURE |
    SRM_INVALID_REQUEST | SRM_INVALID_PATH | SRM_FILE_LIFETIME_EXPIRED | SRM_SPACE_LIFETIME_EXPIRED |
    SRM_EXCEED_ALLOCATION | SRM_NO_USER_SPACE | SRM_NO_FREE_SPACE | SRM_DUPLICATION_ERROR |
    SRM_NON_EMPTY_DIRECTORY | SRM_TOO_MANY_RESULTS | SRM_INTERNAL_ERROR | SRM_FATAL_INTERNAL_ERROR |
    SRM_NOT_SUPPORTED | SRM_REQUEST_QUEUED | SRM_REQUEST_INPROGRESS | SRM_REQUEST_SUSPENDED | SRM_ABORTED
    | SRM_RELEASED | SRM_FILE_PINNED | SRM_FILE_IN_CACHE | SRM_SPACE_AVAILABLE | SRM_LOWER_SPACE_GRANTED |
    SRM_DONE | SRM_PARTIAL_SUCCESS | SRM_REQUEST_TIMED_OUT | SRM_LAST_COPY | SRM_FILE_BUSY | SRM_FILE_LOST
    | SRM_FILE_UNAVAILABLE | SRM_CUSTOM_STATUS
"""

_TYPES = """
TRetentionPolicyInfo(retentionPolicy: TRetentionPolicy, accessLatency: TAccessLatency?)
TUserPermission(userID: string, mode: TPermissionMode)
ArrayOfTUserPermission(userPermissionArray: TUserPermission*)
TGroupPermission(groupID: string, mode: TPermissionMode)
ArrayOfTGroupPermission(groupPermissionArray: TGroupPermission*)
ArrayOfUnsignedLong(unsignedLongArray: unsignedLong*)
ArrayOfString(stringArray: string*)
TReturnStatus(statusCode: TStatusCode, explanation: string?)
TSURLReturnStatus(surl: anyURI, status: TReturnStatus)
ArrayOfTSURLReturnStatus(statusArray: TSURLReturnStatus*)
TSURLLifetimeReturnStatus(surl: anyURI, status: TReturnStatus, fileLifetime: int?, pinLifetime: int?)
ArrayOfTSURLLifetimeReturnStatus(statusArray: TSURLLifetimeReturnStatus*)
TMetaDataPathDetail(path: string, status: TReturnStatus?, size: unsignedLong?, createdAtTime: dateTime?,
    lastModificationTime: dateTime?, fileStorageType: TFileStorageType?,
    retentionPolicyInfo: TRetentionPolicyInfo?, fileLocality: TFileLocality?,
    arrayOfSpaceTokens: ArrayOfString?, type: TFileType?, lifetimeAssigned: int?, lifetimeLeft: int?,
    ownerPermission: TUserPermission?, groupPermission: TGroupPermission?,
    otherPermission: TPermissionMode?, checkSumType: string?, checkSumValue: string?,
    arrayOfSubPaths: ArrayOfTMetaDataPathDetail?)
ArrayOfTMetaDataPathDetail(pathDetailArray: TMetaDataPathDetail*)
TMetaDataSpace(spaceToken: string, status: TReturnStatus?, retentionPolicyInfo: TRetentionPolicyInfo?,
    owner: string?, totalSize: unsignedLong?, guaranteedSize: unsignedLong?, unusedSize: unsignedLong?,
    lifetimeAssigned: int?, lifetimeLeft: int?)
ArrayOfTMetaDataSpace(spaceDataArray: TMetaDataSpace*)
TDirOption(isSourceADirectory: boolean, allLevelRecursive: boolean?, numOfLevels: int?)
TExtraInfo(key: string, value: string?)
ArrayOfTExtraInfo(extraInfoArray: TExtraInfo*)
ArrayOfAnyURI(urlArray: anyURI*)
TTransferParameters(accessPattern: TAccessPattern?, connectionType: TConnectionType?,
    arrayOfClientNetworks: ArrayOfString?, arrayOfTransferProtocols: ArrayOfString?)
TGetFileRequest(sourceSURL: anyURI, dirOption: TDirOption?)
ArrayOfTGetFileRequest(requestArray: TGetFileRequest*)
TPutFileRequest(targetSURL: anyURI?, expectedFileSize: unsignedLong?)
ArrayOfTPutFileRequest(requestArray: TPutFileRequest*)
TCopyFileRequest(sourceSURL: anyURI, targetSURL: anyURI, dirOption: TDirOption?)
ArrayOfTCopyFileRequest(requestArray: TCopyFileRequest*)
TGetRequestFileStatus(sourceSURL: anyURI, fileSize: unsignedLong?, status: TReturnStatus,
    estimatedWaitTime: int?, remainingPinTime: int?, transferURL: anyURI?,
    transferProtocolInfo: ArrayOfTExtraInfo?)
ArrayOfTGetRequestFileStatus(statusArray: TGetRequestFileStatus*)
TBringOnlineRequestFileStatus(sourceSURL: anyURI, status: TReturnStatus, fileSize: unsignedLong?,
    estimatedWaitTime: int?, remainingPinTime: int?)
ArrayOfTBringOnlineRequestFileStatus(statusArray: TBringOnlineRequestFileStatus*)
TPutRequestFileStatus(SURL: anyURI, status: TReturnStatus, fileSize: unsignedLong?,
    estimatedWaitTime: int?, remainingPinLifetime: int?, remainingFileLifetime: int?,
    transferURL: anyURI?, transferProtocolInfo: ArrayOfTExtraInfo?)
ArrayOfTPutRequestFileStatus(statusArray: TPutRequestFileStatus+)
TCopyRequestFileStatus(sourceSURL: anyURI, targetSURL: anyURI, status: TReturnStatus,
    fileSize: unsignedLong?, estimatedWaitTime: int?, remainingFileLifetime: int?)
ArrayOfTCopyRequestFileStatus(statusArray: TCopyRequestFileStatus+)
TRequestSummary(requestToken: string, status: TReturnStatus, requestType: TRequestType?,
    totalNumFilesInRequest: int?, numOfCompletedFiles: int?, numOfWaitingFiles: int?,
    numOfFailedFiles: int?)
ArrayOfTRequestSummary(summaryArray: TRequestSummary*)
TSURLPermissionReturn(surl: anyURI, status: TReturnStatus, permission: TPermissionMode?)
ArrayOfTSURLPermissionReturn(surlPermissionArray: TSURLPermissionReturn+)
TPermissionReturn(surl: anyURI, status: TReturnStatus?, owner: string?, ownerPermission: TPermissionMode?,
    arrayOfUserPermissions: ArrayOfTUserPermission?, arrayOfGroupPermissions: ArrayOfTGroupPermission?,
    otherPermission: TPermissionMode?)
ArrayOfTPermissionReturn(permissionArray: TPermissionReturn*)
TRequestTokenReturn(requestToken: string, createdAtTime: dateTime?)
ArrayOfTRequestTokenReturn(tokenArray: TRequestTokenReturn*)
TSupportedTransferProtocol(transferProtocol: string, attributes: ArrayOfTExtraInfo?)
ArrayOfTSupportedTransferProtocol(protocolArray: TSupportedTransferProtocol*)
"""

_OPERATIONS = """
srmReserveSpace(authorizationID: string?, userSpaceTokenDescription: string?,
    retentionPolicyInfo: TRetentionPolicyInfo, desiredSizeOfTotalSpace: unsignedLong?,
    desiredSizeOfGuaranteedSpace: unsignedLong, desiredLifetimeOfReservedSpace: int?,
    arrayOfExpectedFileSizes: ArrayOfUnsignedLong?, storageSystemInfo: ArrayOfTExtraInfo?,
    transferParameters: TTransferParameters?)
    -> (returnStatus: TReturnStatus, requestToken: string?, estimatedProcessingTime: int?,
        retentionPolicyInfo: TRetentionPolicyInfo?, sizeOfTotalReservedSpace: unsignedLong?,
        sizeOfGuaranteedReservedSpace: unsignedLong?, lifetimeOfReservedSpace: int?, spaceToken: string?)
srmStatusOfReserveSpaceRequest(authorizationID: string?, requestToken: string)
    -> (returnStatus: TReturnStatus, estimatedProcessingTime: int?,
        retentionPolicyInfo: TRetentionPolicyInfo?, sizeOfTotalReservedSpace: unsignedLong?,
        sizeOfGuaranteedReservedSpace: unsignedLong?, lifetimeOfReservedSpace: int?, spaceToken: string?)
srmReleaseSpace(authorizationID: string?, spaceToken: string, storageSystemInfo: ArrayOfTExtraInfo?,
    forceFileRelease: boolean?)
    -> (returnStatus: TReturnStatus)
srmUpdateSpace(authorizationID: string?, spaceToken: string, newSizeOfTotalSpaceDesired: unsignedLong?,
    newSizeOfGuaranteedSpaceDesired: unsignedLong?, newLifeTime: int?,
    storageSystemInfo: ArrayOfTExtraInfo?)
    -> (returnStatus: TReturnStatus, requestToken: string?, sizeOfTotalSpace: unsignedLong?,
        sizeOfGuaranteedSpace: unsignedLong?, lifetimeGranted: int?)
srmStatusOfUpdateSpaceRequest(authorizationID: string?, requestToken: string)
    -> (returnStatus: TReturnStatus, sizeOfTotalSpace: unsignedLong?, sizeOfGuaranteedSpace: unsignedLong?,
        lifetimeGranted: int?)
srmGetSpaceMetaData(authorizationID: string?, arrayOfSpaceTokens: ArrayOfString)
    -> (returnStatus: TReturnStatus, arrayOfSpaceDetails: ArrayOfTMetaDataSpace?)
srmChangeSpaceForFiles(authorizationID: string?, arrayOfSURLs: ArrayOfAnyURI, targetSpaceToken: string,
    storageSystemInfo: ArrayOfTExtraInfo?)
    -> (returnStatus: TReturnStatus, requestToken: string?, estimatedProcessingTime: int?,
        arrayOfFileStatuses: ArrayOfTSURLReturnStatus?)
srmStatusOfChangeSpaceForFilesRequest(authorizationID: string?, requestToken: string)
    -> (returnStatus: TReturnStatus, estimatedProcessingTime: int?,
        arrayOfFileStatuses: ArrayOfTSURLReturnStatus?)
srmExtendFileLifeTimeInSpace(authorizationID: string?, spaceToken: string, arrayOfSURLs: ArrayOfAnyURI?,
    newLifeTime: int?)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTSURLLifetimeReturnStatus?)
srmPurgeFromSpace(authorizationID: string?, arrayOfSURLs: ArrayOfAnyURI, spaceToken: string,
    storageSystemInfo: ArrayOfTExtraInfo?)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTSURLReturnStatus?)
srmGetSpaceTokens(userSpaceTokenDescription: string?, authorizationID: string?)
    -> (returnStatus: TReturnStatus, arrayOfSpaceTokens: ArrayOfString?)
srmSetPermission(authorizationID: string?, SURL: anyURI, permissionType: TPermissionType,
    ownerPermission: TPermissionMode?, arrayOfUserPermissions: ArrayOfTUserPermission?,
    arrayOfGroupPermissions: ArrayOfTGroupPermission?, otherPermission: TPermissionMode?,
    storageSystemInfo: ArrayOfTExtraInfo?)
    -> (returnStatus: TReturnStatus)
srmCheckPermission(arrayOfSURLs: ArrayOfAnyURI, authorizationID: string?,
    storageSystemInfo: ArrayOfTExtraInfo?)
    -> (returnStatus: TReturnStatus, arrayOfPermissions: ArrayOfTSURLPermissionReturn?)
srmGetPermission(authorizationID: string?, arrayOfSURLs: ArrayOfAnyURI,
    storageSystemInfo: ArrayOfTExtraInfo?)
    -> (returnStatus: TReturnStatus, arrayOfPermissionReturns: ArrayOfTPermissionReturn?)
srmMkdir(authorizationID: string?, SURL: anyURI, storageSystemInfo: ArrayOfTExtraInfo?)
    -> (returnStatus: TReturnStatus)
srmRmdir(authorizationID: string?, SURL: anyURI, storageSystemInfo: ArrayOfTExtraInfo?,
    recursive: boolean?)
    -> (returnStatus: TReturnStatus)
srmRm(authorizationID: string?, arrayOfSURLs: ArrayOfAnyURI, storageSystemInfo: ArrayOfTExtraInfo?)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTSURLReturnStatus?)
srmLs(authorizationID: string?, arrayOfSURLs: ArrayOfAnyURI, storageSystemInfo: ArrayOfTExtraInfo~,
    fileStorageType: TFileStorageType?, fullDetailedList: boolean?, allLevelRecursive: boolean?,
    numOfLevels: int?, offset: int?, count: int?)
    -> (returnStatus: TReturnStatus, requestToken: string?, details: ArrayOfTMetaDataPathDetail?)
srmStatusOfLsRequest(authorizationID: string?, requestToken: string, offset: int-, count: int?)
    -> (returnStatus: TReturnStatus, details: ArrayOfTMetaDataPathDetail?)
srmMv(authorizationID: string?, fromSURL: anyURI, toSURL: anyURI, storageSystemInfo: ArrayOfTExtraInfo?)
    -> (returnStatus: TReturnStatus)
srmPrepareToGet(authorizationID: string?, arrayOfFileRequests: ArrayOfTGetFileRequest,
    userRequestDescription: string?, storageSystemInfo: ArrayOfTExtraInfo?,
    desiredFileStorageType: TFileStorageType?, desiredTotalRequestTime: int?, desiredPinLifeTime: int?,
    targetSpaceToken: string?, targetFileRetentionPolicyInfo: TRetentionPolicyInfo?,
    transferParameters: TTransferParameters?)
    -> (returnStatus: TReturnStatus, requestToken: string?,
        arrayOfFileStatuses: ArrayOfTGetRequestFileStatus?, remainingTotalRequestTime: int?)
srmStatusOfGetRequest(requestToken: string, authorizationID: string?, arrayOfSourceSURLs: ArrayOfAnyURI?)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTGetRequestFileStatus?,
        remainingTotalRequestTime: int?)
srmBringOnline(authorizationID: string?, arrayOfFileRequests: ArrayOfTGetFileRequest,
    userRequestDescription: string?, storageSystemInfo: ArrayOfTExtraInfo?,
    desiredFileStorageType: TFileStorageType?, desiredTotalRequestTime: int?, desiredLifeTime: int?,
    targetSpaceToken: string?, targetFileRetentionPolicyInfo: TRetentionPolicyInfo?,
    transferParameters: TTransferParameters?, deferredStartTime: int?)
    -> (returnStatus: TReturnStatus, requestToken: string?,
        arrayOfFileStatuses: ArrayOfTBringOnlineRequestFileStatus?, remainingTotalRequestTime: int?,
        remainingDeferredStartTime: int?)
srmStatusOfBringOnlineRequest(requestToken: string, authorizationID: string?,
    arrayOfSourceSURLs: ArrayOfAnyURI?)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTBringOnlineRequestFileStatus?,
        remainingTotalRequestTime: int?, remainingDeferredStartTime: int?)
srmPrepareToPut(authorizationID: string?, arrayOfFileRequests: ArrayOfTPutFileRequest?,
    userRequestDescription: string?, overwriteOption: TOverwriteMode?,
    storageSystemInfo: ArrayOfTExtraInfo?, desiredTotalRequestTime: int?, desiredPinLifeTime: int?,
    desiredFileLifeTime: int?, desiredFileStorageType: TFileStorageType?, targetSpaceToken: string?,
    targetFileRetentionPolicyInfo: TRetentionPolicyInfo?, transferParameters: TTransferParameters?)
    -> (returnStatus: TReturnStatus, requestToken: string?,
        arrayOfFileStatuses: ArrayOfTPutRequestFileStatus?, remainingTotalRequestTime: int?)
srmStatusOfPutRequest(requestToken: string, authorizationID: string?, arrayOfTargetSURLs: ArrayOfAnyURI?)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTPutRequestFileStatus?,
        remainingTotalRequestTime: int?)
srmCopy(authorizationID: string?, arrayOfFileRequests: ArrayOfTCopyFileRequest,
    userRequestDescription: string?, overwriteOption: TOverwriteMode?, desiredTotalRequestTime: int?,
    desiredTargetSURLLifeTime: int?, targetFileStorageType: TFileStorageType?, targetSpaceToken: string?,
    targetFileRetentionPolicyInfo: TRetentionPolicyInfo?, sourceStorageSystemInfo: ArrayOfTExtraInfo?,
    targetStorageSystemInfo: ArrayOfTExtraInfo?)
    -> (returnStatus: TReturnStatus, requestToken: string?,
        arrayOfFileStatuses: ArrayOfTCopyRequestFileStatus?, remainingTotalRequestTime: int?)
srmStatusOfCopyRequest(requestToken: string, authorizationID: string?, arrayOfSourceSURLs: ArrayOfAnyURI?,
    arrayOfTargetSURLs: ArrayOfAnyURI?)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTCopyRequestFileStatus?,
        remainingTotalRequestTime: int?)
srmReleaseFiles(requestToken: string?, authorizationID: string?, arrayOfSURLs: ArrayOfAnyURI?,
    doRemove: boolean?)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTSURLReturnStatus?)
srmPutDone(requestToken: string, authorizationID: string?, arrayOfSURLs: ArrayOfAnyURI)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTSURLReturnStatus?)
srmAbortRequest(requestToken: string, authorizationID: string?)
    -> (returnStatus: TReturnStatus)
srmAbortFiles(requestToken: string, arrayOfSURLs: ArrayOfAnyURI, authorizationID: string?)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTSURLReturnStatus?)
srmSuspendRequest(requestToken: string, authorizationID: string?)
    -> (returnStatus: TReturnStatus)
srmResumeRequest(requestToken: string, authorizationID: string?)
    -> (returnStatus: TReturnStatus)
srmGetRequestSummary(arrayOfRequestTokens: ArrayOfString, authorizationID: string?)
    -> (returnStatus: TReturnStatus, arrayOfRequestSummaries: ArrayOfTRequestSummary?)
srmExtendFileLifeTime(authorizationID: string?, requestToken: string?, arrayOfSURLs: ArrayOfAnyURI,
    newFileLifeTime: int?, newPinLifeTime: int?)
    -> (returnStatus: TReturnStatus, arrayOfFileStatuses: ArrayOfTSURLLifetimeReturnStatus?)
srmGetRequestTokens(userRequestDescription: string?, authorizationID: string?)
    -> (returnStatus: TReturnStatus, arrayOfRequestTokens: ArrayOfTRequestTokenReturn?)
srmGetTransferProtocols(authorizationID: string?)
    -> (returnStatus: TReturnStatus, protocolInfo: ArrayOfTSupportedTransferProtocol?)
srmPing(authorizationID: string?)
    -> (versionInfo: string, otherInfo: ArrayOfTExtraInfo?)
"""

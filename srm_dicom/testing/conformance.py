"""A small language for conformance cases of SRM v2.2, and what runs it with zeep over httpg.

A case is a few steps, one a line: ``verb arguments = codes``. Codes are without ``SRM_``: the request's
status, and after a slash the file statuses in their order; ``A|B`` accepts either, ``?`` anything. Names are
below a directory of the case's own. ``get``, ``put``, ``reserve`` and their like remember the token that they
get; a later step means the last one, or with ``#1`` an earlier one, counted from 1.

    put f = SUCCESS/SPACE_AVAILABLE
    send f content
    done f = SUCCESS/SUCCESS
    get f = ?
    ready = SUCCESS/FILE_PINNED
    release f = SUCCESS/SUCCESS
"""

from __future__ import annotations

import shlex
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zeep

from srm_dicom.client.http import HttpClient
from srm_dicom.identity.credential import Credential
from srm_dicom.srm.wsdl import document
from srm_dicom.testing.element import ROOT, StorageElement
from srm_dicom.testing.over_httpg import OverHttpg

PATIENCE_S = 30.0
WAITING = ("SRM_REQUEST_QUEUED", "SRM_REQUEST_INPROGRESS")


class Caller:
    """One user's SRM service, and the https door for the bytes."""

    def __init__(
        self,
        element: StorageElement,
        credential: Credential,
        wsdl: Path,
        http: HttpClient | None = None,
    ) -> None:
        self.http = http or HttpClient(f"httpg://localhost:{element.srm.port}", credential)
        self.door = HttpClient(f"https://localhost:{element.webdav.port}", credential)
        client = zeep.Client(str(wsdl))  # type: ignore[no-untyped-call]
        client.transport = OverHttpg(self.http, "/srm/managerv2")
        self.service = client.service

    def close(self) -> None:
        """Hang up."""
        self.http.close()
        self.door.close()


class Run:
    """One case under way; `verbs` are its methods.

    Args:
        element: is asked.
        callers: the users, by name.
        simple: call files ``srm://host:port/path``, not ``srm://host:port/endpoint?SFN=/path``.
    """

    def __init__(self, element: StorageElement, callers: dict[str, Caller], *, simple: bool = False) -> None:
        self._element = element
        self._callers = callers
        self._caller = callers["alice"]
        self._top = f"{uuid.uuid4().hex[:12]}"
        self._tokens: list[str] = []
        self._turls: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._simple = simple
        self.answer: Any = None
        self._call("srmMkdir", SURL=self.surl(""))

    def surl(self, name: str) -> str:
        """Return the SURL of a name of the case; what begins with ``srm:`` or ``/`` stays as it is."""
        if name.startswith("srm:") or "://" in name:
            return name
        path = name if name.startswith("/") else f"{ROOT}/{self._top}/{name}".rstrip("/")
        endpoint = "" if self._simple else "/srm/managerv2?SFN="
        return f"srm://localhost:{self._element.srm.port}{endpoint}{path}"

    def steps(self, text: str) -> None:
        """Run the steps of a case.

        Raises:
            AssertionError: an answer is none of those that are accepted.
        """
        for line in filter(None, map(str.strip, text.strip().splitlines())):
            command, _, expected = line.partition(" = ")
            verb, *words = shlex.split(command)
            codes = getattr(self, f"do_{verb}")(words)
            if expected:
                _check(line, expected.strip(), codes, self.answer)

    # --- requests --------------------------------------------------------------------------------

    def do_as(self, words: Sequence[str]) -> None:
        """Go on as another user."""
        self._caller = self._callers[words[0]]

    def do_put(self, words: Sequence[str]) -> list[str]:
        """``put name... [size=N] [overwrite] [total=S] [protocol=P] [space] [about=TEXT] [policy=P]``."""
        names, options = _split(words)
        files = [
            {"targetSURL": self.surl(name), "expectedFileSize": int(options.get("size", 8))} for name in names
        ]
        return self._begin(
            "put",
            "srmPrepareToPut",
            "arrayOfFileStatuses",
            arrayOfFileRequests={"requestArray": files},
            overwriteOption="ALWAYS" if "overwrite" in options else None,
            desiredTotalRequestTime=_number(options, "total"),
            userRequestDescription=options.get("about"),
            targetSpaceToken=options.get("token", self._tokens[-1] if "space" in options else None),
            targetFileRetentionPolicyInfo=_policy(options) if "policy" in options else None,
            transferParameters=_parameters(options.get("protocol", "https")),
        )

    def do_get(self, words: Sequence[str]) -> list[str]:
        """``get name... [protocol=P] [about=TEXT] [pin=S]``."""
        return self._prepare("get", "srmPrepareToGet", words)

    def do_bring(self, words: Sequence[str]) -> list[str]:
        """``bring name...``."""
        return self._prepare("bring", "srmBringOnline", words)

    def do_copy(self, words: Sequence[str]) -> list[str]:
        """``copy source target``."""
        pair = {"sourceSURL": self.surl(words[0]), "targetSURL": self.surl(words[1])}
        return self._begin(
            "copy", "srmCopy", "arrayOfFileStatuses", arrayOfFileRequests={"requestArray": [pair]}
        )

    def do_status(self, words: Sequence[str]) -> list[str]:
        """``status [name...] [#n] [token=T]``: as the last request is."""
        names, options = _split(words)
        token = self._token(options)
        operation, field = {
            "put": ("srmStatusOfPutRequest", "arrayOfTargetSURLs"),
            "get": ("srmStatusOfGetRequest", "arrayOfSourceSURLs"),
            "copy": ("srmStatusOfCopyRequest", "arrayOfTargetSURLs"),
            "bring": ("srmStatusOfBringOnlineRequest", "arrayOfSourceSURLs"),
        }[options.get("kind") or self._kinds.get(token, "get")]
        return self._of_token(operation, token, field, names)

    def do_ready(self, words: Sequence[str]) -> list[str]:
        """Ask for the status until nothing waits any more."""
        until_s = time.monotonic() + PATIENCE_S
        codes = self.do_status(words)
        while codes[0] in WAITING and time.monotonic() < until_s:
            time.sleep(0.1)
            codes = self.do_status(words)
        return codes

    def do_done(self, words: Sequence[str]) -> list[str]:
        """``done name... [#n] [token=T]``: srmPutDone."""
        names, options = _split(words)
        return self._of_token("srmPutDone", self._token(options), "arrayOfSURLs", names)

    def do_release(self, words: Sequence[str]) -> list[str]:
        """``release [name...] [#n|no token]``."""
        names, options = _split(words)
        token = None if "anywhere" in options else self._token(options)
        return self._of_token("srmReleaseFiles", token, "arrayOfSURLs", names)

    def do_abort(self, words: Sequence[str]) -> list[str]:
        """``abort [name...] [#n]``: of files, or of the request."""
        names, options = _split(words)
        if names:
            return self._of_token("srmAbortFiles", self._token(options), "arrayOfSURLs", names)
        return self._call("srmAbortRequest", requestToken=self._token(options))

    def do_suspend(self, words: Sequence[str]) -> list[str]:
        """Suspend a request."""
        return self._call("srmSuspendRequest", requestToken=self._token(_split(words)[1]))

    def do_resume(self, words: Sequence[str]) -> list[str]:
        """Resume a request."""
        return self._call("srmResumeRequest", requestToken=self._token(_split(words)[1]))

    def do_extend(self, words: Sequence[str]) -> list[str]:
        """``extend name... pin=S|file=S [#n]``."""
        names, options = _split(words)
        return self._call(
            "srmExtendFileLifeTime",
            requestToken=self._token(options) if "pin" in options else None,
            arrayOfSURLs=self._urls(names),
            newPinLifeTime=_number(options, "pin"),
            newFileLifeTime=_number(options, "file"),
        )

    def do_summary(self, words: Sequence[str]) -> list[str]:
        """Sum a request up."""
        tokens = {"stringArray": [self._token(_split(words)[1])]}
        return self._call("srmGetRequestSummary", arrayOfRequestTokens=tokens)

    def do_tokens(self, words: Sequence[str]) -> list[str]:
        """``tokens [about=TEXT]``."""
        return self._call("srmGetRequestTokens", userRequestDescription=_split(words)[1].get("about"))

    def do_send(self, words: Sequence[str]) -> list[str]:
        """``send name content``: upload through the door, at the TURL of the last put of this name."""
        name, content = words[0], (words[1] if len(words) > 1 else "").encode()
        answer = self._caller.door.request("PUT", urlsplit(self._turls[name]).path, content)
        assert answer.status in (200, 201, 204), answer.status
        return []

    def do_read(self, words: Sequence[str]) -> list[str]:
        """``read name content``: fetch through the door, at the TURL of the last get of this name."""
        answer = self._caller.door.request("GET", urlsplit(self._turls[words[0]]).path)
        assert answer.body == words[1].encode()
        return []

    def do_store(self, words: Sequence[str]) -> list[str]:
        """``store name content``: the whole of writing one file."""
        self.do_put([words[0], *words[2:]])
        self.do_send(words)
        codes = self.do_done(words[:1])
        self._tokens.pop()
        return codes

    # --- names -----------------------------------------------------------------------------------

    def do_mkdir(self, words: Sequence[str]) -> list[str]:
        """Make a directory."""
        return self._call("srmMkdir", SURL=self.surl(words[0]))

    def do_rmdir(self, words: Sequence[str]) -> list[str]:
        """``rmdir name [recursive]``."""
        names, options = _split(words)
        return self._call("srmRmdir", SURL=self.surl(names[0]), recursive="recursive" in options)

    def do_rm(self, words: Sequence[str]) -> list[str]:
        """Remove files."""
        return self._call("srmRm", arrayOfSURLs=self._urls(words))

    def do_mv(self, words: Sequence[str]) -> list[str]:
        """Rename."""
        return self._call("srmMv", fromSURL=self.surl(words[0]), toSURL=self.surl(words[1]))

    def do_ls(self, words: Sequence[str]) -> list[str]:
        """``ls name... [levels=N] [offset=N] [count=N] [all]``; `shown` tells what was listed."""
        names, options = _split(words)
        return self._call(
            "srmLs",
            arrayOfSURLs=self._urls(names),
            fullDetailedList=True,
            numOfLevels=_number(options, "levels"),
            offset=_number(options, "offset"),
            count=_number(options, "count"),
            allLevelRecursive=True if "all" in options else None,
            storageSystemInfo=None,
        )

    def do_shown(self, words: Sequence[str]) -> None:
        """``shown name...``: exactly these stood below the first name of the last ls."""
        (top,) = self.answer.details.pathDetailArray
        below = top.arrayOfSubPaths.pathDetailArray if top.arrayOfSubPaths else []
        assert [one.path.rpartition("/")[2] for one in below] == list(words)

    def do_size(self, words: Sequence[str]) -> None:
        """``size N``: of the first name of the last ls, with a checksum beside it."""
        top = self.answer.details.pathDetailArray[0]
        assert top.size == int(words[0])
        assert top.checkSumType == "ADLER32"
        assert len(top.checkSumValue) == len("00000001")

    def do_detailed(self, _words: Sequence[str]) -> None:
        """Look whether the first name of the last ls is described as a full listing has to."""
        top = self.answer.details.pathDetailArray[0]
        assert top.createdAtTime is not None
        assert top.lastModificationTime is not None
        assert top.ownerPermission.userID
        assert top.ownerPermission.mode
        assert top.otherPermission is not None
        assert top.type in ("FILE", "DIRECTORY")

    def do_left(self, words: Sequence[str]) -> None:
        """``left LEAST MOST``: seconds that the last status has for the pin of its first file."""
        file = self.answer.arrayOfFileStatuses.statusArray[0]
        kept = file.remainingPinTime if hasattr(file, "remainingPinTime") else file.remainingPinLifetime
        assert int(words[0]) <= (kept or 0) <= int(words[1]), kept

    def do_permit(self, words: Sequence[str]) -> list[str]:
        """``permit name ADD|REMOVE|CHANGE other=R``."""
        names, options = _split(words)
        return self._call(
            "srmSetPermission",
            SURL=self.surl(names[0]),
            permissionType=names[1],
            ownerPermission=options.get("owner"),
            otherPermission=options.get("other"),
        )

    def do_check(self, words: Sequence[str]) -> list[str]:
        """Ask srmCheckPermission."""
        return self._call("srmCheckPermission", arrayOfSURLs=self._urls(words))

    def do_permissions(self, words: Sequence[str]) -> list[str]:
        """Ask srmGetPermission."""
        return self._call("srmGetPermission", arrayOfSURLs=self._urls(words))

    # --- spaces and the rest ---------------------------------------------------------------------

    def do_reserve(self, words: Sequence[str]) -> list[str]:
        """``reserve size=N [lifetime=S] [about=TEXT] [policy=P] [latency=L]``."""
        options = _split(words)[1]
        policy = None if "unspoken" in options else _policy(options)
        codes = self._call(
            "srmReserveSpace",
            retentionPolicyInfo=policy or zeep.xsd.SkipValue,
            desiredSizeOfGuaranteedSpace=int(options.get("size", 1000)),
            desiredLifetimeOfReservedSpace=_number(options, "lifetime"),
            userSpaceTokenDescription=options.get("about"),
        )
        if self.answer.spaceToken:
            self._tokens.append(self.answer.spaceToken)
        return codes

    def do_reserved(self, words: Sequence[str]) -> list[str]:
        """Ask for the status of a reservation."""
        return self._call("srmStatusOfReserveSpaceRequest", requestToken=self._token(_split(words)[1]))

    def do_update(self, words: Sequence[str]) -> list[str]:
        """``update size=N|lifetime=S``."""
        options = _split(words)[1]
        return self._call(
            "srmUpdateSpace",
            spaceToken=self._token(options),
            newSizeOfGuaranteedSpaceDesired=_number(options, "size"),
            newLifeTime=_number(options, "lifetime"),
        )

    def do_updated(self, words: Sequence[str]) -> list[str]:
        """Ask for the status of a change of a space."""
        return self._call("srmStatusOfUpdateSpaceRequest", requestToken=self._token(_split(words)[1]))

    def do_free(self, words: Sequence[str]) -> list[str]:
        """Release a space."""
        return self._call("srmReleaseSpace", spaceToken=self._token(_split(words)[1]))

    def do_space(self, words: Sequence[str]) -> list[str]:
        """Ask about a space."""
        tokens = {"stringArray": [self._token(_split(words)[1])]}
        return self._call("srmGetSpaceMetaData", arrayOfSpaceTokens=tokens)

    def do_unused(self, words: Sequence[str]) -> None:
        """``unused N``: what the space of the last `space` has left."""
        assert self.answer.arrayOfSpaceDetails.spaceDataArray[0].unusedSize == int(words[0])

    def do_spaces(self, words: Sequence[str]) -> list[str]:
        """``spaces [about=TEXT]``."""
        return self._call("srmGetSpaceTokens", userSpaceTokenDescription=_split(words)[1].get("about"))

    def do_into(self, words: Sequence[str]) -> list[str]:
        """``into name...``: srmChangeSpaceForFiles to the last space."""
        names, options = _split(words)
        return self._call(
            "srmChangeSpaceForFiles", arrayOfSURLs=self._urls(names), targetSpaceToken=self._token(options)
        )

    def do_stay(self, words: Sequence[str]) -> list[str]:
        """``stay name...``: srmExtendFileLifeTimeInSpace."""
        names, options = _split(words)
        return self._call(
            "srmExtendFileLifeTimeInSpace", arrayOfSURLs=self._urls(names), spaceToken=self._token(options)
        )

    def do_purge(self, words: Sequence[str]) -> list[str]:
        """``purge name...``: srmPurgeFromSpace."""
        names, options = _split(words)
        return self._call(
            "srmPurgeFromSpace", arrayOfSURLs=self._urls(names), spaceToken=self._token(options)
        )

    def do_protocols(self, _words: Sequence[str]) -> list[str]:
        """Ask for the transfer protocols."""
        return self._call("srmGetTransferProtocols")

    def do_ping(self, _words: Sequence[str]) -> list[str]:
        """Ping."""
        self.answer = self._caller.service.srmPing({})
        assert self.answer.versionInfo == "v2.2"
        return []

    def do_wait(self, words: Sequence[str]) -> None:
        """Let seconds pass."""
        time.sleep(float(words[0]))

    # --- calling ---------------------------------------------------------------------------------

    def _call(self, operation: str, **arguments: Any) -> list[str]:
        given = {key: value for key, value in arguments.items() if value is not None}
        answer = getattr(self._caller.service, operation)(given)
        self.answer = answer
        status = getattr(answer, "returnStatus", answer)  # zeep unwraps a message of one element
        return [status.statusCode, *_file_codes(answer)]

    def _begin(self, kind: str, operation: str, field: str, **arguments: Any) -> list[str]:
        codes = self._call(operation, **arguments)
        if self.answer.requestToken:
            self._tokens.append(self.answer.requestToken)
            self._kinds[self.answer.requestToken] = kind
        self._remember(getattr(self.answer, field))
        return codes

    def _prepare(self, kind: str, operation: str, words: Sequence[str]) -> list[str]:
        names, options = _split(words)
        files = [{"sourceSURL": self.surl(name)} for name in names]
        return self._begin(
            kind,
            operation,
            "arrayOfFileStatuses",
            arrayOfFileRequests={"requestArray": files},
            userRequestDescription=options.get("about"),
            desiredPinLifeTime=_number(options, "pin"),
            transferParameters=_parameters(options.get("protocol", "https")),
        )

    def _of_token(self, operation: str, token: str | None, field: str, names: Sequence[str]) -> list[str]:
        codes = self._call(operation, requestToken=token, **({field: self._urls(names)} if names else {}))
        self._remember(getattr(self.answer, "arrayOfFileStatuses", None))
        return codes

    def _remember(self, statuses: Any) -> None:
        for file in statuses.statusArray if statuses else []:
            turl = getattr(file, "transferURL", None)
            surl = getattr(file, "SURL", None) or getattr(file, "sourceSURL", None)
            if turl and surl:
                self._turls[surl.partition(f"{self._top}/")[2]] = turl

    def _token(self, options: dict[str, str]) -> str:
        if "token" in options:
            return options["token"]
        return self._tokens[int(options.get("#", 0)) - 1]

    def _urls(self, names: Sequence[str]) -> dict[str, list[str]]:
        return {"urlArray": [self.surl(name) for name in names]}


FLAGS = ("overwrite", "recursive", "space", "anywhere", "all", "unspoken")


def _split(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Part the names of a step from its options."""
    names, options = [], {}
    for word in words:
        key, equals, value = word.partition("=")
        if word.startswith("#"):
            options["#"] = word[1:]
        elif word in FLAGS:
            options[word] = word
        elif equals and "://" not in word:
            options[key] = value
        else:
            names.append(word)
    return names, options


def _number(options: dict[str, str], name: str) -> int | None:
    return int(options[name]) if name in options else None


def _policy(options: dict[str, str]) -> dict[str, str]:
    policy = {"retentionPolicy": options.get("policy", "REPLICA")}
    return policy | ({"accessLatency": options["latency"]} if "latency" in options else {})


def _parameters(protocol: str) -> dict[str, Any]:
    return {"arrayOfTransferProtocols": {"stringArray": protocol.split(",")}}


_LISTS: Sequence[tuple[str, str]] = (
    ("arrayOfFileStatuses", "statusArray"),
    ("details", "pathDetailArray"),
    ("arrayOfPermissions", "surlPermissionArray"),
    ("arrayOfPermissionReturns", "permissionArray"),
    ("arrayOfRequestSummaries", "summaryArray"),
    ("arrayOfSpaceDetails", "spaceDataArray"),
)


def _file_codes(answer: Any) -> list[str]:
    for field, items in _LISTS:
        held = getattr(answer, field, None)
        if held:
            return [item.status.statusCode for item in getattr(held, items)]
    return []


def _check(line: str, expected: str, codes: Sequence[str], answer: Any) -> None:
    request, _, files = expected.partition("/")
    wanted = [request, *(files.split(",") if files else [])]
    accepts: Callable[[str, str], bool] = lambda word, code: word == "?" or code[4:] in word.split("|")  # noqa: E731
    found = list(codes) if files else list(codes)[:1]
    assert len(found) == len(wanted), f"{line}: {codes}"
    assert all(map(accepts, wanted, found)), f"{line}: {codes}\n{answer}"


def callers(element: StorageElement, directory: Path) -> dict[str, Caller]:
    """Make a caller for each user of a storage element."""
    wsdl = directory / "srm.v2.2.wsdl"
    wsdl.write_bytes(document())
    return {name: Caller(element, getattr(element, name), wsdl) for name in ("alice", "bob", "reader")}


__all__ = ["ROOT", "Caller", "Run", "callers"]

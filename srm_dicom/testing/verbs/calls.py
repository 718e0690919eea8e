"""One case's calls of an SRM with zeep: what they are given by default, and what is remembered of answers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zeep

from srm_dicom.client.http import HttpClient
from srm_dicom.identity.credential import Credential
from srm_dicom.testing.element import ROOT, StorageElement
from srm_dicom.testing.over_httpg import OverHttpg


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


class Calls:
    """What the verbs of a case have in common.

    Args:
        element: is asked.
        callers: the users, by name.
        simple: call files ``srm://host:port/path``, not ``srm://host:port/endpoint?SFN=/path``.

    Attributes:
        caller: who asks.
        tokens: of requests and spaces, the last one last.
        turls: by name, of the last put or get of it.
        kinds: of requests, by token.
        answer: the last one.
    """

    def __init__(self, element: StorageElement, callers: dict[str, Caller], *, simple: bool = False) -> None:
        self._element = element
        self.callers = callers
        self.caller = callers["alice"]
        self._top = f"{uuid.uuid4().hex[:12]}"
        self.tokens: list[str] = []
        self.turls: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self._simple = simple
        self.answer: Any = None
        self.call("srmMkdir", SURL=self.surl(""))

    def surl(self, name: str) -> str:
        """Return the SURL of a name of the case; what begins with ``srm:`` or ``/`` stays as it is."""
        if name.startswith("srm:") or "://" in name:
            return name
        path = name if name.startswith("/") else f"{ROOT}/{self._top}/{name}".rstrip("/")
        endpoint = "" if self._simple else "/srm/managerv2?SFN="
        return f"srm://localhost:{self._element.srm.port}{endpoint}{path}"

    def call(self, operation: str, **arguments: Any) -> list[str]:
        """Call an operation with what is not None; returns the codes of the request and of its files."""
        given = {key: value for key, value in arguments.items() if value is not None}
        answer = getattr(self.caller.service, operation)(given)
        self.answer = answer
        status = getattr(answer, "returnStatus", answer)  # zeep unwraps a message of one element
        return [status.statusCode, *_file_codes(answer)]

    def begin(self, kind: str, operation: str, field: str, **arguments: Any) -> list[str]:
        """Call what begins a request, and remember its token."""
        codes = self.call(operation, **arguments)
        if self.answer.requestToken:
            self.tokens.append(self.answer.requestToken)
            self.kinds[self.answer.requestToken] = kind
        self._remember(getattr(self.answer, field))
        return codes

    def prepare(self, kind: str, operation: str, words: Sequence[str]) -> list[str]:
        """Begin a request for files to read."""
        names, options = split(words)
        files = [{"sourceSURL": self.surl(name)} for name in names]
        return self.begin(
            kind,
            operation,
            "arrayOfFileStatuses",
            arrayOfFileRequests={"requestArray": files},
            userRequestDescription=options.get("about"),
            desiredPinLifeTime=number(options, "pin"),
            transferParameters=parameters(options.get("protocol", "https")),
        )

    def of_token(self, operation: str, token: str | None, field: str, names: Sequence[str]) -> list[str]:
        """Call what is about a request, or about some of its files."""
        codes = self.call(operation, requestToken=token, **({field: self.urls(names)} if names else {}))
        self._remember(getattr(self.answer, "arrayOfFileStatuses", None))
        return codes

    def _remember(self, statuses: Any) -> None:
        for file in statuses.statusArray if statuses else []:
            turl = getattr(file, "transferURL", None)
            surl = getattr(file, "SURL", None) or getattr(file, "sourceSURL", None)
            if turl and surl:
                self.turls[surl.partition(f"{self._top}/")[2]] = turl

    def token(self, options: dict[str, str]) -> str:
        """Return the token that a step means."""
        if "token" in options:
            return options["token"]
        return self.tokens[int(options.get("#", 0)) - 1]

    def urls(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return names as an array of SURLs."""
        return {"urlArray": [self.surl(name) for name in names]}


FLAGS = ("overwrite", "recursive", "space", "anywhere", "all", "unspoken")


def split(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
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


def number(options: dict[str, str], name: str) -> int | None:
    """Return an option that is a number."""
    return int(options[name]) if name in options else None


def policy_of(options: dict[str, str]) -> dict[str, str]:
    """Return the retention policy, and the latency, that options say."""
    policy = {"retentionPolicy": options.get("policy", "REPLICA")}
    return policy | ({"accessLatency": options["latency"]} if "latency" in options else {})


def parameters(protocol: str) -> dict[str, Any]:
    """Return the transfer protocols of a request, a comma between them."""
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

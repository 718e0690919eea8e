"""Verbs of conformance cases: requests for files, and their bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from srm_dicom.testing.verbs.calls import Calls, number, parameters, policy_of, split

PATIENCE_S = 30.0
WAITING = ("SRM_REQUEST_QUEUED", "SRM_REQUEST_INPROGRESS")


class Requests(Calls):
    """Putting, getting, bringing online and copying."""

    def do_put(self, words: Sequence[str]) -> list[str]:
        """``put name... [size=N] [overwrite] [total=S] [protocol=P] [space] [about=TEXT] [policy=P]``."""
        names, options = split(words)
        files = [
            {"targetSURL": self.surl(name), "expectedFileSize": int(options.get("size", 8))} for name in names
        ]
        return self.begin(
            "put",
            "srmPrepareToPut",
            "arrayOfFileStatuses",
            arrayOfFileRequests={"requestArray": files},
            overwriteOption="ALWAYS" if "overwrite" in options else None,
            desiredTotalRequestTime=number(options, "total"),
            userRequestDescription=options.get("about"),
            targetSpaceToken=options.get("token", self.tokens[-1] if "space" in options else None),
            targetFileRetentionPolicyInfo=policy_of(options) if "policy" in options else None,
            transferParameters=parameters(options.get("protocol", "https")),
        )

    def do_get(self, words: Sequence[str]) -> list[str]:
        """``get name... [protocol=P] [about=TEXT] [pin=S]``."""
        return self.prepare("get", "srmPrepareToGet", words)

    def do_bring(self, words: Sequence[str]) -> list[str]:
        """``bring name...``."""
        return self.prepare("bring", "srmBringOnline", words)

    def do_copy(self, words: Sequence[str]) -> list[str]:
        """``copy source target [policy=P]``."""
        (source, target), options = split(words)
        pair = {"sourceSURL": self.surl(source), "targetSURL": self.surl(target)}
        return self.begin(
            "copy",
            "srmCopy",
            "arrayOfFileStatuses",
            arrayOfFileRequests={"requestArray": [pair]},
            targetFileRetentionPolicyInfo=policy_of(options) if "policy" in options else None,
        )

    def do_status(self, words: Sequence[str]) -> list[str]:
        """``status [name...] [#n] [token=T]``: as the last request is."""
        names, options = split(words)
        token = self.token(options)
        operation, field = {
            "put": ("srmStatusOfPutRequest", "arrayOfTargetSURLs"),
            "get": ("srmStatusOfGetRequest", "arrayOfSourceSURLs"),
            "copy": ("srmStatusOfCopyRequest", "arrayOfTargetSURLs"),
            "bring": ("srmStatusOfBringOnlineRequest", "arrayOfSourceSURLs"),
        }[options.get("kind") or self.kinds.get(token, "get")]
        return self.of_token(operation, token, field, names)

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
        names, options = split(words)
        return self.of_token("srmPutDone", self.token(options), "arrayOfSURLs", names)

    def do_release(self, words: Sequence[str]) -> list[str]:
        """``release [name...] [#n|no token]``."""
        names, options = split(words)
        token = None if "anywhere" in options else self.token(options)
        return self.of_token("srmReleaseFiles", token, "arrayOfSURLs", names)

    def do_abort(self, words: Sequence[str]) -> list[str]:
        """``abort [name...] [#n]``: of files, or of the request."""
        names, options = split(words)
        if names:
            return self.of_token("srmAbortFiles", self.token(options), "arrayOfSURLs", names)
        return self.call("srmAbortRequest", requestToken=self.token(options))

    def do_suspend(self, words: Sequence[str]) -> list[str]:
        """Suspend a request."""
        return self.call("srmSuspendRequest", requestToken=self.token(split(words)[1]))

    def do_resume(self, words: Sequence[str]) -> list[str]:
        """Resume a request."""
        return self.call("srmResumeRequest", requestToken=self.token(split(words)[1]))

    def do_extend(self, words: Sequence[str]) -> list[str]:
        """``extend name... pin=S|file=S [#n]``."""
        names, options = split(words)
        return self.call(
            "srmExtendFileLifeTime",
            requestToken=self.token(options) if "pin" in options else None,
            arrayOfSURLs=self.urls(names),
            newPinLifeTime=number(options, "pin"),
            newFileLifeTime=number(options, "file"),
        )

    def do_summary(self, words: Sequence[str]) -> list[str]:
        """Sum a request up."""
        tokens = {"stringArray": [self.token(split(words)[1])]}
        return self.call("srmGetRequestSummary", arrayOfRequestTokens=tokens)

    def do_tokens(self, words: Sequence[str]) -> list[str]:
        """``tokens [about=TEXT]``."""
        return self.call("srmGetRequestTokens", userRequestDescription=split(words)[1].get("about"))

    def do_send(self, words: Sequence[str]) -> list[str]:
        """``send name content``: upload through the door, at the TURL of the last put of this name."""
        name, content = words[0], (words[1] if len(words) > 1 else "").encode()
        answer = self.caller.door.request("PUT", urlsplit(self.turls[name]).path, content)
        assert answer.status in (200, 201, 204), answer.status
        return []

    def do_read(self, words: Sequence[str]) -> list[str]:
        """``read name content``: fetch through the door, at the TURL of the last get of this name."""
        answer = self.caller.door.request("GET", urlsplit(self.turls[words[0]]).path)
        assert answer.body == words[1].encode()
        return []

    def do_store(self, words: Sequence[str]) -> list[str]:
        """``store name content``: the whole of writing one file."""
        self.do_put([words[0], *words[2:]])
        self.do_send(words)
        codes = self.do_done(words[:1])
        self.tokens.pop()
        return codes

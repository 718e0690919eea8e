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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from srm_dicom.srm.wsdl import document
from srm_dicom.testing.element import StorageElement
from srm_dicom.testing.verbs.calls import Caller
from srm_dicom.testing.verbs.names import Names
from srm_dicom.testing.verbs.requests import Requests
from srm_dicom.testing.verbs.spaces import Spaces


class Run(Requests, Names, Spaces):
    """One case under way; `verbs` are its methods, most of them in `srm_dicom.testing.verbs`."""

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

    def do_as(self, words: Sequence[str]) -> None:
        """Go on as another user."""
        self.caller = self.callers[words[0]]

    def do_protocols(self, _words: Sequence[str]) -> list[str]:
        """Ask for the transfer protocols."""
        return self.call("srmGetTransferProtocols")

    def do_ping(self, _words: Sequence[str]) -> list[str]:
        """Ping."""
        self.answer = self.caller.service.srmPing({})
        assert self.answer.versionInfo == "v2.2"
        return []

    def do_wait(self, words: Sequence[str]) -> None:
        """Let seconds pass."""
        time.sleep(float(words[0]))


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

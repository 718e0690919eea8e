"""Has a file brought online for whoever reads it by https without having asked the SRM before.

It is the caller's own bringOnline, in the same queue; the connection waits for it for a bounded time. Whoever
comes back later asks about the same request again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from srm_dicom.broker.states import ACTIVE
from srm_dicom.broker.views import FileState, FileView, RequestKind, Wish
from srm_dicom.clock import Clock
from srm_dicom.errors import NotAuthorised, RequestUnknown
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.scopes import STAGE
from srm_dicom.ids import SitePath, Token
from srm_dicom.transfer.served import MANIFEST_SUFFIX
from srm_dicom.transfer.tape import Broker
from srm_dicom.turns import Turns

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class NearlineSettings:
    """Bounds.

    Attributes:
        host: of this site's SURLs.
        wait_s: that a connection waits, at most and if its client says nothing.
        waiting: connections that wait at the same time, half of them for one identity at most; more are told
            at once to come back.
        remembered: requests that a caller who comes back is found by.
    """

    host: str
    wait_s: float = 60.0
    waiting: int = 100
    remembered: int = 10_000


class Nearline:
    """Brings files online and waits for them. For any number of threads."""

    def __init__(self, broker: Broker, settings: NearlineSettings, clock: Clock) -> None:
        self._broker = broker
        self._settings = settings
        self._clock = clock
        self._turns = Turns(settings.waiting)
        self._lock = threading.Lock()
        self._asked: OrderedDict[tuple[str, SitePath], Token] = OrderedDict()

    def bring(self, principal: Principal, path: SitePath, wait_s: float | None) -> int | None:
        """Have a file staged.

        Args:
            principal: who may read it.
            path: that is not staged.
            wait_s: for how long the caller waits; None for as long as the site lets it.

        Returns:
            None when the file is there, else in how many seconds to ask again.

        Raises:
            NotAuthorised: the caller's token is for reading alone.
            MdmError: why the file cannot be had.
        """
        path = SitePath(path.removesuffix(MANIFEST_SUFFIX))
        surl = f"srm://{self._settings.host}{path}"
        try:
            self._broker.cover(principal, (surl,), "srmBringOnline", STAGE)
        except NotAuthorised as error:
            raise NotAuthorised("the file is not online", advice=error.advice) from error
        bound_s = self._settings.wait_s
        until_s = self._clock.monotonic_s() + (bound_s if wait_s is None else min(wait_s, bound_s))
        token, view = self._request(principal, path, surl)
        if view.state in ACTIVE and self._turns.take(principal.dn):
            try:
                view = self._wait(principal, token, until_s)
            finally:
                self._turns.release(principal.dn)
        if view.state in ACTIVE:
            return view.wait_s or 1
        with self._lock:
            self._asked.pop((principal.dn, path), None)
        if view.failure is not None:
            raise view.failure
        return None

    def _request(self, principal: Principal, path: SitePath, surl: str) -> tuple[Token, FileView]:
        """Find the caller's request for a file, or make one."""
        key = (principal.dn, path)
        with self._lock:
            token = self._asked.get(key)
        if token is not None:
            try:
                view = self._look(principal, token)
            except RequestUnknown:
                view = None
            if view is not None and view.state in (*ACTIVE, FileState.PINNED):
                return token, view
        wish = Wish(RequestKind.BRING_ONLINE, (surl,))
        request = self._broker.submit(principal, wish)
        with self._lock:
            self._asked[key] = request.token
            while len(self._asked) > self._settings.remembered:
                self._asked.popitem(last=False)
        return request.token, request.files[0]

    def _wait(self, principal: Principal, token: Token, until_s: float) -> FileView:
        pause_s = _FIRST_PAUSE_S
        while True:
            view = self._look(principal, token)
            left_s = until_s - self._clock.monotonic_s()
            if view.state not in ACTIVE or left_s <= 0:
                return view
            self._clock.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _look(self, principal: Principal, token: Token) -> FileView:
        return self._broker.status(principal, token, None, RequestKind.BRING_ONLINE).files[0]

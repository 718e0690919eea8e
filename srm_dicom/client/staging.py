"""Files asked for in one request; a courier is sent for each as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from srm_dicom.client.delivery import Couriers, Fetching
from srm_dicom.client.orders import Got, Order, Parcel
from srm_dicom.client.pin import turl_of
from srm_dicom.client.srm import SrmClient
from srm_dicom.client.srm_views import GetRequest
from srm_dicom.errors import MdmError

COURIERS_PROTOCOLS = ("gsiftp",)


@dataclass(frozen=True, slots=True)
class Watcher:
    """Whom to tell how it goes on; every default says nothing.

    Attributes:
        waiting: gets the request after every poll.
        fetching: gets a file, how many bytes of it are here and how many there are; called from the
            threads that fetch.
    """

    waiting: Callable[[GetRequest], None] = lambda _: None
    fetching: Fetching = lambda _record, _done, _size: None


def delivered(
    srm: SrmClient, orders: Sequence[Order | Parcel], couriers: Couriers, watcher: Watcher, wait_s: float
) -> Iterator[Got | Order]:
    """Yield what became of each ordered file, as it is known; an order of a parcel that cannot be had.

    Whatever ends it, the pins are given back, and what has not been staged by then is withdrawn.

    Args:
        srm: whom to ask.
        orders: as many as one request may have.
        couriers: who fetch.
        watcher: is told of every answer of the server.
        wait_s: how long the server may stage.
    """
    couriers.get_ready()  # the answer may be held until the first file is there
    try:
        surls = [order.surl for order in orders]
        request = srm.prepare_to_get(surls, COURIERS_PROTOCOLS, total_s=int(wait_s))
    except MdmError as error:
        for order in orders:
            yield from order.failed(error)
        return
    waiting = {order.surl: order for order in orders}
    try:
        yield from _followed(srm, request, waiting, couriers, watcher, wait_s)
        yield from couriers.arrived(everything=True)
    finally:
        with suppress(MdmError):
            srm.release(request.token)
        if waiting:
            with suppress(MdmError):
                srm.abort(request.token)


def _followed(
    srm: SrmClient,
    request: GetRequest,
    waiting: dict[str, Order | Parcel],
    couriers: Couriers,
    watcher: Watcher,
    wait_s: float,
) -> Iterator[Got | Order]:
    """Poll until every file is decided; what the server no longer tells of has failed."""
    try:
        for latest in srm.follow(request, wait_s):
            watcher.waiting(latest)
            yield from _sent(latest, waiting, couriers)
            yield from couriers.arrived()
    except MdmError as error:
        for order in waiting.values():
            yield from order.failed(error)


def _sent(
    request: GetRequest, waiting: dict[str, Order | Parcel], couriers: Couriers
) -> Iterator[Got | Order]:
    """Send a courier for each file that is ready now, and yield those that will never be."""
    for file in request.files:
        if file.status.is_waiting or file.surl not in waiting:
            continue
        order = waiting.pop(file.surl)
        try:
            couriers.send(order, turl_of(file))
        except MdmError as error:
            yield from order.failed(error)

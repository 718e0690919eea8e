"""A `Watcher` that draws: how many files are staged, how many bytes have come."""

from __future__ import annotations

import threading

from rich.progress import Progress

from srm_dicom.client.files import FileRecord
from srm_dicom.client.srm_views import GetRequest
from srm_dicom.client.staging import Watcher


def watcher_of(progress: Progress) -> Watcher:
    """Return a watcher that draws its news as two bars: files staged, bytes fetched of those begun."""
    staging = progress.add_task("staging ", total=None)
    fetching = progress.add_task("fetching", total=None)
    sizes: dict[str, tuple[int, int]] = {}
    lock = threading.Lock()
    done = total = 0

    def waiting(request: GetRequest) -> None:
        ready = len(request.files) - len(request.waiting)
        progress.update(staging, total=len(request.files), completed=ready)

    def fetched(record: FileRecord, received: int, size: int) -> None:
        nonlocal done, total
        with lock:
            before, before_size = sizes.get(record.guid, (0, 0))
            done, total = done + received - before, total + size - before_size
            sizes[record.guid] = (received, size)
            progress.update(fetching, total=total, completed=done)

    return Watcher(waiting, fetched)

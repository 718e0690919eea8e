"""A `Watcher` that draws: how many files are staged, how many bytes have come."""

from __future__ import annotations

from rich.progress import Progress

from srm_dicom.client.files import FileRecord
from srm_dicom.client.library import Watcher
from srm_dicom.client.srm_views import GetRequest


def watcher_of(progress: Progress) -> Watcher:
    """Return a watcher that draws its news as two bars: files staged, bytes fetched."""
    staging = progress.add_task("staging ", total=None)
    fetching = progress.add_task("fetching", total=None)
    done: dict[str, int] = {}
    sizes: dict[str, int] = {}

    def waiting(request: GetRequest) -> None:
        ready = len(request.files) - len(request.waiting)
        progress.update(staging, total=len(request.files), completed=ready)

    def fetched(record: FileRecord, received: int, size: int) -> None:
        done[record.guid], sizes[record.guid] = received, size
        progress.update(fetching, total=sum(sizes.values()), completed=sum(done.values()))

    return Watcher(waiting, fetched)

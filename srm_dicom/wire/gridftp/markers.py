"""How a transfer gets on, told by the side that receives: 112 for people, 111 for restarts (GFD.020, 4)."""

from __future__ import annotations

from datetime import datetime

from srm_dicom.wire.gridftp.replies import Reply


def performance(now: datetime, moved_bytes: int) -> Reply:
    """Tell how many bytes have come, over all connections."""
    return Reply.of(
        112,
        "Perf Marker",
        f"Timestamp:  {now.timestamp():.1f}",
        "Stripe Index: 0",
        f"Stripe Bytes Transferred: {moved_bytes}",
        "Total Stripe Count: 1",
        "End.",
    )


def restart(received: str) -> Reply:
    """Tell which bytes need not be sent again; `received` is what `ranges.Received` says."""
    return Reply.of(111, f"Range Marker {received}")

"""How a transfer gets on, told by the side that receives: 112 for people, 111 for restarts (GFD.020, 4)."""

from __future__ import annotations

from datetime import datetime

from srm_dicom.wire.gridftp.replies import Reply


def performance(now: datetime, moved_bytes: int, stripe: int = 0, stripes: int = 1) -> Reply:
    """Tell how many bytes have come to one stripe (a node), over all its connections."""
    return Reply.of(
        112,
        "Perf Marker",
        f"Timestamp:  {now.timestamp():.1f}",
        f"Stripe Index: {stripe}",
        f"Stripe Bytes Transferred: {moved_bytes}",
        f"Total Stripe Count: {stripes}",
        "End.",
    )


def restart(received: str) -> Reply:
    """Tell which bytes need not be sent again; `received` is what `ranges.Received` says."""
    return Reply.of(111, f"Range Marker {received}")

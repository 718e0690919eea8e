"""A site's inner zone over a simulated PACS."""

from srm_dicom.testing.stagedsite import pacs, staging, wait_for

__all__ = ["pacs", "staging", "wait_for"]

"""Bytes at rest: sealed spool, slots, the scratch area with its quota and sweep."""

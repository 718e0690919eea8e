"""Protocols without I/O: httpg, gridftp, amga, lfc."""

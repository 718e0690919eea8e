"""HTTP and WebDAV as a door to files speaks them, without I/O: ranges, conditions, digests, properties."""

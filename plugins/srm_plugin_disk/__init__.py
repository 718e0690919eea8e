"""The disk storage plugin: a POSIX directory behind the storage plugin interface."""

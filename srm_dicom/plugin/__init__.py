"""The storage plugin interface and its host."""

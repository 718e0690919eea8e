"""One file an SRM operation."""

"""The HTTP server under SRM, keys, files and pages: httpg and https on one port."""

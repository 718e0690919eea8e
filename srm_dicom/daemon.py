"""Composition root: Config to running services."""

"""Rows: namespace, requests, pins, what is staged where."""

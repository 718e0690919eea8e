"""Removes every identity: PS3.15 table E.1-1 as an allow-list, checked by an independent walk."""

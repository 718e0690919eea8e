"""Every command of the server; `table.COMMANDS` is complete once this package is imported."""

from mdm_metadata.commands import collections, entries, queries, rights
from mdm_metadata.commands.table import COMMANDS, Command, Session, Upload

__all__ = ["COMMANDS", "Command", "Session", "Upload", "collections", "entries", "queries", "rights"]

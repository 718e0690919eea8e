#!/usr/bin/python3 -IuWignore
"""Debian's Python for Debian's gfal commands (``GFAL_PYTHONBIN``), which ends when the command has ended.

One gfal command in sixty that spoke gsiftp damages its heap while Globus's modules leave the process,
whoever served it: its work is done, its exit code is lost. Here the code is handed on before that.
"""

import os
import runpy
import sys
from itertools import dropwhile

sys.argv = list(dropwhile(lambda word: word.startswith("-"), sys.argv[1:]))
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as ended:
    os._exit(ended.code if isinstance(ended.code, int) else ended.code is not None)

"""Clients of others, timed to the moment at which they end."""

import subprocess
import threading
import time


def seconds_of(command, environment, deadline_s):
    """Run a client that has to succeed, and return the seconds that it took.

    `subprocess` with a time limit looks only every 50 ms whether a program has ended.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    limit = threading.Timer(deadline_s, process.kill)
    limit.start()
    try:
        code = process.wait()
        seconds = time.perf_counter() - begun
    finally:
        limit.cancel()
    if code:
        raise subprocess.CalledProcessError(code, command)
    return seconds

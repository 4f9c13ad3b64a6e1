"""What the runners of programs share: looking at processes, waiting, reaping.

Only Python's own modules: tests/vm/test_interop.py takes this file into the guest."""

import os
import time
from pathlib import Path


class Failure(AssertionError):
    pass


def proc_state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return None


# Limits are for what hangs: a busy machine may stand still for seconds, and an emulated one takes ten times as long.
LIMIT_AT_LEAST = 60 * float(os.environ.get("CRK_TIMEOUT_SCALE", "1"))


def wait_for(predicate, timeout, what):
    end = time.monotonic() + max(timeout, LIMIT_AT_LEAST)
    while time.monotonic() < end:
        if predicate():
            return
        time.sleep(0.01)
    raise Failure(f"timed out: {what}")


def reap_children():
    """All that have ended, whoever started them: a zombie keeps its pid from being restored."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

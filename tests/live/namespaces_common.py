"""Programs that make namespaces of their own."""
import subprocess
import sys

import pytest


PRELUDE = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
os.setsid()
def unshare(flags):
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")
def ready(*what):
    print(*what, flush=True)
    time.sleep(1e6)
NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
"""


@pytest.fixture
def run():
    """Runs a Python text that ends in ready(...); gives its process and what it said."""
    started = []

    def start(text):
        p = subprocess.Popen([sys.executable, "-c", PRELUDE + text], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, text=True)
        started.append(p)
        said = p.stdout.readline().split()
        assert said, "it ended early"
        return p, said

    yield start
    for p in started:
        p.kill()
        p.wait()
        p.stdout.close()

"""Namespaces of a tree's own: what cannot come back is named before anything has changed."""

import subprocess
import sys

import pytest

from live import CR

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


def check(pid):
    done = subprocess.run([CR, "check", "-t", str(pid)], capture_output=True, text=True,
                          check=False)
    return done.returncode, done.stdout + done.stderr


def test_message_queues_of_an_own_ipc_namespace_are_refused_by_name(run):
    p, _ = run("""
unshare(NEWIPC)
libc.mq_open(b"/posix", os.O_CREAT | os.O_RDWR, 0o600, None)
ready(1)
""")
    code, text = check(p.pid)
    assert code == 1
    assert "POSIX message queue /posix" in text, text


@pytest.mark.parametrize("name", ["ipc"])
def test_a_namespace_that_others_are_in_is_refused(run, name):
    flag = {"ipc": "NEWIPC", "net": "NEWNET"}[name]
    p, _ = run(f"unshare({flag})\nready(1)")
    other, _ = run(f"fd = os.open('/proc/{p.pid}/ns/{name}', 0)\nlibc.setns(fd, 0)\nready(1)")
    code, text = check(p.pid)
    assert code == 1
    assert f"process {other.pid} (" in text and f"outside of the tree is in its {name} namespace" \
        in text, text

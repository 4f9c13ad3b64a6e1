"""Threads and children that begin others and end while the tree is being stopped without a freezer, or as it is let go."""
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from live import CR, check, cr, kill, proc_state, start_python, stop_python, wait_for

# Each begins the next one and ends, so one lives at any time.
THREADS = """
import _thread
for _ in range(5):
    _thread.start_new_thread(time.sleep, (1e6,))
def relay():
    _thread.start_new_thread(relay, ())
relay()
print(os.getpid(), flush=True)
time.sleep(1e6)
"""
CHILDREN = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
libc.prctl(36, 1, 0, 0, 0)      # PR_SET_CHILD_SUBREAPER
print(os.getpid(), flush=True)
if not os.fork():
    while True:
        if os.fork():
            os._exit(0)
while True:
    time.sleep(1e6)
"""


def tree_of(images):
    done = subprocess.run([CR, "show", "--json", images / "pstree.img"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["entries"]


def end_all(p):
    """Its children first: they would fall to us, and go on."""
    os.kill(p.pid, signal.SIGSTOP)

    def children():
        for pid in open(f"/proc/{p.pid}/task/{p.pid}/children", encoding="ascii").read().split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
            yield pid
    wait_for(lambda: not list(children()), 20, "the end of the children")
    stop_python(p)


@pytest.mark.parametrize("code, rounds", [(THREADS, 60), (CHILDREN, 60)], ids=["threads", "children"])
def test_who_is_begun_as_the_tree_stops_is_found(code, rounds, tmp_path):
    p, (pid,) = start_python(code)
    missed = 0
    try:
        for n in range(rounds):
            images = tmp_path / str(n)
            images.mkdir()
            check(cr("dump", images, "-t", str(pid), "-R"), f"dump {n}")
            tree = tree_of(images)
            missed += len(tree) < 2 if code == CHILDREN else len(tree[0]["threads"]) < 7
        assert not missed, f"{missed} of {rounds}"
    finally:
        end_all(p)


def test_a_slow_machine_is_not_mistaken_for_a_fast_service(tmp_path):
    """Here one look at all threads takes longer than the time after which no more are looked for."""
    p, _ = start_python("""
import _thread
for _ in range(20):
    _thread.start_new_thread(time.sleep, (1e6,))
print(os.getpid(), flush=True)
time.sleep(1e6)""")
    try:
        done = subprocess.run(["strace", "-f", "-e", "trace=ptrace", "-e", "inject=ptrace:delay_enter=50000:when=1..40",
                               CR, "dump", "-t", str(p.pid), "-D", tmp_path, "-R", "--timeout", "1"],
                              capture_output=True, text=True, check=False,
                              env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})  # not under strace
        assert "DELAYED" in done.stderr, done.stderr
        assert done.returncode == 0, done.stdout + done.stderr[-1000:]
        assert len(tree_of(tmp_path)[0]["threads"]) == 21
    finally:
        stop_python(p)


# One thread acts as soon as there is the file, which a script makes while all stand still; the others are let go after it.
ACTS = """
import _thread
def act():
    while not os.path.exists({trigger!r}):
        pass
    {action}
for _ in range(100):
    _thread.start_new_thread(time.sleep, (1e6,))
if {last}:
    _thread.start_new_thread(act, ())
print(os.getpid(), flush=True)
if not {last}:
    act()
time.sleep(1e6)
"""
ACTIONS = {"ends": "os._exit(0)", "executes": "os.execv('/bin/sleep', ['sleep', '1000'])"}


@pytest.fixture
def acting(tmp_path):
    """Starts such a program; its process, its file, a directory for images and the script for that moment."""
    started = []

    def start(action, last, moment):
        trigger, images, script = tmp_path / "trigger", tmp_path / "images", tmp_path / "script"
        images.mkdir()
        p, _ = start_python(ACTS.format(trigger=str(trigger), action=ACTIONS[action], last=last))
        started.append(p)
        script.write_text(f'#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != {moment} ] || : >{trigger}\n')
        script.chmod(0o755)
        time.sleep(0.2)     # all threads
        return p, images, script
    yield start
    for p in started:
        kill(p.pid)
        stop_python(p)


def became(pid):
    """What it executes now; None: it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() if proc_state(pid) != "Z" else None
    except OSError:
        return None


@pytest.mark.parametrize("action", ACTIONS)
def test_a_dump_is_none_the_worse_for_who_ends_as_it_is_let_go(action, acting):
    p, images, script = acting(action, False, "post-dump")
    check(cr("dump", images, "-t", str(p.pid), "-R", "--action-script", script), "dump")
    wait_for(lambda: became(p.pid) == ("sleep" if action == "executes" else None), 20, "it acts")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_restore_is_none_the_worse_for_who_ends_as_it_is_let_go(action, acting):
    p, images, script = acting(action, True, "pre-resume")
    check(cr("dump", images, "-t", str(p.pid)), "dump")
    p.wait(20)
    check(cr("restore", images, "-d", "--action-script", script), "restore")
    wait_for(lambda: became(p.pid) == ("sleep" if action == "executes" else None), 20, "it acts")

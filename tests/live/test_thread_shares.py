"""What threads have for themselves, and processes with others, cannot all come back: it is named before anything has changed."""
import os
import signal

import pytest

from live import cr_check, start_python, stop_python

# The engine makes threads by their leader: they would be in its namespaces, with its files.
THREAD = """
import threading
pid = os.getpid()
def work():
    {work}
    print(pid, libc.syscall(186), flush=True)
    time.sleep(1e6)
NEWUTS, NEWIPC, NEWNET, NEWTIME, NEWPID = 0x4000000, 0x8000000, 0x40000000, 0x80, 0x20000000
FILES, FS = 0x400, 0x200
t = threading.Thread(target=work)
t.start()
time.sleep(1e6)
"""


@pytest.fixture
def run():
    """Runs a Python text; gives its process and the numbers that it said first."""
    started = []

    def start(code):
        p, said = start_python(code)
        started.append(p)
        assert said, "it ended early"
        return p, said
    yield start
    for p in started:
        stop_python(p)


@pytest.mark.parametrize("work, words", [
    ("libc.unshare(NEWNET)", "has namespaces that are not its process's: net ("),
    ("libc.unshare(NEWUTS | NEWIPC)", "has namespaces that are not its process's: uts ipc ("),
    ("libc.unshare(NEWTIME)", "has namespaces that are not its process's: time_for_children ("),
    ("libc.unshare(NEWPID)", "and those of its other threads do not"),
    ("libc.unshare(FILES)", "has a descriptor table of its own"),
    ("libc.unshare(FS); threading.Thread(target=time.sleep, args=(1e6,)).start()",
     "share a working directory that is not their process's"),
], ids=["net", "two", "time", "pid", "files", "fs"])
def test_what_a_thread_has_for_itself_is_named_with_both_ids(run, work, words):
    p, (pid, tid) = run(THREAD.format(work=work))
    status, text = cr_check(pid)
    assert status == 1 and words in text
    assert f"process {pid} " in text and f"{tid} " in text
    assert p.poll() is None


def test_a_thread_whose_new_namespaces_are_the_old_ones_is_no_obstacle(run):
    _, (pid, _) = run(THREAD.format(work="fd = os.open('/proc/self/ns/uts', 0); libc.unshare(NEWUTS); "
                                         "libc.setns(fd, 0); os.close(fd)"))
    status, text = cr_check(pid)
    assert status == 0, text


def test_a_working_directory_shared_between_processes_is_named(run):
    _, (pid, child) = run("child = libc.syscall(56, 0x200 | 17, 0, 0, 0, 0)\n"
                          "if child:\n    print(os.getpid(), child, flush=True)\ntime.sleep(1e6)\n")
    status, text = cr_check(pid)
    os.kill(child, signal.SIGKILL)
    assert status == 1 and f"process {child} " in text
    assert f"it shares its working directory, root and umask with process {pid}" in text

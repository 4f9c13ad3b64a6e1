"""Sessions and groups that cannot be made again are named before anything has changed."""

import subprocess
import sys

import pytest

from live import CR, cr, proc_state, wait_for

# A subreaper with two children whose leaders have ended: of a session, of a process group.
ORPHANS = """
import ctypes, os, time
os.setsid()
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
for lead in (os.setsid, os.setpgrp):
    if os.fork() == 0:
        lead()
        if os.fork() == 0:
            time.sleep(1e6)
        os._exit(0)
    os.wait()
print("ready", flush=True)
time.sleep(1e6)
"""


@pytest.fixture
def tree():
    p = subprocess.Popen([sys.executable, "-c", ORPHANS], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
        children = [int(c) for c in f.read().split()]
    yield p, children
    for pid in [p.pid, *children]:
        subprocess.run(["kill", "-9", str(pid)], check=False)
    p.wait(20)
    p.stdout.close()


def test_check_names_every_lost_leader_and_the_dump_refuses(tree, tmp_path):
    p, children = tree
    assert len(children) == 2
    done = subprocess.run([CR, "check", "-t", str(p.pid)], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert all(f"process {pid} (" in text for pid in children)
    assert "its session" in text and "its process group" in text and "lost its leader" in text
    images = tmp_path / "images"
    images.mkdir()
    done = cr("dump", images, "-t", str(p.pid))
    assert done.returncode == 1 and "lost its leader" in done.log
    assert {f.name for f in images.iterdir()} <= {"dump.log"}
    wait_for(lambda: all(proc_state(pid) == "S" for pid in [p.pid, *children]), 10, "the tree goes on")


def test_root_that_does_not_lead_its_session_needs_shell_job(tmp_path):
    p = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    try:
        images = tmp_path / "images"
        images.mkdir()
        done = cr("dump", images, "-t", str(p.pid))
        assert done.returncode == 1 and "--shell-job" in done.log
        done = cr("dump", images, "-t", str(p.pid), "--shell-job", "--leave-running")
        assert done.returncode == 0, done.log[-2000:]
    finally:
        p.kill()
        p.wait()


# The main thread ends by itself; /proc shows the process as a zombie while the other one runs.
DEAD_LEADER = """
import ctypes, os, threading, time
os.setsid()
threading.Thread(target=lambda: (print("ready", flush=True), time.sleep(1e6))).start()
time.sleep(0.2)
ctypes.CDLL(None).syscall(60, 0)
"""


def test_process_whose_main_thread_has_ended_is_refused_not_saved_as_dead(tmp_path):
    p = subprocess.Popen([sys.executable, "-c", DEAD_LEADER], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == "ready\n"
        wait_for(lambda: proc_state(p.pid) == "Z", 10, "the main thread ends")
        images = tmp_path / "images"
        images.mkdir()
        check = subprocess.run([CR, "check", "-t", str(p.pid)], capture_output=True, text=True,
                               timeout=60, check=False)
        assert check.returncode == 1 and "its main thread has ended" in check.stdout + check.stderr
        done = cr("dump", images, "-t", str(p.pid))
        assert done.returncode == 1 and "its main thread has ended, 1 others run" in done.log
        assert p.poll() is None
    finally:
        p.kill()
        p.wait(20)
        p.stdout.close()


def test_a_failed_dump_takes_an_older_ones_inventory_away(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    p = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        assert cr("dump", images, "-t", str(p.pid), "--leave-running").returncode == 0
        assert (images / "inventory.img").exists()
        done = cr("dump", images, "-t", str(p.pid), "--action-script", "/bin/false")
        assert done.returncode == 1
        # pre-dump comes before anything is touched, a limit is met in the middle.
        done = subprocess.run(["prlimit", "--fsize=4096", CR, "dump", "-D", images, "-t", str(p.pid)],
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0 and p.poll() is None
        assert not (images / "inventory.img").exists()
    finally:
        p.kill()
        p.wait()

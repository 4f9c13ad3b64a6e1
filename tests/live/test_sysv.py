"""System V IPC: segments as in a new kernel, where they are gone; what cannot be kept is named."""

import ctypes
import subprocess
import sys

import pytest

from live import CR, Maker, cr

libc = ctypes.CDLL(None, use_errno=True)
IPC_CREAT, IPC_RMID = 0o1000, 0


def segments():
    with open("/proc/sysvipc/shm") as f:
        return {int(line.split()[1]) for line in f.readlines()[1:]}


@pytest.fixture
def maker(tmp_path):
    before = segments()
    m = Maker("sysv_shm", tmp_path)
    m.start()
    yield m
    m.end()
    for i in segments() - before:
        libc.shmctl(i, IPC_RMID, None)


def dump_and_lose(m):
    """The tree and its segments are gone; their ids."""
    m.dump()
    with open("/proc/sysvipc/shm") as f:
        made = [int(line.split()[1]) for line in f.readlines()[1:]
                if int(line.split()[4]) == m.pid]
    m.reap()
    for i in made:
        libc.shmctl(i, IPC_RMID, None)
    assert made and not segments() & set(made)
    return made


def test_segments_come_back_under_their_ids(maker):
    dump_and_lose(maker)
    maker.restore()
    maker.verify()


def test_a_failed_restore_leaves_no_segment(maker):
    dump_and_lose(maker)
    before = segments()
    other = libc.shmget(0x43524B31, 4096, IPC_CREAT | 0o600)     # its key
    try:
        done = cr("restore", maker.images, "-d")
        assert done.returncode == 1 and "0x43524b31" in done.log, done.log[-500:]
        assert segments() - before == {other}
        libc.shmctl(other, IPC_RMID, None)
        (maker.images / "core-" f"{maker.pid}.img").rename(maker.images / "hidden")
        assert cr("restore", maker.images, "-d").returncode == 1
        assert segments() == before
    finally:
        libc.shmctl(other, IPC_RMID, None)


def test_a_segment_that_others_have_attached_is_refused(maker):
    libc.shmat.restype = ctypes.c_void_p
    key = libc.shmget(0x43524B31, 0, 0)
    at = libc.shmat(key, None, 0)
    try:
        done = subprocess.run([CR, "check", "-t", str(maker.pid)], capture_output=True, text=True,
                              check=False)
        assert done.returncode == 1
        assert f"segment {key} (key 0x43524b31) is attached 3 times by this tree and 4" \
            in done.stdout + done.stderr
    finally:
        libc.shmdt(ctypes.c_void_p(at))
    maker.verify()


USES = """
import ctypes, os, time
libc = ctypes.CDLL(None)
os.setsid()
sem = libc.semget(0, 2, 0o1600)
libc.semctl(sem, 1, 16, 5)
queue = libc.msgget(0, 0o1600)
libc.msgsnd(queue, b"\\1" + b"\\0" * 7 + b"text", 4, 0)
shm = libc.shmget(0, 4096, 0o1600)
print(sem, queue, shm, flush=True)
time.sleep(1e6)
"""


def test_semaphores_queues_and_loose_segments_are_refused_by_name(tmp_path):
    p = subprocess.Popen([sys.executable, "-c", USES], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    sem, queue, shm = map(int, p.stdout.readline().split())
    try:
        done = subprocess.run([CR, "check", "-t", str(p.pid)], capture_output=True, text=True,
                              check=False)
        text = done.stdout + done.stderr
        assert done.returncode == 1
        for words in (f"System V semaphores {sem} ", f"System V message queue {queue} ",
                      f"System V segment {shm} "):
            assert words in text and str(p.pid) in text, text
    finally:
        p.kill()
        p.wait()
        p.stdout.close()
        libc.semctl(sem, 0, IPC_RMID)
        libc.msgctl(queue, IPC_RMID, None)
        libc.shmctl(shm, IPC_RMID, None)

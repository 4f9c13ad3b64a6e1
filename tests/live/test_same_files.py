"""Which descriptors are one open file is told by kcmp(2), and among many that look alike by the kernel's structures."""
import ctypes
import json
import os
import subprocess

import pytest

from live import CR, start_python, stop_python

libc = ctypes.CDLL(None)

# Files that look alike: many on one inode, with equal flags and position; some of them twice, in the child, in a queue.
ALIKE = """
import socket
a, b = socket.socketpair()
fds = []
for i in range(60):
    fds.append(libc.epoll_create1(0))
    fds.append(libc.timerfd_create(1, 0))
    if i % 3 == 0:
        fds.append(os.dup(fds[-1]))
        fds.append(os.dup(fds[-3]))
away = libc.timerfd_create(1, 0)
socket.send_fds(a, [b"x"], [fds[1], away, fds[5]])
os.close(away)
told = os.pipe()
child = os.fork()
if not child:
    os.dup2(fds[3], 900)
    os.close(fds[3])
    libc.epoll_create1(0)
    os.write(told[1], b"x")
    time.sleep(1e6)
os.read(told[0], 1)
print(os.getpid(), child, flush=True)
time.sleep(1e6)
"""


@pytest.fixture
def alike():
    p, pids = start_python(ALIKE)
    try:
        yield pids
    finally:
        os.kill(pids[1], 9)
        stop_python(p)


def show(path):
    return json.loads(subprocess.run([CR, "show", "--json", path], capture_output=True, text=True,
                                     check=True).stdout)["entries"]


def sharers(images, pids):
    """Sets of descriptors (process, number) that are one file in the images."""
    files = {}
    for pid in pids:
        table = show(images / f"ids-{pid}.img")[0]["files_id"]
        for e in show(images / f"fdinfo-{table}.img"):
            files.setdefault(e["id"], set()).add((pid, e["fd"]))
    return {frozenset(v) for v in files.values()}


def kcmp(pid, other, fd, other_fd):
    return libc.syscall(312, pid, other, 0, ctypes.c_ulong(fd), ctypes.c_ulong(other_fd)) == 0


def kcmp_says(pids):
    """The same, each pair compared."""
    found = []
    for pid in pids:
        for fd in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
            for group in found:
                other, other_fd = group[0]
                if kcmp(pid, other, fd, other_fd):
                    group.append((pid, fd))
                    break
            else:
                found.append([(pid, fd)])
    return {frozenset(v) for v in found}


@pytest.mark.parametrize("without", [[], ["-e", "inject=bpf:error=EPERM"]], ids=["structures", "kcmp"])
def test_descriptors_of_one_file_are_told_from_those_that_look_alike(alike, without, tmp_path):
    images, trace = tmp_path / "images", tmp_path / "trace"
    images.mkdir()
    done = subprocess.run(["strace", "-f", "-qq", "-o", trace, "-e", "trace=kcmp,bpf", *without,
                           CR, "dump", "-t", str(alike[0]), "-D", images, "-o", "log", "-v4", "-R"],
                          capture_output=True, text=True, check=False, timeout=60,
                          env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})      # not under strace
    log = (images / "log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    blind = "this kernel's structures cannot be read" in log
    compared = trace.read_text().count("KCMP_FILE,")
    if without:
        assert blind and compared > 500
    else:
        assert compared < 100 or blind
    expected = kcmp_says(alike)
    assert sum(len(g) > 2 for g in expected) >= 40 and sum(len(g) == 1 for g in expected) >= 1
    assert sharers(images, alike) == expected
    queued = [e["scm"][0]["rights"] for e in show(images / "sk-queues.img") if e.get("scm")]
    ids = {e["fd"]: e["id"] for pid in alike[:1]
           for e in show(images / f"fdinfo-{show(images / f'ids-{pid}.img')[0]['files_id']}.img")}
    first = min(fd for fd in ids if fd > 4)
    assert len(queued) == 1 and len(queued[0]) == 3
    assert queued[0][0] == ids[first + 1] and queued[0][2] == ids[first + 5]
    assert queued[0][1] not in ids.values()

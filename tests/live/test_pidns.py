"""Every maker's state once more, in a tree that has a PID namespace and a /proc of its own.

The maker is the namespace's first process, as in a container or under unshare --pid --fork.
"""
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from live import (BUILD, CR, Failure, HugePages, Maker, cgroup_root, check, cr, maker_options, reap_orphans,
                  start_python, stop_python, wait_for)
from test_makers import NAMES, params


# Of no use in there, and why.
NOT = {
    "files_regular": "O_PATH files of a mount namespace come back with O_NOFOLLOW",
    "ns_cgroupns": "looks at its parent",
    "ns_net": "looks at its parent",
    "ns_sandbox": "looks at a process 1 that is another",
    "tcp_handshake": "its orphan, who is to stay outside, falls to process 1",
}


class FirstProcess(Maker):
    def start(self):
        with open(self.output, "wb") as out:
            self.popen = subprocess.Popen(
                ["sh", "-c", 'MAKER_NUMBER=$$ exec "$@"', "sh", "unshare", "--pid", "--fork",
                 "--mount-proc", "--propagation", "slave", BUILD / "make" / self.name, self.result],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=self.dir)
        self.number = self.popen.pid
        wait_for(lambda: "ready" in self.read() or self.popen.poll() is not None, 20,
                 f"{self.name} does not get ready")
        if self.popen.poll() is not None:
            text = self.read() + self.output.read_text(errors="replace")
            if self.popen.returncode == 77:
                pytest.skip(text.strip())
            raise Failure(f"{self.name} ended before it was ready: {text}")
        wrapper = self.popen.pid
        self.pid = int(Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text())


def status_ids(path, key):
    return tuple(map(int, re.search(rf"^{key}:(.*)", path.read_text(errors="replace"), re.M)[1].split()))


def tree_ids(pid):
    """Of all tasks: what they are in every PID namespace; and their groups and sessions that show inside."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = task / "status"
        if (task / "comm").read_text(errors="replace").startswith("iou-"):
            continue        # the kernel's own workers
        found.add((status_ids(status, "NSpid"), *(ids if ids[-1] else None for ids in
                                                  (status_ids(status, "NSpgid"), status_ids(status, "NSsid")))))
        for child in (task / "children").read_text().split():
            found |= tree_ids(int(child))
    return found


class Squatter:
    """A process that has a pid. That of its own first child cannot be chosen, so it is the child itself."""

    def __init__(self, pid):
        code = ("import ctypes, os, struct, time\n"
                "want = ctypes.c_int(%d)\n"
                "args = struct.pack('11Q', 0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(want), 1, 0)\n"
                "r = ctypes.CDLL(None).syscall(435, args, len(args))\n"
                "if r == 0:\n    time.sleep(600)\n"
                "print(r, flush=True)\nif r > 0: os.waitpid(r, 0)\n" % pid)
        self.pid = pid
        self.popen = subprocess.Popen(["/usr/bin/python3", "-c", code], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert int(self.popen.stdout.readline()) == self.pid
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        self.popen.wait()
        self.popen.stdout.close()


@pytest.fixture
def maker(request, tmp_path):
    m = FirstProcess(request.param, tmp_path)
    with HugePages(sum(map(int, maker_options(request.param, "huge-pages")))):
        yield m
        m.end()


@pytest.mark.parametrize("maker", params(n for n in NAMES if n not in NOT and not n.startswith("ns_pid")),
                         indirect=True)
def test_state_in_a_pid_namespace_survives_dump_and_restore(maker):
    maker.start()
    before = tree_ids(maker.pid)
    maker.dump()
    maker.reap()
    maker.restore()
    assert tree_ids(maker.pid) == before
    maker.verify()


THREADS = """
import threading, time
for i in range(4):
    threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
print("ready", flush=True)
time.sleep(1e6)
"""


def test_a_restore_that_fails_between_two_threads_ends(tmp_path):
    """All threads that are there must be reaped, or the process never ends: the restore would wait for ever."""
    group = cgroup_root() / f"crk-threads-{os.getpid()}"
    inner = group / "inner"
    inner.mkdir(parents=True)
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != setup-namespaces ] || rmdir {inner}\n')
    script.chmod(0o755)
    wrapper = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c",
                                THREADS], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert wrapper.stdout.readline() == b"ready\n"
        pid = Path(f"/proc/{wrapper.pid}/task/{wrapper.pid}/children").read_text().strip()
        (group / "cgroup.procs").write_text(pid)
        (inner / "cgroup.type").write_text("threaded")
        (inner / "cgroup.threads").write_text(str(sorted(map(int, os.listdir(f"/proc/{pid}/task")))[1]))
        done = cr("dump", tmp_path, "-t", pid)
        assert done.returncode == 0, done.log[-1500:]
        wrapper.wait(20)
        done = cr("restore", tmp_path, "-d", "--action-script", script, timeout=20)
        assert done.returncode == 1 and "cannot open cgroup" in done.log, done.log[-1500:]
    finally:
        wrapper.kill()
        wrapper.wait(20)
        wrapper.stdout.close()
        wait_for(lambda: reap_orphans() or "populated 0" in (group / "cgroup.events").read_text(), 10, "the group is empty")
        if inner.exists():
            inner.rmdir()
        group.rmdir()


SOCKETS = """
import socket, time
sockets = [socket.socket(socket.AF_UNIX, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) for i in range(100)]
print("ready", flush=True)
time.sleep(1e6)
"""


def test_nobody_is_asked_for_peers_that_sockets_do_not_have():
    """Who asks from inside the namespace is a process made for that, while the tree stands still."""
    wrapper = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c",
                                SOCKETS], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert wrapper.stdout.readline() == b"ready\n"
        pid = Path(f"/proc/{wrapper.pid}/task/{wrapper.pid}/children").read_text().strip()
        done = subprocess.run(["strace", "-f", "-c", "-e", "trace=clone,clone3,vfork", CR, "check", "-t", pid],
                              capture_output=True, text=True, check=False,
                              env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})  # not under strace
        assert done.returncode == 0, done.stdout + done.stderr[-1500:]
        assert sum(map(int, re.findall(r"(\d+)\s+(?:clone3?|vfork)$", done.stderr, re.M))) < 50, done.stderr
    finally:
        wrapper.kill()
        wrapper.wait(20)
        wrapper.stdout.close()


@pytest.fixture
def first(request, tmp_path):
    m = Maker(request.param, tmp_path)
    yield m
    m.end()


def gone(maker):
    maker.start()
    before = tree_ids(maker.pid)
    maker.dump()
    maker.reap()
    return before


KINDS = pytest.mark.parametrize("first", ["ns_pid", "ns_pid_groups", "ns_pid_user"], indirect=True)


@KINDS
def test_pids_outside_are_as_before_too(first):
    before = gone(first)
    first.restore("--keep-outer-pids")
    assert tree_ids(first.pid) == before
    first.verify()


@KINDS
def test_a_task_whose_pid_outside_is_taken_gets_another_one(first):
    before = {inner: outer for (outer, inner), *_ in gone(first)}
    taken = max(before.values())
    with Squatter(taken):
        first.restore()
        after = {inner: outer for (outer, inner), *_ in tree_ids(first.pid)}
        assert set(after) == set(before)
        others = {inner for inner in before if before[inner] != after[inner]}
        assert taken in {before[inner] for inner in others}
        # Where no tid can be chosen, others of the machine may be faster.
        assert len(others) == 1 or first.name == "ns_pid_user"
        first.verify()


def restore_in_lost_session(images):
    """What a first process and its session are, before and after."""
    def ids():
        return [status_ids(Path(f"/proc/{pid}/status"), key) for key in ("NSpid", "NSpgid", "NSsid")]
    images.mkdir()
    p, (pid,) = start_python("libc.unshare(0x20000000)\npid = os.fork()\nif pid:\n"
                             "    print(pid, flush=True)\n    os._exit(0)\ntime.sleep(1e6)\n")
    stop_python(p)
    before = ids()
    assert before == [(pid, 1), (p.pid, 0), (p.pid, 0)]
    check(cr("dump", images, "-t", str(pid)), "dump")
    check(cr("restore", images, "-d"), "restore")
    after = ids()
    os.kill(pid, signal.SIGKILL)
    return before, after


def test_a_session_from_outside_whose_leader_is_gone_keeps_its_number_there(tmp_path):
    # Somebody else of the machine may take it meanwhile, hardly ever three times.
    for again in range(3):
        before, after = restore_in_lost_session(tmp_path / f"images{again}")
        assert after[0] == before[0] and after[2][1] == 0
        if after == before:
            break
    assert after == before


@KINDS
def test_pids_outside_that_must_be_kept_and_are_taken_fail_the_restore(first):
    taken = max(ids[0][0] for ids in gone(first))
    with Squatter(taken):
        with pytest.raises(Failure, match=rf"pid {taken} is in use \(python3\)"):
            first.restore("--keep-outer-pids")

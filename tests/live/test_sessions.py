"""Sessions and groups: made again also without their leaders, or refused by name.

The trees inside one root are the maker "lineage"; here are roots that are orphans themselves, several
roots at once, and what is refused.
"""

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from live import (CR, Maker, cgroup_root, check, children, cr, proc_state, reap_orphans, wait_for,
                  wait_gone)

# Daemons that a service's first process leaves behind when it ends, in its session and group, which
# have lost their leader then; the second one after a fork more, in a session that lost its leader, too.
# They share a pipe: what goes in at one end comes out at the other.
DAEMONS = """
import os, signal, sys, time
os.setsid()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
r, w = os.pipe()
def serve(name, work):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with open(name, "w") as f:
        print(os.getpid(), file=f, flush=True)
    while True:
        signal.sigwait([signal.SIGUSR1])
        with open(name + ".answer", "w") as f:
            print(os.getppid(), os.getsid(0), os.getpgrp(), work(), file=f)
        os.rename(name + ".answer", name + ".now")
if os.fork() == 0:
    serve("first", lambda: os.write(w, b"x"))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        serve("second", lambda: os.read(r, 9).decode())
    os._exit(0)
os.wait()
if os.fork() == 0:
    serve("third", lambda: "")
"""
NAMES = ("first", "second", "third")


class Daemons:
    def __init__(self, where):
        self.dir = where
        self.images = where / "images"
        self.images.mkdir()
        subprocess.run([sys.executable, "-c", DAEMONS], cwd=where, check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: all((where / n).exists() and (where / n).read_text().strip()
                             for n in NAMES), 10, "daemons")
        self.pids = [int((where / n).read_text()) for n in NAMES]
        wait_for(lambda: all(pid in children() for pid in self.pids), 10, "orphans fall to us")

    def ask(self):
        answers = []
        for name, pid in zip(NAMES, self.pids):
            now = self.dir / f"{name}.now"
            now.unlink(missing_ok=True)
            os.kill(pid, signal.SIGUSR1)
            wait_for(now.exists, 10, f"{name} answers")
            answers.append(now.read_text().split())
        return answers

    def end(self):
        for pid in self.pids:
            if proc_state(pid):
                os.kill(pid, signal.SIGKILL)
            wait_gone(pid)


@pytest.fixture
def daemons(tmp_path):
    d = Daemons(tmp_path)
    yield d
    d.end()


@pytest.mark.parametrize("way", [["-d"], ["-d", "-S"]], ids=["children of cr", "siblings of cr"])
def test_daemons_left_to_their_reaper_come_back_together(daemons, way):
    before, known = daemons.ask(), children()
    assert all(parent == str(os.getpid()) for parent, *_ in before)
    assert not any(proc_state(int(session)) for _, session, *_ in before), "leaders are gone"
    roots = [arg for pid in daemons.pids for arg in ("-t", str(pid))]
    check(cr("dump", daemons.images, *roots), "dump")
    for pid in daemons.pids:
        wait_gone(pid)
    check(cr("restore", daemons.images, *way), "restore")
    wait_for(lambda: all(pid in children() for pid in daemons.pids), 10, "they are ours")
    assert daemons.ask() == before
    wait_for(lambda: reap_orphans() or children() <= known, 10, "nobody else is ours")


def test_a_member_outside_of_a_lost_session_is_named(daemons):
    first, second, third = daemons.pids
    done = cr("dump", daemons.images, "-t", str(first))
    assert done.returncode == 1
    assert f"process {third} (python3) is outside the tree, but in session" in done.log
    assert f"process {second} " not in done.log
    assert {f.name for f in daemons.images.iterdir()} <= {"dump.log"}
    daemons.ask()


LEADER = """
import os, signal, sys
os.setsid()
r, w = os.pipe()
if not os.fork():
    if not os.fork():
        os.write(w, b"%d" % os.getpid())
        signal.pause()
    os._exit(0)
os.wait()
member = int(os.read(r, 9))
os.close(r)
os.close(w)
print(member, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("leaves", [True, False])
def test_a_number_that_is_free_in_a_moment_is_waited_for(tmp_path, leaves):
    """Here somebody else of the killed leader's group has it; else the kernel, which gives a pid back last."""
    images = tmp_path / "images"
    images.mkdir()
    p = subprocess.Popen([sys.executable, "-c", LEADER], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         text=True)
    member = int(p.stdout.readline())
    p.stdout.close()
    restore = None
    try:
        check(cr("dump", images, "-t", str(p.pid)), "dump")
        p.wait()
        restore = subprocess.Popen([CR, "restore", "-d", "-D", images, "-v4", "-o", "log"],
                                   stderr=subprocess.PIPE, text=True)
        wait_for(lambda: (images / "log").exists() and "step: tasks" in (images / "log").read_text(), 20,
                 "it makes tasks")
        if leaves:
            os.kill(member, signal.SIGKILL)
            wait_gone(member)
        _, text = restore.communicate(timeout=60)
        assert (restore.returncode == 0) == leaves, text
        assert leaves or f"pid {p.pid} is in use: a process group or session outlives its leader" in text
    finally:
        p.kill()


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


def test_a_job_without_a_session_of_its_namespace_needs_shell_job(tmp_path):
    """Below a PID 1 that never made a session, as in many containers: all ids of it show as 0."""
    (tmp_path / "images").mkdir()
    script = f"""
    sleep 1000 >/dev/null 2>&1 </dev/null &
    pid=$!
    cut -d' ' -f5,6 /proc/$pid/stat
    {CR} dump -D {tmp_path}/images -t $pid
    echo refused $?
    {CR} dump -D {tmp_path}/images -t $pid --shell-job; echo dumped $?
    wait $pid
    {CR} restore -D {tmp_path}/images -d --shell-job; echo restored $?
    cut -d' ' -f5,6 /proc/$pid/stat
    {CR} dump -D {tmp_path}/images -t $pid --shell-job --leave-running; echo dumped $?
    """
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script],
                          capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["0 0", "refused 1", "dumped 0", "restored 0", "0 0", "dumped 0"], \
        done.stderr
    assert "outside the tree and its PID namespace" in done.stderr and "--shell-job" in done.stderr


def test_a_zombie_does_not_leave_its_core_file_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limit[1], limit[1]))
    images = tmp_path / "images"
    images.mkdir()
    p = subprocess.Popen([sys.executable, "-c", """
import os, signal, sys
child = os.fork()
if not child:
    os.kill(os.getpid(), signal.SIGSEGV)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
with open("status", "w") as f:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=f)
"""], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert p.stdout.readline() == "ready\n"
        p.stdout.close()
        for core in tmp_path.glob("core*"):
            core.unlink()
        check(cr("dump", images, "-t", str(p.pid)), "dump")
        p.wait(20)
        check(cr("restore", images, "-d"), "restore")
        os.kill(p.pid, signal.SIGUSR1)
        status = tmp_path / "status"
        wait_for(lambda: status.exists() and status.read_text(), 10, "it looks for its zombie")
        assert status.read_text() == f"{-signal.SIGSEGV}\n"
        assert not [f for f in tmp_path.rglob("core*") if f.suffix != ".img"]
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limit)
        if p.returncode is None:
            p.kill()
            p.wait()


# The child of a vfork that does not execute anything: they share their memory, the parent stands still.
VFORK = """
import ctypes, os, signal
os.setsid()
ctypes.CDLL(None).syscall(56, 0x4100 | signal.SIGCHLD, 0, 0, 0, 0)
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_parent_in_vfork_is_named_and_goes_on(tmp_path):
    p = subprocess.Popen([sys.executable, "-c", VFORK], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    child = None
    try:
        assert p.stdout.readline() == "ready\n"
        child = int(Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text())
        images = tmp_path / "images"
        images.mkdir()
        done = cr("dump", images, "-t", str(p.pid), "--timeout", "1")
        assert done.returncode == 1 and f"task {p.pid} waits in vfork()" in done.log
        done = subprocess.run([CR, "check", "-t", str(p.pid), "--timeout", "1"], capture_output=True,
                              text=True, timeout=60, check=False)
        assert done.returncode == 1 and "waits in vfork()" in done.stdout and "remedy" in done.stdout
        # The child runs on to its next sleep.
        wait_for(lambda: proc_state(p.pid) == "D" and proc_state(child) == "S", 10, "both are as they were")
    finally:
        for pid in (child, p.pid):
            os.kill(pid or p.pid, signal.SIGKILL)
        p.wait(20)
        p.stdout.close()


# Threads that stay in vfork(): before it executes anything, the child opens a FIFO.
VFORKS = """
import ctypes, os, threading
os.setsid()
libc = ctypes.CDLL(None)
actions = ctypes.create_string_buffer(512)
libc.posix_spawn_file_actions_init(actions)
libc.posix_spawn_file_actions_addopen(actions, 9, b"fifo", os.O_RDONLY, 0)
argv = (ctypes.c_char_p * 2)(b"/bin/true", None)
def spawn(n):
    pid = ctypes.c_int()
    libc.posix_spawn(ctypes.byref(pid), argv[0], actions, None, argv, None)
    print(os.waitpid(pid.value, 0)[1], flush=True)
for n in range(3):
    threading.Thread(target=spawn, args=[n]).start()
"""


def test_all_threads_in_vfork_are_named_and_go_on(tmp_path):
    """Also those behind the first that does not stop; who has stopped is let go."""
    os.mkfifo(tmp_path / "fifo")
    p = subprocess.Popen([sys.executable, "-c", VFORKS], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                         cwd=tmp_path)
    images = tmp_path / "images"
    images.mkdir()
    fifo = None

    def waiting():
        return [int(t.name) for t in Path(f"/proc/{p.pid}/task").iterdir() if proc_state(int(t.name)) == "D"]
    try:
        wait_for(lambda: len(waiting()) == 3, 20, "three threads wait")
        done = cr("dump", images, "-t", str(p.pid), "--timeout", "1")
        assert done.returncode == 1
        assert sorted(map(int, re.findall(r"task (\d+) waits in vfork", done.log))) == sorted(waiting())
        assert "cannot let" not in done.log
        fifo = os.open(tmp_path / "fifo", os.O_RDWR)
        out = p.communicate(timeout=60)[0]
        assert out.split() == ["0"] * 3 and p.returncode == 0
    finally:
        if fifo is not None:
            os.close(fifo)
        p.kill()
        p.wait(20)
        p.stdout.close()


# A process that is stopped and whose main thread has ended.
STOPPED = """
import ctypes, os, signal, threading
os.setsid()
def stop():
    while open(f"/proc/{os.getpid()}/stat").read().split()[2] != "Z":
        pass
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
threading.Thread(target=stop).start()
ctypes.CDLL(None).syscall(60, 0)
"""


def test_stopped_process_whose_main_thread_has_ended_is_refused(tmp_path):
    p = subprocess.Popen([sys.executable, "-c", STOPPED], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == "ready\n"
        os.waitpid(p.pid, os.WUNTRACED)
        images = tmp_path / "images"
        images.mkdir()
        done = cr("dump", images, "-t", str(p.pid))
        assert done.returncode == 1 and "is stopped, and its main thread has ended" in done.log
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


SPAWNS = """
import os
os.setsid()
print("ready", flush=True)
while True:     # by vfork()
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
"""


def test_parents_in_vfork_are_waited_for_in_a_frozen_group(tmp_path):
    """The child that must execute its program first is in the freezer itself."""
    group = cgroup_root() / f"crk-vfork-{os.getpid()}"
    group.mkdir()
    p = subprocess.Popen([sys.executable, "-c", SPAWNS], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == "ready\n"
        (group / "cgroup.procs").write_text(str(p.pid))
        met = 0
        for n in range(400):
            if met >= 3 and n >= 20:
                break
            done = cr("dump", tmp_path, "-R", "-t", str(p.pid), "--freeze-cgroup", str(group))
            assert done.returncode == 0, f"dump {n}: {done.stderr}\n{done.log[-1500:]}"
            assert "frozen 0" in (group / "cgroup.events").read_text()
            met += "waits in vfork" in done.log
        assert met >= 3, "no dump met a parent in vfork()"
    finally:
        p.kill()
        p.wait(20)
        p.stdout.close()
        wait_for(lambda: not (group / "cgroup.procs").read_text(), 10, "the group is empty")
        group.rmdir()


def test_a_group_that_was_frozen_before_stays_frozen(tmp_path):
    """Whether the dump goes well, or fails before it comes to the freezer, or after."""
    group = cgroup_root() / f"crk-frozen-{os.getpid()}"
    group.mkdir()
    no = tmp_path / "no"
    no.write_text('#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != "$FAILS_AT" ]\n')
    no.chmod(0o755)
    p = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        (group / "cgroup.procs").write_text(str(p.pid))
        (group / "cgroup.freeze").write_text("1")
        for event, code in (("pre-dump", 1), ("post-dump", 255), ("none", 0)):
            wait_for(lambda: "frozen 1" in (group / "cgroup.events").read_text(), 10, "it freezes")
            os.environ["FAILS_AT"] = event
            done = cr("dump", tmp_path, "-R", "-t", str(p.pid), "--freeze-cgroup", str(group),
                      "--action-script", str(no))
            assert done.returncode == code, done.log[-1500:]
            assert (group / "cgroup.freeze").read_text() == "1\n", event
    finally:
        os.environ.pop("FAILS_AT", None)
        p.kill()
        p.wait(20)
        wait_for(lambda: not (group / "cgroup.procs").read_text(), 10, "the group is empty")
        group.rmdir()


def test_a_group_that_is_frozen_now_is_named_by_restore(tmp_path):
    """Of a tree that was left frozen, say: whoever is born there does not run our calls."""
    group = cgroup_root() / f"crk-frozen-{os.getpid()}"
    (group / "inner").mkdir(parents=True)
    p = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        (group / "inner/cgroup.procs").write_text(str(p.pid))
        assert cr("dump", tmp_path, "-t", str(p.pid)).returncode == 0
        p.wait(20)
        (group / "cgroup.freeze").write_text("1")
        done = cr("restore", tmp_path, "-d", timeout=20)
        assert done.returncode == 1 and "is frozen: nobody can be restored in it" in done.stderr
        assert "populated 0" in (group / "cgroup.events").read_text()
    finally:
        p.kill()
        p.wait(20)
        (group / "inner").rmdir()
        group.rmdir()


def pids_root():
    """Where groups can limit the number of their tasks: this controller alone, or with others."""
    for line in open("/proc/self/mountinfo"):
        fields, kind = line.split(" - ")
        root = Path(fields.split()[4])
        if kind.startswith("cgroup ") and "pids" in kind.split()[2].split(","):
            return root
        if kind.startswith("cgroup2") and "pids" in (root / "cgroup.subtree_control").read_text().split():
            return root
    return pytest.skip("no hierarchy has the pids controller (CONFIG_CGROUP_PIDS), or cgroup2's root has it without "
                       "giving it on (cgroup.subtree_control)")


@pytest.mark.may_lack
def test_a_restore_that_runs_out_of_processes_anywhere_keeps_none(tmp_path):
    m = Maker("lineage", tmp_path)
    m.start()
    group = pids_root() / f"crk-pids-{os.getpid()}"
    group.mkdir()
    # cr cannot end before it has said why: whoever it still holds can be seen.
    out, full = os.pipe()
    os.set_blocking(full, False)
    try:
        m.dump()
        m.reap()
        for limit in range(2, 100):
            (group / "pids.max").write_text(str(limit))
            try:
                while os.write(full, bytes(4096)):
                    pass
            except BlockingIOError:
                pass
            os.set_blocking(full, True)
            p = subprocess.Popen(["sh", "-c", f"echo $$ >{group}/cgroup.procs; exec {CR} restore -d -D {m.images} "
                                  "--manage-cgroups=ignore -o log"], stderr=full)
            # Those of the one before are our zombies, and their pids not free.
            wait_for(lambda: reap_orphans() or p.poll() is not None or
                     open(f"/proc/{p.pid}/syscall").read().startswith("1 0x2 "), 20, "cr has ended or says why not")
            if p.poll() == 0:
                break
            mine = f"TracerPid:\t{p.pid}\n"
            left = [s.parent.name for s in Path("/proc").glob("[0-9]*/status") if mine in status_text(s)]
            assert not left, f"with room for {limit} tasks"
            os.set_blocking(full, False)
            while len(os.read(out, 65536)) == 65536:
                pass
            assert p.wait(20) == 1
        assert limit > 10
        m.verify()
    finally:
        os.close(out)
        os.close(full)
        m.end()
        wait_for(lambda: reap_orphans() or not (group / "cgroup.procs").read_text(), 10, "the group is empty")
        group.rmdir()


def status_text(path):
    try:
        return path.read_text()
    except OSError:
        return ""

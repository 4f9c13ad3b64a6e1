"""Clocks, timers and time-outs of a tree that was away for a while."""
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from live import CR, Maker, check, cr, cr_check, kill, proc_state, wait_for, wait_gone, wait_in_call

RESTART_SYSCALL = 219


# The last one: the tree's clock is older than the kernel's by far, as after an upgrade.
@pytest.mark.parametrize("seconds", [7, 1005, 1250, 450000])
def test_timers_show_the_time_that_has_passed(tmp_path, seconds):
    m = Maker("timers_late", tmp_path)
    try:
        m.start()
        m.dump()
        m.reap()
        m.restore("--clock-advance", str(seconds))
        m.verify()
    finally:
        m.end()


@pytest.mark.may_lack
def test_a_pending_signal_of_a_timer_counts_the_time_that_has_passed(tmp_path):
    m = Maker("posix_timers_pending", tmp_path)
    try:
        m.start()
        m.dump()
        m.reap()
        # The kernel counts from its boot on: the first of them expired after 0.2 of that time.
        m.restore("--clock-advance", str(int(min(20, time.clock_gettime(time.CLOCK_MONOTONIC) / 8))))
        m.verify()
    finally:
        m.end()


def timers_at_a_moment(m):
    shown = subprocess.run([CR, "show", "--json", m.images / f"core-{m.pid}.img"], capture_output=True, text=True,
                           check=True)
    timers = json.loads(shown.stdout)["entries"][0]["tc"]["timers"]["posix"]
    return [t["it_id"] for t in timers if t.get("at_moment")]


@pytest.mark.may_lack
def test_a_timer_of_the_clock_on_the_wall_goes_by_that_if_it_was_set_to_a_moment(tmp_path):
    """The second dump finds what the restore has told the kernel."""
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("the kernel does not describe itself (CONFIG_DEBUG_INFO_BTF)")
    m = Maker("posix_timers", tmp_path)
    try:
        m.start()
        m.dump()
        m.reap()
        assert timers_at_a_moment(m) == [17]
        m.restore()
        m.dump()
        wait_gone(m.pid)
        assert timers_at_a_moment(m) == [17]
        m.restore()
        m.verify()
    finally:
        m.end()


ALARMS = """
import mmap, os, random, signal
os.setsid()
count = mmap.mmap(os.open("count", os.O_RDWR), 8)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
n = 0
while True:
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, 0.03))
    signal.sigwaitinfo([signal.SIGALRM])
    n += 1
    count[:8] = n.to_bytes(8, "little")
"""


def test_an_interval_timer_that_runs_out_in_the_middle_of_a_dump_has_its_signal(tmp_path):
    """What is pending is read before the timer; a wait in between makes it run out there."""
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "count").write_bytes(bytes(8))

    def count():
        return int.from_bytes((tmp_path / "count").read_bytes(), "little")
    p = subprocess.Popen([sys.executable, "-c", ALARMS], cwd=tmp_path, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for n in range(15):
            before = count()
            wait_for(lambda before=before: count() > before, 20, f"a signal, round {n}")
            done = subprocess.run(["strace", "-f", "--seccomp-bpf", "-qq", "-o", os.devnull, "-e",
                                   "trace=process_vm_writev", "-e", "inject=process_vm_writev:delay_enter=20000",
                                   CR, "dump", "-t", str(p.pid), "-D", images],
                                  capture_output=True, text=True, timeout=60, check=False,
                                  env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})   # not under strace
            assert done.returncode == 0, done.stderr
            if n:
                wait_gone(p.pid)
            else:
                p.wait(20)
            check(cr("restore", images, "-d"), "restore")
    finally:
        kill(p.pid)


def wait_restarted(m):
    """Until all its threads are in restart_syscall(2) that can be: /proc tells the number only."""
    wanted = int(re.search(r"^restarts (\d+)", m.read(), re.M)[1])
    calls = list(Path(f"/proc/{m.pid}/task").glob("*/syscall"))
    wait_for(lambda: sum(c.read_text().startswith(f"{RESTART_SYSCALL} ") for c in calls) >= wanted, 20, "restarted calls")


@pytest.fixture
def waiting(tmp_path):
    """A maker whose threads wait in calls with time-outs."""
    m = Maker("timeouts", tmp_path)
    try:
        m.start()
        yield m
    finally:
        m.end()


def look_before(m, tmp_path):
    assert cr_check(m.pid)[0] == 0
    wait_restarted(m)
    (tmp_path / "before").mkdir()
    check(cr("pre-dump", tmp_path / "before", "-t", str(m.pid)), "pre-dump")
    wait_restarted(m)


@pytest.mark.may_lack
@pytest.mark.parametrize("before", [False, True], ids=["the first to interrupt", "checked and pre-dumped"])
def test_time_outs_go_on_while_the_tree_is_away(waiting, tmp_path, before):
    """1,000 s in three parts. What begins anew takes at least another 399."""
    if before:
        look_before(waiting, tmp_path)
    waiting.dump()
    waiting.reap()
    waiting.restore("--clock-advance", "600")
    wait_restarted(waiting)
    waiting.dump()
    wait_gone(waiting.pid)
    waiting.restore("--clock-advance", "399")
    waiting.verify()


@pytest.mark.may_lack
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_time_out_that_ran_out_while_the_tree_was_away_ends_at_once(waiting, stopped):
    if stopped:
        os.kill(waiting.pid, signal.SIGSTOP)
        wait_for(lambda: proc_state(waiting.pid) == "T", 20, "the stop")
    waiting.dump()
    waiting.reap()
    waiting.restore("--clock-advance", "1050")
    if stopped:
        wait_for(lambda: proc_state(waiting.pid) == "T", 20, "the stop")
        os.kill(waiting.pid, signal.SIGCONT)
    waiting.verify()


def wait_asleep(m):
    """Until its threads sleep in their calls again: only then it can be seen when these end."""
    for tid in os.listdir(f"/proc/{m.pid}/task"):
        wait_for(lambda tid=tid: proc_state(tid) == "S", 20, "sleep")
        wait_for(lambda tid=tid: not Path(f"/proc/{m.pid}/task/{tid}/syscall").read_text().startswith("running"), 20, "call")


@pytest.mark.may_lack
@pytest.mark.parametrize("before", [False, True], ids=["the first to interrupt", "checked, pre-dumped, dumped"])
def test_the_librarys_epoll_wait_goes_on_while_the_tree_is_away(tmp_path, before):
    """1,000 s in three parts, as above. When it would have ended the kernel has forgotten when it is interrupted."""
    m = Maker("epoll_ends", tmp_path)
    try:
        m.start()
        wait_asleep(m)
        for n, verb in enumerate(("check", "pre-dump", "dump") if before else ()):
            directory = tmp_path / str(n)
            directory.mkdir()
            time.sleep(0.5)
            if verb == "check":
                assert cr_check(m.pid)[0] == 0
            else:
                check(cr(verb, directory, "-t", str(m.pid), *(["-R"] if verb == "dump" else [])), verb)
            wait_asleep(m)
        m.dump()
        m.reap()
        m.restore("--clock-advance", "600")
        wait_asleep(m)
        m.dump()
        wait_gone(m.pid)
        m.restore("--clock-advance", "399")
        m.verify()
    finally:
        m.end()


@pytest.mark.may_lack
def test_an_epoll_wait_that_would_have_ended_while_the_tree_was_away_ends_at_once(tmp_path):
    m = Maker("epoll_ends", tmp_path)
    try:
        m.start()
        wait_asleep(m)
        m.dump()
        m.reap()
        m.restore("--clock-advance", "1050")
        m.verify()
    finally:
        m.end()


PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 12, 13, 17, 0x4206, 0x4207
RAX, RIP = 10, 16               # in user_regs_struct
WALL = 0x40000000               # waitpid(2)'s __WALL


def step_back_to_restart(pid):
    """A stopped process as it stands when it was stopped anew, before it could make its restart_syscall(2)."""
    def ptrace(request, data=None):
        assert libc.ptrace(request, pid, None, data) == 0, os.strerror(ctypes.get_errno())
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    regs = (ctypes.c_int64 * 27)()
    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(pid, WALL)
    ptrace(PTRACE_GETREGS, regs)
    assert regs[RAX] == -516
    regs[RAX], regs[RIP] = RESTART_SYSCALL, regs[RIP] - 2
    ptrace(PTRACE_SETREGS, regs)
    ptrace(PTRACE_DETACH)


@pytest.mark.may_lack
def test_a_call_that_is_just_being_gone_on_with(tmp_path):
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("the kernel does not describe itself (CONFIG_DEBUG_INFO_BTF)")
    out = tmp_path / "out"
    with open(out, "wb") as f:
        p = subprocess.Popen([sys.executable, "-c", "import ctypes, os\nos.setsid()\n"
                              "print('ended', ctypes.CDLL(None).poll(None, 0, 600000), flush=True)"],
                             stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT)
    pidfile = tmp_path / "pidfile"
    try:
        wait_in_call(p.pid, 7)
        p.send_signal(signal.SIGSTOP)
        wait_for(lambda: proc_state(p.pid) == "T", 20, "the stop")
        step_back_to_restart(p.pid)
        check(cr("dump", tmp_path, "-t", str(p.pid)), "dump")
        p.wait()
        check(cr("restore", tmp_path, "-d", "--pidfile", str(pidfile), "--clock-advance", "599"), "restore")
        kill(p.pid, signal.SIGCONT)
        wait_for(lambda: "ended" in out.read_text(), 20, "the call's end")
        assert out.read_text() == "ended 0\n"
    finally:
        kill(p.pid)


def seconds_left(m):
    """Of the time-outs in its images that are not by the clock on the wall."""
    for core in m.images.glob("core-*.img"):
        shown = subprocess.run([CR, "show", "--json", core], capture_output=True, text=True, check=True)
        end = json.loads(shown.stdout)["entries"][0]["thread_core"].get("timeout")
        if end and end["clock"] != time.CLOCK_REALTIME:
            yield int(end["left_nsec"]) / 1e9


@pytest.mark.may_lack
def test_what_is_left_counts_where_the_clock_does_not_go_on(waiting, tmp_path):
    look_before(waiting, tmp_path)
    waiting.dump()
    waiting.reap()
    waiting.restore("--no-time-namespace", "--clock-advance", "600")
    wait_restarted(waiting)
    waiting.dump("--leave-running")
    left = list(seconds_left(waiting))
    assert len(left) == 12 and all(300 < n <= 401 for n in left), left

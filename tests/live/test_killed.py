"""SIGKILL of the tracing process at any moment: the tree goes on as if nothing had been."""

import ctypes
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from live import CR, Failure, Maker, check, cr, start_python, stop_python, wait_for

# Hundreds of dumps each: on a busy machine the limit of the others is near.
pytestmark = pytest.mark.timeout(600)
SEED = 20261121
KILLS, INSIDE = 200, 10
ROUNDS_MAX = 1500
GETVAL = 12


def tracer_of(pid):
    """0 when it has none, None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    tracer = int(re.search(r"^TracerPid:\s*(\d+)", text, re.M)[1])
    # While it is attached or detached the kernel shows the real parent for a moment: us.
    return 0 if tracer == os.getpid() else tracer


def anonymous_bytes(pid):
    """A call zone that nobody has taken away makes it grow; areas side by side are one line."""
    areas = re.findall(r"^(\w+)-(\w+) rw-p 00000000 00:00 0 ", Path(f"/proc/{pid}/maps").read_text(),
                       re.M)
    return sum(int(end, 16) - int(begin, 16) for begin, end in areas)


def kill_tracer(pid, images, delay, *verb, look=None):
    """One dump (or what `verb` says) whose tracing process is killed `delay` seconds after it has seized the tree.
    False when the dump was over before. look() sees what the engine holds in that moment."""
    dump = subprocess.Popen([CR, *(verb or ("dump", "-R")), "-t", str(pid), "-D", images],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    killed = False
    while dump.poll() is None:
        tracer = tracer_of(pid)
        if tracer is None:
            break
        if tracer:
            # Sleeping is far too coarse for what lasts microseconds.
            end = time.perf_counter() + delay
            while time.perf_counter() < end:
                pass
            try:
                if look:
                    os.kill(tracer, signal.SIGSTOP)
                    look()
                os.kill(tracer, signal.SIGKILL)
                killed = True
            except ProcessLookupError:
                pass
            break
        os.sched_yield()
    dump.wait(20)
    wait_for(lambda: tracer_of(pid) in (0, None), 10, "the tracer is gone")
    return killed


def kill_tracers(pid, images, wanted, longest, *verb):
    """As many as wanted, each up to `longest` seconds after it has seized the tree. Yields after every round."""
    delays = random.Random(SEED)
    killed = 0
    for n in range(ROUNDS_MAX):
        if killed >= wanted:
            return
        killed += kill_tracer(pid, images, delays.uniform(0, longest), *verb)
        yield n
    raise Failure(f"only {killed} tracers were killed in time")


def soon(condition):
    """Whether it is true within two seconds."""
    end = time.monotonic() + 2
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def state_of(pid):
    return re.search(r"^State:\s*(\w)", Path(f"/proc/{pid}/status").read_text(), re.M)[1]


def meet_tracer(pid, dump):
    """Without sleeping: all of it takes milliseconds. It may have but our own processor."""
    while not tracer_of(pid) and dump.poll() is None:
        os.sched_yield()


def test_a_stop_signal_in_the_middle_of_a_dump_takes_effect_after_it(tmp_path):
    """SIGSTOP cannot be blocked: it comes while tasks run our calls, too."""
    delays = random.Random(SEED)
    m = Maker("killed", tmp_path)
    log = tmp_path / "stopped.log"
    try:
        m.start()
        images = tmp_path / "stopped"
        images.mkdir()
        inside = 0
        for n in range(ROUNDS_MAX):
            if inside >= 5 and n >= 20:
                break
            if n % 20 == 0:
                longest = traced_seconds(m.pid, images)
            dump = subprocess.Popen([CR, "dump", "-R", "-v4", "-o", log, "-t", str(m.pid), "-D",
                                     images], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            meet_tracer(m.pid, dump)
            end = time.perf_counter() + delays.uniform(0, longest)
            while time.perf_counter() < end:
                pass
            os.kill(m.pid, signal.SIGSTOP)
            error = dump.communicate(timeout=20)[1]
            assert dump.returncode == 0, error.decode() + log.read_text(errors="replace")
            wait_for(lambda: state_of(m.pid) == "T", 10, "it is stopped")
            os.kill(m.pid, signal.SIGCONT)
            wait_for(lambda: state_of(m.pid) != "T", 10, "it goes on")
            inside += "stopped inside a batch" in log.read_text(errors="replace")
        assert inside >= 5, f"only {inside} stops met a batch"
        m.dump()
        m.reap()
        m.restore()
        m.verify()
    finally:
        m.end()


LARGE = """
text = bytearray(50 << 20)
for i in range(0, len(text), 4096):
    text[i] = 1
print(os.getpid(), flush=True)
while True:
    time.sleep(1e6)
"""


def test_a_stop_signal_that_is_taken_back_during_the_dump_has_no_effect(tmp_path):
    """SIGSTOP that meets our calls waits in its queue, and SIGCONT takes it out again."""
    delays = random.Random(SEED)
    images = tmp_path / "images"
    images.mkdir()
    p, (pid,) = start_python(LARGE)
    rounds = stopped = 0
    try:
        while rounds < 60:
            dump = subprocess.Popen([CR, "dump", "-R", "-t", str(pid), "-D", images], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
            meet_tracer(pid, dump)
            time.sleep(delays.uniform(0, 0.001))
            os.kill(pid, signal.SIGSTOP)
            time.sleep(delays.uniform(0.001, 0.003))
            rounds += tracer_of(pid) != 0
            os.kill(pid, signal.SIGCONT)
            assert dump.wait(20) == 0
            time.sleep(0.005)
            stopped += state_of(pid) == "T"
            os.kill(pid, signal.SIGCONT)
        # Between looking for a SIGCONT and putting the SIGSTOP back are some microseconds: one in two hundred.
        assert stopped <= 6, f"{stopped} of {rounds}"
    finally:
        stop_python(p)


CHILDREN = """
import os, time
os.getpid() == os.getsid(0) or os.setsid()
for _ in range(%d):
    if not os.fork():
        time.sleep(1e6)
print("ready", flush=True)
time.sleep(1e6)
"""
NAMESPACE = ["unshare", "-p", "-f"]


def start_ready(before, code, tmp_path):
    """A Python program that has said "ready", run by `before`: what was started, and the program's own number."""
    with open(tmp_path / "out", "w+", encoding="ascii") as out:
        p = subprocess.Popen([*before, sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=out,
                             stderr=subprocess.DEVNULL)
        wait_for(lambda: os.fstat(out.fileno()).st_size, 20, "ready")
    if before != NAMESPACE:
        return p, p.pid
    first, = map(int, Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split())
    return p, first


def test_the_first_process_of_a_namespace_that_is_killed_while_it_is_dumped_ends_at_once(tmp_path):
    """The kernel has it wait for all in there, which we trace."""
    delays = random.Random(SEED)
    images = tmp_path / "images"
    images.mkdir()
    for _ in range(40):
        p, first = start_ready(NAMESPACE, CHILDREN % 3, tmp_path)
        dump = subprocess.Popen([CR, "dump", "-R", "-t", str(first), "-D", images], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
        try:
            meet_tracer(first, dump)
            time.sleep(delays.uniform(0, 0.006))
            os.kill(first, signal.SIGKILL)
            dump.wait(60)
            p.wait(60)
        finally:
            dump.kill()
            p.kill()
            dump.wait()
            p.wait()


# Its second thread runs, and ends, when nobody else wants that processor.
MEEK_THREAD = """
import _thread, os, time
def meek():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    print("ready", flush=True)
    time.sleep(1e6)
os.setsid()
for _ in range(3):
    if not os.fork():
        time.sleep(1e6)
_thread.start_new_thread(meek, ())
time.sleep(1e6)
"""
HOG = """
import os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
while sys.stdin.readline():
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
"""


def test_the_first_process_of_a_namespace_that_is_killed_while_its_thread_runs_our_calls_ends(tmp_path):
    """It waits for its children, which we trace, and we for its thread, which a busy processor keeps from ending."""
    images = tmp_path / "images"
    images.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOG], stdin=subprocess.PIPE, text=True) as hog:
        for _ in range(3):
            p, first = start_ready(NAMESPACE, MEEK_THREAD, tmp_path)
            thread, = (int(t) for t in os.listdir(f"/proc/{first}/task") if int(t) != first)
            dump = subprocess.Popen([CR, "dump", "-R", "-t", str(first), "-D", images], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
            try:
                meet_tracer(thread, dump)
                hog.stdin.write("now\n")
                hog.stdin.flush()
                time.sleep(0.12)
                os.kill(first, signal.SIGKILL)
                dump.wait(60)
                p.wait(60)
            finally:
                dump.kill()
                p.kill()
                dump.wait()
                p.wait()


THREADS = """
import _thread, os, time
os.getpid() == os.getsid(0) or os.setsid()
for _ in range(30):
    _thread.start_new_thread(time.sleep, (1e6,))
print("ready", flush=True)
time.sleep(1e6)
"""


def innermost(pid):
    """Its number in its own namespace; None when it is gone."""
    try:
        return int(re.search(r"^NSpid:.*\s(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.M)[1])
    except OSError:
        return None


@pytest.mark.parametrize("before, code", [([], THREADS), (NAMESPACE, THREADS), (NAMESPACE, CHILDREN % 30)],
                         ids=["threads", "threads-namespace", "children-namespace"])
def test_a_process_that_is_killed_while_it_is_restored_ends_and_so_does_the_restore(before, code, tmp_path):
    """It may be killed in a call that makes others, whose end its own waits for, and whom nobody knows yet."""
    delays = random.Random(SEED)
    images = tmp_path / "images"
    images.mkdir()
    p, pid = start_ready(before, code, tmp_path)
    wait_for(lambda: code != THREADS or len(os.listdir(f"/proc/{pid}/task")) == 31, 20, "all threads")
    check(cr("dump", images, "-t", str(pid)), "dump")
    p.wait(20)
    failed = 0
    for _ in range(100):
        restore = subprocess.Popen([CR, "restore", "-D", images, "-o", "log"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        root = None
        while not root and restore.poll() is None:
            children = Path(f"/proc/{restore.pid}/task/{restore.pid}/children").read_text(encoding="ascii").split()
            root = next((int(child) for child in children if innermost(child) == (1 if before else pid)), None)
        time.sleep(delays.uniform(0, 0.012))
        os.kill(root, signal.SIGKILL)
        try:
            ended = restore.wait(20)
        finally:
            restore.kill()
            restore.wait()
        log = (images / "log").read_text()
        assert ended in (0, 1), log
        failed += ended
        if ended:
            assert "restore failed (" in log and f"process {root} has ended" in log and " do not end" not in log, log
        assert not os.path.exists(f"/proc/{root}"), log
    assert failed > 10, failed


CATCHES = """
import os, signal
os.setsid()
signal.signal(signal.SIGUSR1, lambda *_: print("caught", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("sig", [signal.SIGUSR1, signal.SIGSTOP])
def test_a_signal_between_seizing_and_stopping_is_not_lost(tmp_path, sig):
    """Then the signal is the first stop that the tracer sees."""
    out = tmp_path / "out"
    with open(out, "wb") as f:
        p = subprocess.Popen([sys.executable, "-c", CATCHES], stdin=subprocess.DEVNULL, stdout=f)
    try:
        wait_for(lambda: "ready" in out.read_text(), 20, "ready")
        dump = subprocess.Popen(["strace", "-f", "-qq", "-o", tmp_path / "trace", "-e", "trace=ptrace", "-e",
                                 "inject=ptrace:delay_exit=500000:when=1", CR, "dump", "-R", "-t", str(p.pid),
                                 "-D", tmp_path], stderr=subprocess.PIPE, text=True)
        wait_for(lambda: tracer_of(p.pid) or dump.poll() is not None, 20, "seized")
        p.send_signal(sig)
        _, text = dump.communicate(timeout=60)
        assert dump.returncode == 0, text
        if sig == signal.SIGSTOP:
            wait_for(lambda: state_of(p.pid) == "T", 10, "it is stopped")
        else:
            wait_for(lambda: "caught" in out.read_text(), 10, "its handler runs")
    finally:
        p.kill()
        p.wait()


def traced_seconds(pid, images):
    """How long a dump holds the tree, on this machine and now."""
    dump = subprocess.Popen([CR, "dump", "-R", "-t", str(pid), "-D", images],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    meet_tracer(pid, dump)
    begin = time.perf_counter()
    dump.wait(20)
    return max(time.perf_counter() - begin, 0.006)


FORKS = """
import os
while True:
    for _ in range(8):
        if os.fork() == 0:
            os._exit(0)
    for _ in range(8):
        os.wait()
"""


def test_children_that_end_while_the_tree_is_being_stopped(tmp_path):
    """Without a freezer they are listed first and stopped then."""
    forks = subprocess.Popen(["/usr/bin/python3", "-c", FORKS], start_new_session=True)
    try:
        for n in range(60):
            done = cr("dump", tmp_path, "-R", "-t", str(forks.pid))
            assert done.returncode == 0, f"dump {n}: {done.stderr}\n{done.log[-2000:]}"
            assert tracer_of(forks.pid) == 0
    finally:
        forks.kill()
        forks.wait()


def test_a_tree_survives_its_tracer_at_any_moment(tmp_path):
    delays = random.Random(SEED)
    m = Maker("killed", tmp_path)
    try:
        m.start()
        killed = leaks = 0
        inside = []
        images = tmp_path / "killed"
        images.mkdir()
        for n in range(ROUNDS_MAX):
            if killed >= KILLS and sum(inside) >= INSIDE:
                break
            if n % 20 == 0:
                longest = traced_seconds(m.pid, images)
            before = anonymous_bytes(m.pid)
            # A tracer that stands still for a moment lets tasks come to the end of their calls: every other time.
            look = (lambda before=before: inside.append(anonymous_bytes(m.pid) > before)) if n % 2 else None
            killed += kill_tracer(m.pid, images, delays.uniform(0, longest), look=look)
            if not m.alive():
                raise Failure(f"round {n}: the victim ended, {m.popen.wait(9)}: {m.read()}\n"
                              + m.output.read_text(errors="replace"))
            leaks += not soon(lambda before=before: anonymous_bytes(m.pid) == before)
        assert killed >= KILLS, f"only {killed} tracers were killed in time"
        # Those that had the zone mapped.
        assert sum(inside) >= INSIDE, f"only {sum(inside)} of {killed} were killed while tasks ran their calls"
        # README, Limits: of several threads one may just begin.
        assert leaks <= killed // 50, f"the zone of {leaks} of {killed} has stayed"
        m.dump()
        m.reap()
        m.restore()
        m.verify()
    finally:
        m.end()


def shows(pid):
    """What of /proc/PID does not change by itself, or with others of its user."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    status = re.sub(r"^\w*ctxt_switches:.*\n|^(State|TracerPid|SigQ|Rss\w+|Vm(RSS|HWM|PTE|Data|Peak)):.*\n", "",
                    Path(f"/proc/{pid}/status").read_text(), flags=re.M)
    return maps, status


@pytest.mark.parametrize("verb", [("dump", "-R"), ("pre-dump",), ("check",)], ids=["dump", "pre-dump", "check"])
def test_a_process_whose_dump_is_killed_shows_what_it_did(verb, tmp_path):
    delays = random.Random(SEED)
    p, (pid,) = start_python("import signal\nsignal.signal(signal.SIGUSR1, lambda *_: None)\n"
                             "print(os.getpid(), flush=True)\nwhile True:\n    time.sleep(1e6)")
    inside, killed = [], 0
    try:
        longest = traced_seconds(pid, tmp_path)
        for n in range(ROUNDS_MAX):
            if killed >= 30 and sum(inside) >= 5:
                break
            before = shows(pid)
            look = (lambda before=before: inside.append(shows(pid)[0] != before[0])) if n % 2 else None
            killed += kill_tracer(pid, tmp_path, delays.uniform(0, longest), *verb, look=look)
            wait_for(lambda before=before: shows(pid) == before, 10, f"round {n}: all as before")
        assert killed >= 30 and sum(inside) >= 5, (killed, sum(inside))
    finally:
        stop_python(p)


def test_a_tree_survives_a_killed_pre_dump(tmp_path):
    m = Maker("rounds", tmp_path)
    try:
        m.start()
        images = tmp_path / "killed"
        images.mkdir()
        for n in kill_tracers(m.pid, images, 40, 0.002, "pre-dump"):
            if not m.alive():
                raise Failure(f"round {n}: the victim ended: {m.read()}")
        # What was half tracked must not be taken for tracked.
        os.kill(m.pid, signal.SIGUSR2)
        wait_for(lambda: "generation 1" in m.read(), 10, "a generation")
        m.dump("--prev-images-dir", "../killed")
        m.reap()
        m.restore()
        m.verify()
    finally:
        m.end()


def traced(pid, images, inject):
    """A dump under strace(1): it, and what it asked of ptrace(2)."""
    log = images / "trace"
    log.unlink(missing_ok=True)
    done = subprocess.run(["strace", "-f", "-qq", "-o", log, "-e", "trace=ptrace", "-e", inject, CR, "dump", "-R",
                           "-t", str(pid), "-D", images], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})  # not under strace
    return done, log.read_text().splitlines()


def failures(m, images, which):
    """Dumps of which one ptrace(2) failed each, while threads run the engine's calls. Yields its request."""
    done, calls = traced(m.pid, images, "signal=none")
    assert done.returncode == 0, done.stderr
    starts = [n for n, line in enumerate(calls, 1) if "PTRACE_CONT" in line]
    # The first maps the zone, the second is the main thread's, the last takes the zone away.
    between = range(starts[1], starts[-1] - 4)
    assert len(starts) >= 8 and len(between) > 50, calls
    before = anonymous_bytes(m.pid)
    for n in between:
        if not re.search(which, calls[n - 1]):
            continue
        done, now = traced(m.pid, images, f"inject=ptrace:error=ESRCH:when={n}")
        assert m.alive(), f"call {n}: {m.popen.wait(9)}: {m.read()}" + m.output.read_text(errors="replace")
        assert tracer_of(m.pid) == 0
        assert anonymous_bytes(m.pid) == before, now
        if done.returncode:
            yield from re.findall(r"PTRACE_[A-Z]+(?=.*INJECTED)", "\n".join(now))


def test_a_tree_survives_a_dump_that_fails_while_threads_run_its_calls(tmp_path):
    m = Maker("killed", tmp_path)
    images = tmp_path / "failed"
    images.mkdir()
    try:
        m.start()
        assert {"PTRACE_CONT", "PTRACE_SETREGS", "PTRACE_SETREGSET", "PTRACE_SETSIGMASK"} <= set(failures(m, images, ""))
        m.dump()
        m.reap()
        m.restore()
        m.verify()
    finally:
        m.end()


def test_a_dump_that_fails_waits_for_the_other_thread_that_runs_its_calls(tmp_path):
    """That takes long: it has next to nothing of its processor, and the main thread would take the zone away."""
    m = Maker("killed", tmp_path)
    images = tmp_path / "failed"
    images.mkdir()
    first = min(os.sched_getaffinity(0))
    busy = None
    try:
        m.start()
        for tid in {int(name) for name in os.listdir(f"/proc/{m.pid}/task")} - {m.pid}:
            os.sched_setaffinity(tid, {first})
            os.sched_setscheduler(tid, os.SCHED_IDLE, os.sched_param(0))
        busy = subprocess.Popen(["/usr/bin/python3", "-c", f"import os; os.sched_setaffinity(0, {{{first}}})\n"
                                 "while True: pass"])
        assert len(list(failures(m, images, "PTRACE_CONT"))) >= 4
    finally:
        if busy:
            busy.kill()
            busy.wait()
        m.end()


def test_a_process_that_is_killed_while_it_is_dumped_ends_at_once(tmp_path):
    """Its main thread can be reaped when all others are, by the engine, which waits for the main thread."""
    delays = random.Random(SEED)
    longest = None
    for n in range(120):
        where = tmp_path / str(n)
        where.mkdir()
        m = Maker("killed", where)
        try:
            m.start()
            longest = longest or traced_seconds(m.pid, m.images)
            dump = subprocess.Popen([CR, "dump", "-R", "-t", str(m.pid), "-D", m.images, "--timeout", "600"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            meet_tracer(m.pid, dump)
            # Every other time while it is being stopped.
            end = time.perf_counter() + delays.uniform(0, longest if n % 2 else longest / 20)
            while time.perf_counter() < end:
                pass
            os.kill(m.pid, signal.SIGKILL)
            text = dump.communicate(timeout=60)[1]
            assert "does not stop" not in text
            assert m.popen.wait(20) == -signal.SIGKILL
        finally:
            m.end()


def test_a_dump_says_first_who_was_killed_during_it(tmp_path):
    """Whatever it could not find of that process."""
    p, pid = start_ready(["unshare", "-n"], CHILDREN % 1, tmp_path)
    script = tmp_path / "script"
    # The event comes when all stand still.
    script.write_text('#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != network-lock ] || { kill -9 $CRTOOLS_INIT_PID; sleep 0.2; }\n')
    script.chmod(0o755)
    child, = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    try:
        done = cr("dump", tmp_path, "-t", str(pid), "--action-script", script)
        assert done.returncode != 0
        assert re.fullmatch(rf"cr: dump failed: process {pid} .* was killed while it was looked at: try again.*\n", done.stderr)
        assert p.wait(20) == -signal.SIGKILL
    finally:
        p.kill()
        os.kill(int(child), signal.SIGKILL)
        p.wait()


EXECUTES = """
import os, sys, threading, time
os.setsid()
def last():
    os.read(0, 1)
    os.execv("/bin/sleep", ["sleep", "1000"])
for n in range(20):
    threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
threading.Thread(target=last, daemon=True).start()
print("ready", flush=True)
time.sleep(1000)
"""


def test_a_thread_that_executes_a_program_while_the_others_are_being_seized(tmp_path):
    """It waits for them to be reaped, and PTRACE_SEIZE for it. Whether the dump is in time does not matter."""
    p = subprocess.Popen([sys.executable, "-c", EXECUTES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == "ready\n"
        dump = subprocess.Popen(["strace", "-f", "-qq", "-o", tmp_path / "trace", "-e", "trace=ptrace", "-e",
                                 "inject=ptrace:delay_enter=20000", CR, "dump", "-R", "-t", str(p.pid), "-D",
                                 tmp_path], stderr=subprocess.PIPE, text=True)
        first = min(int(t) for t in os.listdir(f"/proc/{p.pid}/task") if int(t) != p.pid)
        wait_for(lambda: tracer_of(first), 20, "one is seized")
        p.stdin.write("x")
        p.stdin.flush()
        dump.communicate(timeout=60)
        wait_for(lambda: Path(f"/proc/{p.pid}/comm").read_text() == "sleep\n" and not tracer_of(p.pid), 20,
                 "the program runs")
        assert p.poll() is None
    finally:
        p.kill()
        p.communicate(timeout=20)


HOLDS = """
import ctypes, os, time
libc = ctypes.CDLL(None)
os.setsid()
sem = libc.semget(0, 1, 0o1600)
libc.semop(sem, b"\\0\\0\\5\\0\\0\\x10", 1)      # +5, SEM_UNDO
name = b"/crk-killed-%d" % os.getpid()
queue = libc.mq_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, None)
for text, priority in ((b"a", 1), (b"bb", 9), (b"ccc", 1)):
    libc.mq_send(queue, text, len(text), priority)
print(sem, flush=True)
time.sleep(1e6)
"""


def test_what_is_found_out_by_changing_it_survives_too(tmp_path):
    """Messages are out of their queue while they are read, adjustments are found by semop(2)."""
    libc = ctypes.CDLL(None)
    p = subprocess.Popen([sys.executable, "-c", HOLDS], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    sem = int(p.stdout.readline())
    name = b"/crk-killed-%d" % p.pid
    try:
        for _ in kill_tracers(p.pid, tmp_path, KILLS, 0.008):
            pass
        queue = libc.mq_open(name, os.O_RDWR)
        room, sizes = ctypes.create_string_buffer(8192), []
        for _ in range(3):      # waits for a message that is still out
            sizes.append(libc.mq_receive(queue, room, 8192, None))
        os.close(queue)
        assert sizes == [2, 1, 3]
        # What was killed last is put back by the process itself.
        wait_for(lambda: libc.semctl(sem, 0, GETVAL) == 5, 10, "its adjustment")
        p.kill()
        p.wait()
        assert libc.semctl(sem, 0, GETVAL) == 0
    finally:
        p.kill()
        p.wait()
        p.stdout.close()
        libc.semctl(sem, 0, 0)
        libc.mq_unlink(name)


def engines():
    """Processes of cr that still run, also those whose parent was killed."""
    found = []
    for exe in Path("/proc").glob("[0-9]*/exe"):
        try:
            found += [exe] if os.readlink(exe) == str(CR.resolve()) else []
        except OSError:
            pass
    return found


def test_what_is_queued_in_terminals_survives_a_killed_dump(tmp_path):
    m = Maker("ptys", tmp_path)
    try:
        m.start()
        images = tmp_path / "killed"
        images.mkdir()
        for _ in kill_tracers(m.pid, images, KILLS, 0.004):
            wait_for(lambda: not engines(), 10, "the helper has put back what it took")
        m.verify()
    finally:
        m.end()

"""SIGKILL of the tracing process at any moment: the tree goes on as if nothing had been."""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

from live import CR, Failure, Maker, wait_for

KILLS, INSIDE = 200, 10
ROUNDS_MAX = 1500


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


def kill_tracer(pid, images, delay):
    """One dump whose tracing process is killed `delay` seconds after it has seized the tree.
    False when the dump was over before."""
    dump = subprocess.Popen([CR, "dump", "-R", "-t", str(pid), "-D", images],
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
                os.kill(tracer, signal.SIGKILL)
                killed = True
            except ProcessLookupError:
                pass
            break
    dump.wait(20)
    wait_for(lambda: tracer_of(pid) in (0, None), 10, "the tracer is gone")
    return killed


def state_of(pid):
    return re.search(r"^State:\s*(\w)", Path(f"/proc/{pid}/status").read_text(), re.M)[1]


def test_a_stop_signal_in_the_middle_of_a_dump_takes_effect_after_it(tmp_path):
    """SIGSTOP cannot be blocked: it comes while tasks run our calls, too."""
    delays = random.Random(20261121)
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
            dump = subprocess.Popen([CR, "dump", "-R", "-v4", "-o", log, "-t", str(m.pid), "-D",
                                     images], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            wait_for(lambda: tracer_of(m.pid) or dump.poll() is not None, 10, "the tracer")
            end = time.perf_counter() + delays.uniform(0, 0.006)
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


def test_a_tree_survives_its_tracer_at_any_moment(tmp_path):
    seed = 20261121
    delays = random.Random(seed)
    m = Maker("killed", tmp_path)
    try:
        m.start()
        killed = inside = 0
        images = tmp_path / "killed"
        images.mkdir()
        for n in range(ROUNDS_MAX):
            if killed >= KILLS and inside >= INSIDE:
                break
            before = anonymous_bytes(m.pid)
            killed += kill_tracer(m.pid, images, delays.uniform(0, 0.006))
            if not m.alive():
                raise Failure(f"seed {seed}, round {n}: the victim ended, {m.popen.wait(9)}: {m.read()}\n"
                              + m.output.read_text(errors="replace"))
            inside += anonymous_bytes(m.pid) > before
        assert killed >= KILLS, f"only {killed} tracers were killed in time"
        # A zone that stays proves that the kill came between its first call and its last.
        assert inside >= INSIDE, f"only {inside} of {killed} were killed while tasks ran their calls"
        m.dump()
        m.reap()
        m.restore()
        m.verify()
    finally:
        m.end()

"""One life of a maker program: start, dump, end, restore, verify.

A maker (tests/live/make/NAME.c) sets some kernel state up, writes "ready" to the file it is
given, and upon SIGUSR1 checks that everything is as it left it and writes "ok" or "FAIL: ...".
One that wants a child of its own dumped instead writes that one's pid to the file RESULT.pid.
A line "cr-options: ..." in its head names options for both dump and restore.
"""
import ctypes
import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python would write a line and its end apart, and another process of the tree between them.
os.environ.pop("PYTHONUNBUFFERED", None)
sys.path.insert(0, str(ROOT / "tests"))

from procs import LIMIT_AT_LEAST, Failure, proc_state, wait_for     # noqa: E402, F401  (the path comes first)

BUILD = ROOT / os.environ.get("BUILD", "build")
CR = Path(os.environ.get("CR", BUILD / "cr"))


# Restored trees whose `cr` has ended become ours, not init's, which may take its time to reap.
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


class Popen(subprocess.Popen):
    """Known as long as it is its own to reap: who else did would take its exit status away."""
    started = weakref.WeakSet()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        Popen.started.add(self)


subprocess.Popen = Popen


def children():
    """Ours, and those that fell to us."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def reap_orphans():
    """Ends the zombies that fell to us; a zombie keeps its pid from being restored."""
    owned = {p.pid for p in Popen.started if p.returncode is None}
    for pid in children() - owned:
        if proc_state(pid) == "Z":
            os.waitpid(pid, os.WNOHANG)


def wait_gone(pid):
    """Until one that is no Popen's has ended and is reaped, by whomever."""
    wait_for(lambda: reap_orphans() or proc_state(pid) is None, 20, f"the end of {pid}")


def wait_in_call(pid, nr):
    """Until it sits in this system call: nothing of it moves any more."""
    wait_for(lambda: Path(f"/proc/{pid}/syscall").read_text().startswith(f"{nr} "), 20, f"{pid} in call {nr}")


def kill(pid, sig=signal.SIGKILL):
    """If it is still there."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def end_strays(before):
    """Whoever is left, except those of before. The end of one makes its children ours."""
    def gone():
        left = children() - before
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
        return not left
    wait_for(gone, 60, "the end of what a test has left")


def cgroup_root():
    return Path(next(line.split()[4] for line in open("/proc/self/mountinfo") if " - cgroup2 " in line))


def remove_group(group):
    """With those below it, and those in it. It is busy until they have ended for good."""
    def gone(g):
        try:
            for pid in (g / "cgroup.procs").read_text().split():
                kill(int(pid))
            reap_orphans()
            g.rmdir()
        except FileNotFoundError:
            pass
        except OSError as e:
            if e.errno in (errno.EBUSY, errno.ENODEV):
                return False
            raise
        return True
    for g in sorted(group.glob("**/"), reverse=True):
        wait_for(lambda g=g: gone(g), 20, f"the end of {g}")


def groups_named(wanted):
    """Of makers and tests, by the number at the end of their names: crk-KIND-NUMBER, crk-KIND-NUMBER-WHAT."""
    for root in (cgroup_root(), Path("/sys/fs/cgroup/pids")):
        for group in root.glob("crk-*"):
            found = re.fullmatch(r"crk-[a-z]+-(\d+)(-.*)?", group.name)
            if found and wanted(int(found[1])):
                yield group


def maker_source(name):
    return ROOT / "tests/live/make" / f"{name}.c"


def maker_options(name, kind="cr-options"):
    found = re.search(rf"{kind}:\s*(.*)", maker_source(name).read_text())
    return found.group(1).replace("*/", "").split() if found else []


def run_reaping(argv, timeout):
    """A restore waits for ids: who was just killed falls to us, and may take its time to end."""
    end = time.monotonic() + max(timeout, LIMIT_AT_LEAST)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          errors="replace") as p:
        while True:
            reap_orphans()
            try:
                out, err = p.communicate(timeout=0.1)
                return subprocess.CompletedProcess(argv, p.returncode, out, err)
            except subprocess.TimeoutExpired:
                if time.monotonic() > end:
                    p.kill()
                    raise


def cr(verb, images, *options, timeout=60):
    """Runs cr; returns its CompletedProcess. The log stays beside the images."""
    log = f"{verb}.log"
    argv = [CR, verb, "-D", images, "-v4", "-o", log, *options]
    done = run_reaping(argv, timeout)
    done.log = (images / log).read_text(errors="replace") if (images / log).exists() else ""
    return done


def check(done, what):
    if done.returncode:
        tail = "\n".join(done.log.splitlines()[-25:])
        raise Failure(f"{what}: exit {done.returncode}\n{done.stderr}\n{tail}")


def cr_check(pid, *options):
    """Exit code and all that `cr check` says."""
    done = subprocess.run([CR, "check", "-t", str(pid), *options], capture_output=True, text=True,
                          check=False)
    return done.returncode, done.stdout + done.stderr


BEGIN = "import ctypes, os, time\nlibc = ctypes.CDLL(None, use_errno=True)\nos.setsid()\n"


def start_python(code, **kwargs):
    """A process of a session of its own with libc at hand; what it printed first, as numbers."""
    p = subprocess.Popen([sys.executable, "-c", BEGIN + code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         text=True, **kwargs)
    return p, [int(n) for n in p.stdout.readline().split()]


def stop_python(p):
    p.kill()
    p.wait()
    p.stdout.close()


class HugePages:
    """A pool of this many free huge pages, for as long as it is needed. Others' use is theirs.

    Its size is the machine's, and can only be set: one test at a time.
    """
    POOL = Path("/proc/sys/vm/nr_hugepages")

    def __init__(self, n):
        self.n = n

    def __enter__(self):
        self.lock = open(self.POOL) if self.n and self.POOL.exists() else None
        if self.lock:
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            self.before = self.POOL.read_text()
            self.POOL.write_text(str(int(self.before) + self.n))
        return self

    def __exit__(self, *_):
        if self.lock:
            self.POOL.write_text(self.before)
            self.lock.close()


class Maker:
    def __init__(self, name, tmp):
        self.name = name
        self.dir = Path(tmp)
        self.images = self.dir / "images"
        self.images.mkdir()
        self.result = self.dir / "result"
        self.output = self.dir / "output"
        self.popen = None
        self.pid = self.number = None   # the number: in names of what it makes

    def start(self, timeout=20):
        with open(self.output, "wb") as out:
            self.popen = subprocess.Popen(
                [BUILD / "make" / self.name, self.result], stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, cwd=self.dir)
        self.pid = self.number = self.popen.pid
        wait_for(lambda: "ready" in self.read() or self.popen.poll() is not None, timeout,
                 f"{self.name} does not get ready")
        if self.popen.poll() is not None and "ready" not in self.read():
            text = self.read() + self.output.read_text(errors="replace")
            if self.popen.returncode == 77:
                import pytest
                pytest.skip(text.strip() or f"{self.name}: not possible on this machine")
            raise Failure(f"{self.name} ended before it was ready: {text}")
        other = self.dir / "result.pid"
        if other.exists():
            self.pid = int(other.read_text())

    def read(self):
        return self.result.read_text(errors="replace") if self.result.exists() else ""

    def dump(self, *options, timeout=60):
        check(cr("dump", self.images, "-t", str(self.pid), *maker_options(self.name), *options,
                 timeout=timeout), "dump")

    def reap(self):
        """The killed process is our zombie: its pid is free only when it is reaped."""
        if self.popen:
            self.popen.wait(timeout=20)
            self.popen = None

    def restore(self, *options, timeout=60):
        pidfile = self.dir / "pidfile"
        pidfile.unlink(missing_ok=True)
        check(cr("restore", self.images, "-d", "--pidfile", str(pidfile),
                 *maker_options(self.name), *options, timeout=timeout), "restore")
        self.pid = int(pidfile.read_text())

    def alive(self):
        if not self.popen:
            reap_orphans()
        return proc_state(self.pid) not in (None, "Z")

    def verify(self, timeout=30):
        if not self.alive():
            raise Failure(f"{self.name}: process {self.pid} is not there after the restore\n"
                          + self.output.read_text(errors="replace"))
        os.kill(self.pid, signal.SIGUSR1)
        wait_for(lambda: re.search(r"^(ok|FAIL)", self.read(), re.M) or not self.alive(), timeout,
                 f"{self.name} does not verify")
        text = self.read()
        if not re.search(r"^ok", text, re.M) or "FAIL" in text:
            raise Failure(f"{self.name}: {text}\n{self.output.read_text(errors='replace')}")

    def end(self):
        """Those that are left of it, here or as orphans, end with the test (conftest.py)."""
        if self.pid and self.alive():
            for kill in os.killpg, os.kill:
                try:
                    kill(self.pid, signal.SIGKILL)
                except ProcessLookupError:      # it leads no group, or has just ended
                    pass
        if self.popen:
            self.popen.wait(timeout=20)
        self.remove_ipc()
        for group in list(groups_named(lambda n: n == self.number)):
            remove_group(group)

    def remove_ipc(self):
        """What a failed test leaves has pids in it that others get, and then seems to be theirs."""
        if re.search(r"^ok", self.read(), re.M):
            return
        for kind, number in re.findall(r"^ipc (\w+) (\d+)$", self.read(), re.M):
            subprocess.run(["ipcrm", kind, number], capture_output=True)

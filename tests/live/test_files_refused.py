"""What cannot be saved is refused by name, with a remedy, and nothing of it changes.

Each case is a Python process that makes the object, then sleeps.
"""
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from live import Failure, cr, wait_for, wait_in_call

pytestmark = pytest.mark.may_lack

PRELUDE = """
import ctypes, errno, fcntl, mmap, os, signal, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
room = ctypes.create_string_buffer(512)
os.setsid()

def call(nr, *args):
    r = libc.syscall(nr, *args)
    error = ctypes.get_errno()
    # EPERM of io_uring_setup(2): by /proc/sys/kernel/io_uring_disabled; of sched_setattr(2): we are
    # confined to some processors by more than our own mask. EINVAL of fanotify_init(2): a newer flag.
    lacking = (error in (errno.ENOSYS, errno.EOPNOTSUPP) or error == errno.EPERM and nr in (425, 314)
               or error == errno.EINVAL and nr == 300)
    if r < 0:
        print("SKIP" if lacking else "FAIL", "system call", nr, os.strerror(error), flush=True)
        sys.exit(0)
    return r

def ready():
    print("ready", flush=True)
    while True:
        signal.pause()
"""

RING = """
fd = call(425, 4, room)
sq_tail, sq_array = struct.unpack_from("I", room, 44)[0], struct.unpack_from("I", room, 64)[0]
ring = mmap.mmap(fd, 4096, offset=0)
sqes = mmap.mmap(fd, 4096, offset=0x10000000)
"""
# int of 4 bytes: the least that is accepted.
BTF = """
btf = ctypes.create_string_buffer(struct.pack("<HBBIIIII", 0xeb9f, 1, 0, 24, 0, 16, 16, 5) +
                                  struct.pack("<IIII", 1, 1 << 24, 4, 32) + b"\\0int")
"""
FANOTIFY = """
def group(flags, mask):
    fd = call(300, flags, 0)
    os.close(os.open("x", os.O_CREAT | os.O_RDWR))
    call(301, fd, 1, mask, -100, b"x")
    return fd
"""
TRIGGER = """
def opened(path):
    try:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError as e:
        print("SKIP", path, e, flush=True); sys.exit(0)
"""
CHATTR = """
def open_with(flags, attribute):
    fd = os.open("attr", os.O_CREAT | flags)
    try:
        fcntl.ioctl(fd, 0x40086602, struct.pack("l", attribute))
    except OSError as e:
        print("SKIP", e, flush=True); sys.exit(0)
"""
PERF = 'struct.pack("II120x", 1, 128)'

# name: (program, what the message must say, what the remedy must say, options)
CASES = {
    "io_uring with a thread": ("struct.pack_into('I', room, 8, 2); call(425, 4, room)",
                               "io_uring: it has a kernel thread that submits", "io_uring off", []),
    "io_uring with a request": (
        RING + "ring[sq_array:sq_array + 4] = bytes(4); sqes[:64] = struct.pack("
        "'<BBHiQQIIQ24x', 6, 0, 0, os.pipe()[0], 0, 0, 0, 1, 7); ring[sq_tail:sq_tail + 4] = b'\\x01\\0\\0\\0'; "
        "call(426, fd, 1, 0, 0, 0, 0)",
        "requests in flight: 1, of them polls for operations 6", "cancel them", []),
    "io_uring with personalities": (RING + "call(427, fd, 9, 0, 0)", "registered personalities",
                                    "io_uring off", []),
    "userfaultfd": ("call(323, 0)", "userfaultfd", "stop the service", []),
    "perf": (f"call(298, ctypes.create_string_buffer({PERF}), 0, -1, -1, 0)",
             "performance counter", "profiling", []),
    "BPF map": ('call(321, 0, ctypes.create_string_buffer(struct.pack("IIII112x", 2, 4, 8, 1)), 128)',
                "a BPF map", "stop the program", []),
    "BPF program": (
        'code = ctypes.create_string_buffer(struct.pack("QQ", 0xb7, 0x95)); '
        'gpl = ctypes.create_string_buffer(b"GPL"); '
        'call(321, 5, ctypes.create_string_buffer(struct.pack("IIQQ104x", 1, 2, '
        'ctypes.addressof(code), ctypes.addressof(gpl))), 128)',
        "a loaded BPF program", "stop the program", []),
    "BTF": (BTF + 'call(321, 18, ctypes.create_string_buffer(struct.pack("QQIII100x", '
            'ctypes.addressof(btf), 0, len(btf.raw), 0, 0)), 128)', "BPF type information",
            "stop the program", []),
    "detached mount": ('call(428, -100, b"/dev/shm", 1)', "leads to another file",
                       "take away what is mounted", []),
    "seccomp supervisor": (
        'code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000)); '
        'prog = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(code))); '
        'call(317, 1, 8, prog)', "seccomp supervisor", "supervised", []),
    "fscontext": ('call(430, b"tmpfs", 0)', "file system being configured", "again", []),
    "fanotify with permission": (FANOTIFY + "group(4, 0x10000)", "it decides on accesses",
                                 "monitor", []),
    "fanotify with a verdict to give": (
        FANOTIFY + "fd = group(4, 0x10000); pid = os.fork()\nif pid == 0:\n    os.setsid()\n"
        "    if os.fork() == 0:\n        os.close(fd); os.open('x', os.O_RDONLY)\n    os._exit(0)\n"
        "os.waitpid(pid, 0); os.read(fd, 24); call(301, fd, 2, 0x10000, -100, b'x')",
        "an access waits for the program's verdict", "again", []),
    "fanotify with unread events": (FANOTIFY + "group(4, 0x20); open('x')",
                                    "24 bytes of unread events", "again", []),
    "fanotify on a removed file": (FANOTIFY + "group(0, 0x20); fd = os.open('x', 0); os.unlink('x')",
                                   "path cannot be found", "remove it", []),
    "fanotify on a mount namespace": (
        FANOTIFY + "ns = os.open('/proc/self/ns/mnt', os.O_RDONLY); "
        "call(301, call(300, 0x4000, 0), 0x111, 0x1000000, ns, None)", "mark on a mount namespace",
        "remove the mark", []),
    "fanotify of a user namespace": (
        FANOTIFY + "libc.unshare(0x10000000)\n"
        "for name, text in (('setgroups', 'deny'), ('uid_map', '0 0 1'), ('gid_map', '0 0 1')):\n"
        "    os.write(os.open(f'/proc/self/{name}', os.O_WRONLY), text.encode())\n"
        "group(0x200, 0x20)", "made in another user namespace",
        "monitor", []),
    "secretmem": ("call(447, 0)", "secret memory", "release", []),
    "landlock": ('call(444, ctypes.create_string_buffer(struct.pack("QQ", 1, 0)), 16, 0)',
                 "Landlock", "sandbox", []),
    "pidfd outside": ("os.pidfd_open(os.getppid())", "not in the tree", "close it", []),
    "file lock": ("fcntl.flock(os.open('locked', os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX)",
                  "holds a file lock", "--file-locks", []),
    "lost name": ("fd = os.open('a', os.O_CREAT | os.O_RDWR); os.link('a', 'b'); os.unlink('a')",
                  "its name is gone", "--link-remap", []),
    "large removed file": (
        "fd = os.open('big', os.O_CREAT | os.O_RDWR); os.write(fd, bytes(3 << 20)); "
        "os.unlink('big')", "more than the limit of 2097152", "--ghost-limit",
        ["--ghost-limit", "2M"]),
    "epoll of a lost file": (
        "import select; e = select.epoll(); r, w = os.pipe(); e.register(r); "
        "done = os.pipe(); pid = os.fork()\n"
        "if pid == 0:\n    os.close(e.fileno()); os.write(done[1], b'x'); signal.sigwait({signal.SIGTERM})\n"
        "os.read(done[0], 1); os.close(r)", "no longer holds", "EPOLL_CTL_DEL", []),
    "packet mode": (
        "import termios; m, s = os.openpty(); fcntl.ioctl(m, 0x5420, struct.pack('i', 1)); "
        "termios.tcflush(s, termios.TCIFLUSH)", "a status of packet mode is unread", "again", []),
    "input of a console": (
        "import termios\ntry:\n    t = os.open('/dev/tty62', os.O_RDWR | os.O_NOCTTY)\n"
        "except FileNotFoundError as e:\n    print('SKIP', e, flush=True); sys.exit(0)\n"
        "fcntl.ioctl(t, termios.TIOCSTI, b'\\n')", "1 bytes of input are unread", "again", []),
    "pressure trigger": (
        TRIGGER + "fd = opened('/proc/pressure/memory'); os.write(fd, b'some 200000 2000000\\0')",
        "/proc/pressure/memory: a pressure trigger was written", "MemoryPressureWatch=off", []),
    "pressure trigger of a group": (
        TRIGGER + "group = next((m.split()[1] for m in open('/proc/mounts') if m.split()[2] == 'cgroup2'), '/')\n"
        "fd = opened(group + '/memory.pressure'); os.write(fd, b'some 200000 2000000\\0')",
        "memory.pressure: a pressure trigger was written", "MemoryPressureWatch=off", []),
    "immutable file": (CHATTR + "open_with(os.O_RDWR, 0x10)", "attr: immutable now", "chattr -i", []),
    "append-only file": (CHATTR + "open_with(os.O_WRONLY, 0x20)", "attr: append-only now", "chattr -a", []),
    "status of a process that has ended": (
        "pid = os.fork()\nif pid == 0:\n    signal.pause()\n"
        "fd = os.open(f'/proc/{pid}/status', os.O_RDONLY); os.kill(pid, 9); os.waitpid(pid, 0)",
        "status: what it showed is gone", "close it", []),
    "misc device": ("os.open('/dev/fuse', os.O_RDWR)", "FUSE", "unmount", []),
}


class Process:
    def __init__(self, program, tmp):
        self.images = tmp / "images"
        self.images.mkdir()
        self.output = tmp / "output"
        with open(self.output, "wb") as out:
            self.popen = subprocess.Popen(
                ["/usr/bin/python3", "-c", PRELUDE + program + "\nready()"], cwd=tmp,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        self.pid = self.popen.pid
        wait_for(lambda: "ready" in self.text() or self.popen.poll() is not None, 20, program)
        if "SKIP" in self.text():
            pytest.skip(f"the kernel lacks it: {self.text().strip()}")
        assert "ready" in self.text(), f"ended with {self.popen.poll()}: {self.text()}"
        wait_in_call(self.pid, 34)      # pause(2): its state does not change by itself any more

    def text(self):
        return self.output.read_text(errors="replace")

    def state(self):
        """All that a dump could have changed and that does not move by itself."""
        proc = Path(f"/proc/{self.pid}")
        moving = re.compile(r"(?m)^Sq(Thread|TotalTime|WorkTime).*$")  # of a kernel's thread
        fds = {p.name: (os.readlink(proc / "fd" / p.name), moving.sub("", p.read_text()))
               for p in (proc / "fdinfo").iterdir()}
        keep = ("SigPnd", "SigBlk", "SigIgn", "SigCgt", "Shd", "Cap", "Seccomp", "NoNew", "Tracer", "State", "Threads", "Umask")
        status = [line for line in (proc / "status").read_text().splitlines()
                  if line.startswith(keep)]
        return fds, (proc / "maps").read_text(), status

    def is_as(self, before):
        assert self.popen.poll() is None
        try:    # it goes back to sleep first
            wait_for(lambda: self.state() == before, 5, "back to its old state")
        except Failure:
            assert self.state() == before

    def end(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.popen.kill()
        self.popen.wait(timeout=20)
        if (self.images.parent / "attr").exists():  # else it could not be removed
            subprocess.run(["chattr", "-i", "-a", self.images.parent / "attr"], check=True)


@pytest.fixture
def start(tmp_path):
    made = []

    def make(program):
        made.append(Process(program, tmp_path))
        return made[-1]
    yield make
    for p in made:
        p.end()


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_by_name_and_nothing_changes(start, case):
    program, what, remedy, options = CASES[case]
    p = start(program)
    before = p.state()
    done = cr("dump", p.images, "-t", str(p.pid), *options)
    assert done.returncode != 0
    line = next((x for x in done.log.splitlines() if what in x), "")
    assert line, done.log
    assert remedy in line
    assert str(p.pid) in line and "python3" in line and "fd " in line, line
    p.is_as(before)


# name: (program, what the message must say, the remedy)
DISPATCH = """
if libc.ptrace(0x4211, os.getppid(), 32, room) < 0 and ctypes.get_errno() == errno.EIO:
    print("SKIP no PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG (Linux 6.4)", flush=True)
    sys.exit(0)
selector = ctypes.create_string_buffer(b"\\1")
call(157, 59, 1, ctypes.c_long(4096), ctypes.c_long((1 << 47) - 8192), selector)
"""
# Of a thread that is not the main one; that goes on without.
LANDLOCK = """
import threading, time
if not os.path.exists("/sys/kernel/btf/vmlinux"):
    print("SKIP no CONFIG_DEBUG_INFO_BTF", flush=True); sys.exit(0)
if libc.syscall(444, None, 0, 1) < 0:
    print("SKIP no Landlock (CONFIG_SECURITY_LANDLOCK, lsm=)", flush=True); sys.exit(0)
entered = threading.Event()
def confined():
    fd = call(444, ctypes.byref(ctypes.c_uint64(1)), 8, 0)
    call(157, 38, 1, 0, 0, 0); call(446, fd, 0)
    os.close(fd); entered.set(); time.sleep(1e6)
threading.Thread(target=confined, daemon=True).start(); entered.wait()
"""
STATE = {
    "Landlock domain": (LANDLOCK, "is in a Landlock domain", "let it run without"),
    "deadline scheduling": (
        'call(314, 0, ctypes.create_string_buffer(struct.pack("IIQiIQQQII", 56, 6, 0, 0, 0, 10**7, 3 * 10**7,'
        " 3 * 10**7, 0, 0)), 0)", "SCHED_DEADLINE", "chrt"),
    "many timers": ("for _ in range(1025):\n    call(222, 0, None, room)",
                    "1025 POSIX timers, more than 1024", "delete timers"),
    "a segment of its own": ('call(154, 1, struct.pack("4I", 3, 0x1000, 0xfffff, 0x51), 16)',
                             "has a local descriptor table", "64-bit build"),
    # All calls pass by their place, so the program goes on; also those of the vDSO, where the clock takes some.
    "dispatched system calls": (DISPATCH, "does not let system calls through", "try again"),
}


@pytest.mark.parametrize("case", STATE)
def test_a_state_that_cannot_be_kept_is_refused_by_name(start, case):
    program, what, remedy = STATE[case]
    p = start(program)
    before = p.state()
    done = cr("dump", p.images, "-t", str(p.pid))
    assert done.returncode != 0
    line = next((x for x in done.log.splitlines() if what in x), "")
    assert line and remedy in line and str(p.pid) in line and "python3" in line, done.log
    p.is_as(before)


def test_check_names_every_obstacle_in_one_pass_and_writes_nothing(start):
    # Of its scheduling, its memory and its descriptors: what is found first hides nothing.
    # SCHED_DEADLINE wants all processors.
    p = start("os.sched_setaffinity(0, range(os.cpu_count())); call(323, 0); "
              "call(314, 0, struct.pack('IIQiIQQQ', 48, 6, 0, 0, 0, 1 << 20, 1 << 24, 1 << 24), 0); "
              f"perf = call(298, ctypes.create_string_buffer({PERF}), 0, -1, -1, 0); "
              "ring = mmap.mmap(perf, 8192)")
    before = p.state()
    done = cr("check", p.images, "-t", str(p.pid))
    text = done.stdout + done.stderr + done.log
    assert done.returncode != 0
    for what in ("userfaultfd", "SCHED_DEADLINE", "memory at 0x.*perf",
                 "performance counter"):
        assert re.search(what, text), text
    p.is_as(before)
    assert [x.name for x in p.images.iterdir() if x.suffix == ".img"] == []


@pytest.mark.parametrize("kind, program", [
    ("inotify", "group = libc.inotify_init(); libc.inotify_add_watch(group, b'.', 0x100); open('made', 'w').close()"),
    ("fanotify", FANOTIFY + "group(0, 0x20); open('x').close()"),
])
def test_unread_events_are_lost_with_a_warning(start, kind, program):
    p = start(program)
    before = p.state()
    done = cr("dump", p.images, "-R", "-t", str(p.pid))
    assert done.returncode == 0, done.log
    assert re.search(rf"Warn: .*{p.pid} .*fd \d+: {kind}: \d+ bytes of unread events are not saved", done.log), done.log
    p.is_as(before)


def test_a_failed_dump_takes_its_hard_links_away(start):
    p = start("fd = os.open('a', os.O_CREAT | os.O_RDWR); os.link('a', 'b'); os.unlink('a'); "
              "call(323, 0)")
    names = sorted(os.listdir(p.images.parent))
    done = cr("dump", p.images, "-t", str(p.pid), "--link-remap")
    assert done.returncode != 0
    assert sorted(os.listdir(p.images.parent)) == names

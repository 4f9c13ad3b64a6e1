"""io_uring: programs that have a ring for each thread; what of a ring cannot come back is refused."""

import errno
import os
import re
import signal
import subprocess

import pytest

from live import CR, cr_check, start_python, stop_python

pytestmark = pytest.mark.may_lack

RINGS = """
import mmap, struct, threading

def must(result):
    return result if result >= 0 else -ctypes.get_errno()

def ring(flags):
    room = ctypes.create_string_buffer(512)
    struct.pack_into("I", room, 8, flags)
    fd = must(libc.syscall(425, 4, room))
    if fd >= 0:
        keep.append((mmap.mmap(fd, 4096, offset=0), mmap.mmap(fd, 4096, offset=0x10000000)))
    return fd

keep = []
SINGLE_ISSUER = 1 << 12
"""


@pytest.fixture
def program():
    started = []

    def start(code):
        p, (fd, *children) = start_python(RINGS + code + "\ntime.sleep(1e6)")
        started.append((p, children))
        # Disabled (/proc/sys/kernel/io_uring_disabled), or older than a flag.
        if -fd in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            pytest.skip(f"the kernel has no io_uring, or is older than this sort of it: {os.strerror(-fd)}")
        assert fd >= 0, os.strerror(-fd)
        return p
    yield start
    for p, children in started:
        for child in children:
            os.kill(child, signal.SIGKILL)
        stop_python(p)


def test_many_rings_of_many_threads_are_looked_at_once(program):
    """Each of them for itself would be all descriptors and all threads for each: a blackout of seconds."""
    rings, others = 60, 400
    p = program(f"""
others = [os.open("/dev/null", os.O_RDONLY) for i in range({others})]
made = []

def work():
    fd = ring(SINGLE_ISSUER)
    libc.syscall(427, fd, 2, (ctypes.c_int * 1)(others[0]), 1)
    made.append(fd)
    time.sleep(1e6)

for i in range({rings}):
    threading.Thread(target=work, daemon=True).start()
while len(made) < {rings}:
    time.sleep(0.01)
print(min(made), flush=True)""")
    done = subprocess.run(["strace", "-f", "-c", "-e", "trace=bpf,newfstatat,readlinkat", CR, "check",
                           "-t", str(p.pid)], capture_output=True, text=True, check=False,
                           env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})  # not under strace
    assert done.returncode == 0, done.stdout + done.stderr[-1000:]
    calls = {name: int(n) for n, name in re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+).*?(\w+)$",
                                                    done.stderr, re.M)}
    assert calls["bpf"] < 80 * rings + 3 * others, calls
    assert calls["newfstatat"] < 20 * (rings + others), calls
    assert calls["readlinkat"] < 20 * (rings + others), calls


def test_a_ring_that_its_only_user_has_closed_is_refused(program):
    """A child may still read what is in it, but nobody could enable it again."""
    p = program("""
fd = ring(SINGLE_ISSUER)
child = os.fork()
if child:
    keep.clear()
    fd < 0 or os.close(fd)
    print(fd, child, flush=True)""")
    code, text = cr_check(p.pid)
    assert code == 1 and f"only thread {p.pid} may submit, and its process has closed it" in text, text


def test_a_registered_ring_descriptor_is_refused(program):
    """A call through it would fail after the restore: the table is the thread's, not the ring's."""
    p = program("""
fd = ring(0)
wanted = struct.pack("IIQ", 0xffffffff, 0, max(fd, 0))
if fd >= 0:
    fd = min(fd, must(libc.syscall(427, fd, 20, wanted, 1)))
print(fd, flush=True)""")
    code, text = cr_check(p.pid)
    assert code == 1 and f"thread {p.pid} has registered the descriptor of an io_uring" in text, text

"""Memory that cannot be saved is refused by name, with a remedy, and nothing of it changes."""
import ctypes
import subprocess

import pytest

from live import CR, cr, start_python, stop_python
from test_files_refused import start  # noqa: F401  (a fixture)

pytestmark = pytest.mark.may_lack

AIO = """
ctx = ctypes.c_ulong()
call(206, 8, ctypes.byref(ctx))
"""
# A read-readiness poll (IOCB_CMD_POLL) of a pipe that stays empty.
POLL = AIO + """
r, w = os.pipe()
cb = ctypes.create_string_buffer(struct.pack("<QIIHhIQQqQII", 0, 0, 0, 5, 0, r, 1, 0, 0, 0, 0, 0))
p = ctypes.c_void_p(ctypes.addressof(cb))
call(209, ctx, 1, ctypes.byref(p))
"""

INHERITED = """
pid = os.fork()
if pid == 0:
    signal.pause()
if "[aio]" not in open(f"/proc/{pid}/maps").read():
    print("SKIP a child does not get its parent's ring", flush=True)
    sys.exit(0)
"""

# mlockall(MCL_FUTURE) as nobody, up to the limit.
LOCKED = """
import mmap, resource
resource.setrlimit(resource.RLIMIT_MEMLOCK, (4 << 20, 4 << 20))
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
call(151, 2)
maps = []
try:
    while True:
        maps.append(mmap.mmap(-1, 1 << 18))
except OSError:
    pass
"""

# name: (program, what the message must say, what the remedy must say)
CASES = {
    "AIO request in flight": (POLL, "requests in flight: 1, polls (IOCB_CMD_POLL) among them",
                              "epoll"),
    "AIO ring of the parent": (AIO + INHERITED, "AIO ring of another process", "fork"),
    "locked memory up to the limit": (LOCKED, "RLIMIT_MEMLOCK leaves no room", "LimitMEMLOCK="),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("verb", ["dump", "check"])
def test_it_is_refused_by_name_and_nothing_changes(start, case, verb):  # noqa: F811
    program, what, remedy = CASES[case]
    p = start(program)
    before = p.state()
    done = cr(verb, p.images, "-t", str(p.pid))
    assert done.returncode != 0
    text = done.stdout + done.stderr + done.log
    line = next((x for x in text.splitlines() if what in x), "")
    assert line, text
    assert "python3" in line and "0x" in line, line
    assert remedy in text, text
    p.is_as(before)


TIGHT = """
import resource
room = int(open("/proc/self/statm").read().split()[0]) * 4096 + 65536
resource.setrlimit(resource.RLIMIT_AS, (room, room))
print(os.getpid(), room, flush=True)
time.sleep(1e6)
"""


def test_a_hard_limit_without_room_is_named_by_who_may_not_raise_it():
    p, (pid, room) = start_python(TIGHT)
    try:
        # PR_CAPBSET_DROP, CAP_SYS_RESOURCE
        done = subprocess.run([CR, "check", "-t", str(pid)], capture_output=True, text=True, check=False,
                              preexec_fn=lambda: ctypes.CDLL(None).prctl(24, 24, 0, 0, 0))
        assert done.returncode == 1, done.stderr
        assert f"RLIMIT_AS, {room} bytes, leaves no room" in done.stdout and "--as=" in done.stdout
        with open(f"/proc/{pid}/limits") as f:
            assert f"Max address space {room} {room} bytes" in " ".join(f.read().split())
    finally:
        stop_python(p)

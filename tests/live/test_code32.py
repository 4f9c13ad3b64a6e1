"""32-bit code is refused by name before anything is done to it, be it a program or one thread of a 64-bit one."""
import errno
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from live import cr, wait_for

pytestmark = pytest.mark.may_lack

PAUSE = 29      # pause(2) of 32-bit programs
PAUSE_64 = "34"  # and of the others, as /proc shows it
# mov $29, %eax; int $0x80; jmp back
CODE = bytes((0xb8, PAUSE, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7))
BASE = 0x8048000

# In a thread: a stack below 4 GiB, and a far jump to the segment of 32-bit code.
THREAD = f"""
import ctypes, signal, threading
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
low = libc.mmap(ctypes.c_void_p({BASE}), 8192, 7, 0x32, -1, 0)
assert low == {BASE}
ctypes.memmove(low, bytes.fromhex("bcf09f0408ff2c2500810408"), 12)
ctypes.memmove(low + 0x100, bytes.fromhex("00820408" "2300"), 6)
ctypes.memmove(low + 0x200, {CODE!r}, {len(CODE)})
threading.Thread(target=ctypes.CFUNCTYPE(None)(low), daemon=True).start()
signal.pause()
"""


def program(path):
    header = b"\x7fELF\1\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIIIIIHHHHHH", 2, 3, 1, BASE + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    size = len(header) + 32 + len(CODE)
    path.write_bytes(header + struct.pack("<8I", 1, 0, BASE, BASE, size, size, 5, 4096) + CODE)
    path.chmod(0o755)
    return [path]


def start(argv):
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


@pytest.fixture
def pause32(tmp_path):
    """A program of 32 bits. Without such programs a kernel has no segment for such threads either."""
    argv = program(tmp_path / "pause32")
    try:
        p = start(argv)
    except OSError as e:
        assert e.errno == errno.ENOEXEC
        pytest.skip("the kernel runs no 32-bit programs (CONFIG_IA32_EMULATION)")
    p.kill()
    p.wait(20)
    return argv


def calls(pid):
    """The system calls that its threads wait in, by thread."""
    return {t.name: (t / "syscall").read_text().split()[0] for t in Path(f"/proc/{pid}/task").iterdir()}


@pytest.mark.parametrize("what", ["program", "thread"])
@pytest.mark.parametrize("verb", ["check", "dump", "pre-dump"])
def test_32_bit_code_is_refused_by_name_and_goes_on(what, verb, pause32, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    p = start(pause32 if what == "program" else [sys.executable, "-c", THREAD])
    try:
        def waits():
            found = set(calls(p.pid).values()) if p.poll() is None else set()
            return str(PAUSE) in found and found <= {str(PAUSE), PAUSE_64}
        wait_for(waits, 20, "it waits in 32-bit code")
        before = calls(p.pid)
        tid = next(t for t, nr in before.items() if nr == str(PAUSE))
        done = cr(verb, images, "-t", str(p.pid))
        text = done.stdout + done.stderr + done.log
        assert done.returncode == 1
        assert f"process {p.pid} (" in text and f"thread {tid}: it runs 32-bit code" in text, text
        assert "run a 64-bit build" in text, text
        wait_for(lambda: p.poll() is not None or calls(p.pid) == before, 20, "it waits again")
        assert p.poll() is None
        assert not list(images.glob("*.img"))
    finally:
        p.kill()
        p.wait(20)

"""How a dump has threads make its calls: where there is little room for it, and where some of its own are denied."""
import re
import struct
from pathlib import Path

import pytest

from live import CR, Maker, check, cr, run_reaping

FIRST_LOAD = 64     # behind the ELF header
MEMORY_SIZE = FIRST_LOAD + 40


class Vdso:
    """A process's, whose first segment may be made longer: a dump takes the room behind it."""
    def __init__(self, pid):
        start, end = re.search(r"^(\w+)-(\w+) .*\[vdso\]$", Path(f"/proc/{pid}/maps").read_text(), re.M).groups()
        self.mem = open(f"/proc/{pid}/mem", "r+b", buffering=0)
        self.start, self.size = int(start, 16), int(end, 16) - int(start, 16)
        self.mem.seek(self.start)
        head = self.mem.read(MEMORY_SIZE + 8)
        assert head[:4] == b"\x7fELF" and struct.unpack_from("<Q", head, 32)[0] == FIRST_LOAD
        assert struct.unpack_from("<I", head, FIRST_LOAD)[0] == 1, "no segment to be loaded"
        self.was = struct.unpack_from("<Q", head, MEMORY_SIZE)[0]

    def set_size(self, size):
        self.mem.seek(self.start + MEMORY_SIZE)
        self.mem.write(struct.pack("<Q", size))

    def leave_room(self, room):
        self.set_size(self.size - room)

    def restore(self):
        self.set_size(self.was)
        self.mem.close()


def least_room(m, vdso):
    """With less the dump is refused: it is that of one thread at a time."""
    too_little, enough = 0, 2048
    while enough - too_little > 16:
        room = (too_little + enough) // 32 * 16
        vdso.leave_room(room)
        done = cr("dump", m.images, "-R", "-t", str(m.pid))
        if done.returncode:
            assert "has no room for a stub" in done.log, done.log
            too_little = room
        else:
            enough = room
    return enough


@pytest.mark.parametrize("name", ["threads", "killed"])
def test_threads_take_turns_where_there_is_room_for_one_at_a_time(tmp_path, name):
    m = Maker(name, tmp_path)
    try:
        m.start()
        vdso = Vdso(m.pid)
        assert vdso.size - vdso.was > 1024
        room = least_room(m, vdso)
        assert 64 < room < 1024
        vdso.leave_room(room)
        m.dump("--leave-running")
        vdso.restore()
        m.verify()
    finally:
        m.end()


# What a container's filter may say: process_vm_readv(2) and process_vm_writev(2) fail so.
DENY = """
import ctypes, os, struct, sys
code = 0x50000 | {errno}
insns = [(0x20, 0, 0, 0), (0x15, 1, 0, 310), (0x15, 0, 1, 311), (0x06, 0, 0, code), (0x06, 0, 0, 0x7fff0000)]
text = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *i) for i in insns))
prog = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(insns), ctypes.addressof(text)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(317, 1, 0, prog):
    sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("errno", [1, 38], ids=["EPERM", "ENOSYS"])
def test_memory_goes_by_proc_where_the_call_for_it_is_denied(tmp_path, errno):
    m = Maker("threads", tmp_path)
    try:
        m.start()
        check(run_reaping(["/usr/bin/python3", "-c", DENY.format(errno=errno), CR, "dump", "-D", m.images, "-t",
                           str(m.pid)], 60), "dump")
        m.reap()
        m.restore()
        m.verify()
    finally:
        m.end()

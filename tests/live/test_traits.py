"""Traits of a thread that it may no longer ask for."""
import errno
import os
import re
import subprocess
from pathlib import Path

import pytest

from live import check, cr, kill, wait_for, wait_in_call
from sockets_common import target  # noqa: F401 (fixture)

IO_FLUSHER = 0x180000       # of the flags in /proc/PID/stat
# prctl(PR_SET_IO_FLUSHER), which takes CAP_SYS_RESOURCE, and then no capabilities.
DROPS = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
with open(READY, "w") as f:
    f.write(str(ctypes.get_errno()) if libc.prctl(57, 1, 0, 0, 0) else "ready")
os.setresuid(65534, 65534, 65534)
signal.pause()
"""
PAUSE = 34


def flags_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6])


@pytest.mark.may_lack
def test_a_thread_without_capabilities_stays_what_it_asked_to_be(target, tmp_path):
    ready, images = tmp_path / "ready", tmp_path / "images"
    images.mkdir()
    p = target(DROPS.replace("READY", repr(str(ready))), stdout=subprocess.DEVNULL)
    wait_in_call(p.pid, PAUSE)
    told = ready.read_text()
    if told in (str(errno.EPERM), str(errno.EINVAL)):
        pytest.skip(f"prctl(PR_SET_IO_FLUSHER): {os.strerror(int(told))}")
    assert told == "ready"
    assert flags_of(p.pid) & IO_FLUSHER == IO_FLUSHER
    assert re.search(r"CapEff:\s*0+$", Path(f"/proc/{p.pid}/status").read_text(), re.M)
    check(cr("dump", images, "-t", str(p.pid)), "dump")
    p.wait()
    check(cr("restore", images, "-d"), "restore")
    try:
        wait_for(lambda: flags_of(p.pid) & IO_FLUSHER == IO_FLUSHER, 5, "an I/O flusher")
    finally:
        kill(p.pid)

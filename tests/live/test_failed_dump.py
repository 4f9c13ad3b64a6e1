"""A dump that fails leaves every kind as it was: in the middle of it, and when all is done."""
import os
import subprocess
import time

import pytest

from cr_common import CHANGES_BY_ITSELF
from live import cr, maker_options
from test_makers import NAMES, maker, params  # noqa: F401 (fixture)

# Of a bigger tree not every process is looked at.
LOOK_AT = 100


@pytest.fixture
def full(tmp_path):
    """A directory that has room for a few images only."""
    path = tmp_path / "full"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def text(path):
    """Of a process that has ended most cannot be read, in one way."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return CHANGES_BY_ITSELF.sub("", f.read())
    except OSError as e:
        return str(e)


def listed(path):
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def link(path):
    try:
        return os.readlink(path)
    except OSError as e:
        return str(e)


def tree_of(pid):
    pids = [pid]
    for p in pids:
        for t in listed(f"/proc/{p}/task"):
            children = text(f"/proc/{p}/task/{t}/children")
            pids += map(int, children.split()) if children.replace(" ", "").isdigit() else []
    return pids


def snapshot(pid):
    """What of a tree can be seen, by where it is seen."""
    seen = {}
    pids = tree_of(pid)
    seen["tree"] = pids
    for p in pids[::1 + len(pids) // LOOK_AT]:
        seen[p, "maps"] = text(f"/proc/{p}/maps")
        for t in listed(f"/proc/{p}/task"):
            seen[p, t] = text(f"/proc/{p}/task/{t}/status")
        for fd in listed(f"/proc/{p}/fd"):
            seen[p, "fd", fd] = link(f"/proc/{p}/fd/{fd}") + "\n" + text(f"/proc/{p}/fdinfo/{fd}")
    return seen


def differences(a, b, but=()):
    """Where, and which lines."""
    def lines(of, k):
        return set(str(of.get(k)).splitlines())
    return {k: lines(a, k) ^ lines(b, k) for k in a.keys() | b.keys() if a.get(k) != b.get(k) and k not in but}


def settled(ask):
    """What it says at last: all threads go on in the calls that they were in, on their own time."""
    end = time.monotonic() + 10
    while (said := ask()) and time.monotonic() < end:
        time.sleep(0.05)
    return said


@pytest.mark.parametrize("maker", params(NAMES), indirect=True)
def test_a_dump_that_fails_changes_nothing(maker, full, tmp_path):
    fails = tmp_path / "fails"
    fails.write_text('#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-dump ]\n')
    fails.chmod(0o755)
    maker.start()
    options = "-t", str(maker.pid), *maker_options(maker.name)
    time.sleep(0.2)     # timers that have just been set
    before = snapshot(maker.pid)
    # What the program itself does meanwhile.
    moving = differences(before, snapshot(maker.pid))
    for directory, more, said in ((full, (), "No space left"), (tmp_path / "whole", ("--action-script", fails), "post-dump")):
        directory.mkdir(exist_ok=True)
        done = cr("dump", directory, *options, *more)
        assert done.returncode and said in done.log, done.log[-1500:]
        changed = settled(lambda: differences(before, snapshot(maker.pid), moving))
        assert not changed, changed
    maker.verify()

"""Mounts that the host does not have when a tree comes back: left out where the tree has merely inherited them
and the host's come by themselves, missed by name where not; never mistaken for the directory below them.
"""

import os
import signal
import subprocess
import sys

import pytest

from live import cr, reap_orphans

PRELUDE = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
SLAVE, PRIVATE, BIND = 0x84000, 0x44000, 0x1000
def mount(what, at, fstype, flags=0):
    if libc.mount(what.encode(), at.encode(), fstype.encode(), flags, None):
        raise OSError(ctypes.get_errno(), at)
os.setsid()
if libc.unshare(0x20000):
    raise OSError(ctypes.get_errno(), "unshare")
"""


def sh(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{argv}: {done.stderr}"
    return done.stdout


class Host:
    """A shared mount, and on it one that comes late: an overlay, which is no memory of its own."""

    def __init__(self, place):
        self.top, self.layers = place / "top", place / "layers"
        self.late, self.other = self.top / "late", self.top / "other"
        for at in (self.top, self.layers):
            at.mkdir()
            sh("mount", "-t", "tmpfs", "crk-late", at)
        sh("mount", "--make-shared", self.top)
        for name in ("lower/dir", "upper", "work"):
            (self.layers / name).mkdir(parents=True)
        (self.layers / "lower" / "file").write_text("of the mount")
        (self.layers / "lower" / "dir" / "inside").write_text("inside")
        self.other.mkdir()
        # Below the mount: what must not be taken for it.
        (self.late / "dir").mkdir(parents=True)
        (self.late / "file").write_text("of the directory")
        self.mount()

    def mount(self):
        sh("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={self.layers}/lower,"
           f"upperdir={self.layers}/upper,workdir={self.layers}/work", self.late)

    def umount(self):
        sh("umount", self.late)

    def bind(self):
        sh("mount", "--bind", self.late / "dir", self.other)

    def unbind(self):
        sh("umount", self.other)

    def end(self):
        for at in (self.top, self.layers):
            sh("umount", "-R", at)


class Tree:
    def __init__(self, place, text):
        self.images = place / "images"
        self.images.mkdir()
        self.p = subprocess.Popen([sys.executable, "-c", f"{PRELUDE}{text}\nprint('ready', flush=True)\n"
                                   "time.sleep(1e6)"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  cwd="/")
        assert self.p.stdout.readline() == b"ready\n"
        self.restored = False

    def dump(self):
        done = cr("dump", self.images, "-t", str(self.p.pid))
        assert done.returncode == 0, done.log[-2000:]
        self.p.wait()

    def restore(self):
        done = cr("restore", self.images, "-d")
        self.restored = done.returncode == 0
        return done

    def away(self, host):
        """Dumped; the host's mount is gone when it is restored."""
        self.dump()
        host.umount()
        return self.restore()

    def read(self, path):
        return sh("nsenter", "-m", "-t", str(self.p.pid), "cat", path)

    def end(self):
        if self.restored:
            os.kill(self.p.pid, signal.SIGKILL)
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()
        reap_orphans()


@pytest.fixture
def host(tmp_path):
    h = Host(tmp_path)
    yield h
    h.end()


@pytest.fixture
def start(tmp_path):
    trees = []

    def make(text):
        trees.append(Tree(tmp_path, text))
        return trees[-1]

    yield make
    for t in trees:
        t.end()


def test_it_comes_when_the_host_mounts_it(host, start):
    tree = start('mount("", "/", "", SLAVE)')
    done = tree.away(host)
    assert done.returncode == 0, done.log[-2000:]
    assert f"mount {host.late}: the host has no such overlay now, left out" in done.log
    host.mount()
    assert tree.read(host.late / "file") == "of the mount"


def test_what_the_host_has_bound_from_it_comes_too(host, start):
    host.bind()
    tree = start('mount("", "/", "", SLAVE)')
    tree.dump()
    host.unbind()
    host.umount()
    done = tree.restore()
    assert done.returncode == 0, done.log[-2000:]
    assert f"mount {host.other}: the host has no such overlay now, left out" in done.log
    host.mount()
    host.bind()
    assert tree.read(host.other / "inside") == "inside"


def test_what_covers_it_goes_on_covering_what_comes(host, start):
    tree = start(f"""
mount("", "/", "", SLAVE)
mount("cover", "{host.late}", "tmpfs")
open("{host.late}/file", "w").write("of the cover")""")
    done = tree.away(host)
    assert done.returncode == 0, done.log[-2000:]
    assert tree.read(host.late / "file") == "of the cover"
    host.mount()
    assert tree.read(host.late / "file") == "of the cover"


FILES = {
    "directory": 'os.chdir("{late}/dir")',
    "file": 'f = open("{late}/file")',
    "mapping": """
libc.mmap.restype = ctypes.c_long
fd = os.open("{late}/file", os.O_RDONLY)
assert libc.mmap(None, 4096, 1, 2, fd, 0) > 0
os.close(fd)""",
}


@pytest.mark.parametrize("what", FILES)
def test_who_has_files_on_it_does_not_get_those_of_the_directory_below(host, start, what):
    tree = start('mount("", "/", "", SLAVE)\n' + FILES[what].format(late=host.late))
    done = tree.away(host)
    assert done.returncode != 0
    assert f"cannot open {host.late}" in done.log, done.log[-2000:]


MISSED = {
    "bound elsewhere": ('mount("", "/", "", SLAVE)\nmount("{late}/dir", "{other}", "", BIND)',
                        "mount {other}: the host has no overlay mounted at or above {late}/dir"),
    "covered in part": ('mount("", "/", "", SLAVE)\nmount("{late}/dir", "{late}/dir", "", BIND)',
                        "mount {late}/dir: lies on {late}, which the host has not mounted"),
    "cut from the host": ('mount("", "/", "", PRIVATE)',
                          "mount {late}: the host has no overlay mounted at or above {late}"),
}


@pytest.mark.parametrize("how", MISSED)
def test_what_would_be_another_sandbox_is_refused_by_name(host, start, how):
    text, why = (s.format(late=host.late, other=host.other) for s in MISSED[how])
    tree = start(text)
    done = tree.away(host)
    assert done.returncode != 0
    assert why in done.log, done.log[-2000:]

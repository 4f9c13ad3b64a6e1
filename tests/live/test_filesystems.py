"""Files on file systems whose stat(2), mountinfo and file handles say different things: what the makers
have open, mapped, unlinked and watched there comes back.

overlay: inodes have the device and often the number of their layer, handles cannot be opened.
btrfs: each subvolume has a device of its own that mountinfo does not show.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from live import Maker, check, cr, wait_for

MAKERS = ("files_regular", "files_unlinked", "files_link_remap", "files_mntns", "memory", "inotifies",
          "fanotifies", "fifos", "locks", "unix_named")
# A kernel may be without one of them.
pytestmark = pytest.mark.may_lack
SIZE = 320 << 20    # the least that mkfs.xfs takes is 300 MiB


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{argv}: {done.stdout}{done.stderr}"


def loop(place, mkfs, *options):
    kind = mkfs.rpartition(".")[2]
    subprocess.run(["modprobe", "-q", kind], check=False)
    if f"\t{kind}\n" not in Path("/proc/filesystems").read_text():
        pytest.skip(f"this kernel has no {kind}")
    image = place / "image"
    with open(image, "wb") as f:
        f.truncate(SIZE)
    run(mkfs, "-q", *options, image)
    run("mount", "-o", "loop", image, place / "mnt")


def overlay(place):
    layers = place / "layers"
    layers.mkdir()
    run("mount", "-t", "tmpfs", "layers", layers)
    for name in ("lower", "upper", "work"):
        (layers / name).mkdir()
    # What of a maker's is there before: a directory that is merged, and files that are copied up.
    lower = layers / "lower" / "work" / "inotifies" / "result.d"
    (lower / "dir").mkdir(parents=True)
    (lower / "watched").write_text("of the lower layer")
    (layers / "lower" / "work" / "lower").mkdir()
    (layers / "lower" / "work" / "lower" / "file").write_text("of the lower layer")
    run("mount", "-t", "overlay", "overlay", "-o",
        f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work", place / "mnt")
    return place / "mnt" / "work"


def btrfs(place):
    loop(place, "mkfs.btrfs")
    run("btrfs", "subvolume", "create", place / "mnt" / "sub")
    return place / "mnt" / "sub"


def xfs(place):
    loop(place, "mkfs.xfs")
    return place / "mnt" / "dir"


def tmpfs(place):
    run("mount", "-t", "tmpfs", "files", place / "mnt")
    return place / "mnt" / "dir"


FILE_SYSTEMS = {f.__name__: f for f in (overlay, btrfs, xfs, tmpfs)}


@pytest.fixture(scope="module", params=FILE_SYSTEMS)
def directory(request):
    place = Path(tempfile.mkdtemp(prefix="crk-fs-"))
    (place / "mnt").mkdir()
    try:
        work = FILE_SYSTEMS[request.param](place)
        work.mkdir(exist_ok=True)
        yield work
    finally:
        for name in ("mnt", "layers"):
            if (place / name).is_mount():
                run("umount", "-l", place / name)
        shutil.rmtree(place)


@pytest.fixture
def maker(request, directory):
    here = directory / request.param
    here.mkdir(exist_ok=True)
    m = Maker(request.param, here)
    yield m
    m.end()
    shutil.rmtree(here)


@pytest.mark.parametrize("maker", MAKERS, indirect=True)
def test_what_a_maker_has_there_comes_back(maker):
    maker.start()
    maker.dump()
    maker.reap()
    maker.restore()
    maker.verify()


@pytest.mark.parametrize("directory", ["btrfs", "xfs"], indirect=True)
@pytest.mark.parametrize("maker", ["inotifies", "fanotifies"], indirect=True)
def test_watches_come_back_though_the_kernel_has_forgotten_the_names(directory, maker):
    maker.start()
    run("mount", "-o", "remount", directory.parent)     # drops what is cached of it
    maker.dump()
    maker.reap()
    maker.restore()
    maker.verify()


WATCHER = """
import fcntl, signal, sys
def must(r):
    assert r >= 0, ctypes.get_errno()
    return r
os.chdir(sys.argv[1])
text = open("file")
assert text.read(3) == "of "
group = must(libc.inotify_init1(0o4000))
watch = must(libc.inotify_add_watch(group, b"file", 2))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print(os.getpid(), flush=True)
signal.sigwait({signal.SIGUSR1})
try:
    print("unread", os.read(group, 64))
except BlockingIOError:
    pass
print(text.read())
with open("file", "a") as f:
    f.write("!")
print("modified", os.read(group, 64)[:8] == bytes([watch, 0, 0, 0, 2, 0, 0, 0]), flush=True)
"""


@pytest.mark.parametrize("directory", ["overlay"], indirect=True)
def test_a_file_of_overlays_lower_layer_stays_open_and_watched(directory, tmp_path):
    output = tmp_path / "output"
    with open(output, "w") as out:
        p = subprocess.Popen([sys.executable, "-c", "import ctypes, os\n"
                              "libc = ctypes.CDLL(None, use_errno=True)\nos.setsid()\n" + WATCHER,
                              directory / "lower"], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        wait_for(lambda: output.read_text() or p.poll() is not None, 20, "ready")
        assert output.read_text() == f"{p.pid}\n"
        check(cr("dump", tmp_path, "-t", str(p.pid)), "dump")
    finally:
        p.kill()
        p.wait()
    check(cr("restore", tmp_path, "-d"), "restore")
    os.kill(p.pid, signal.SIGUSR1)
    wait_for(lambda: "modified" in output.read_text() or not Path(f"/proc/{p.pid}").exists(), 20, "its end")
    assert output.read_text().splitlines()[1:] == ["the lower layer", "modified True"]

"""What the page images hold: pages shared by copy-on-write once, chains of dumps."""
import ctypes
import mmap
import os
import select
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from live import CR, Maker, check, cr, proc_state, wait_for


@pytest.fixture
def maker(request, tmp_path):
    m = Maker(request.param, tmp_path)
    yield m
    m.end()


def page_bytes(images):
    return sum(f.stat().st_size for f in images.rglob("pages-*.img"))


@pytest.mark.parametrize("maker", ["cow"], indirect=True)
def test_pages_of_a_family_are_saved_once(maker):
    maker.start()
    maker.dump()
    # 2 MiB of the parent and of its child, 1 MiB of the child; a little of everyone.
    assert page_bytes(maker.images) < 6 << 20
    assert page_bytes(maker.images / "shared") > 3 << 20
    assert (maker.images / "parent").readlink().name == "shared"
    maker.reap()
    # Moved as a whole, as a store or an archive does it.
    moved = maker.dir / "moved"
    shutil.copytree(maker.images, moved, symlinks=True)
    shutil.rmtree(maker.images)
    moved.rename(maker.images)
    maker.restore()
    maker.verify()


@pytest.mark.parametrize("maker", ["cow"], indirect=True)
def test_a_dump_to_the_same_directory_replaces_the_shared_pages(maker):
    maker.start()
    maker.dump("--leave-running")
    stale = maker.images / "shared" / "pagemap-1.img"
    stale.write_bytes(b"stale")
    maker.dump()
    assert not stale.exists()
    maker.reap()
    maker.restore()
    maker.verify()


@pytest.mark.parametrize("maker", ["cow"], indirect=True)
def test_a_parent_that_leads_nowhere_is_left_alone(maker):
    (maker.images / "parent").symlink_to("../gone")
    maker.start()
    maker.dump()
    assert (maker.images / "parent").is_symlink() and not (maker.images / "shared").exists()
    maker.reap()
    maker.restore()
    maker.verify()


@pytest.mark.parametrize("maker", ["cow"], indirect=True)
def test_a_damaged_or_missing_shared_page_map_is_refused_by_name(maker):
    maker.start()
    maker.dump()
    maker.reap()
    for f in (maker.images / "shared").glob("pagemap-*.img"):
        f.write_bytes(f.read_bytes()[:-3])
    done = cr("restore", maker.images, "-d")
    assert done.returncode == 1 and "pagemap-" in done.log and "the end of the file" in done.log
    (maker.images / "parent").unlink()
    done = cr("restore", maker.images, "-d")
    assert done.returncode == 1 and "parent images" in done.log
    shutil.rmtree(maker.images / "shared")
    done = cr("restore", maker.images, "-d")
    assert done.returncode == 1 and "image shared/pag" in done.log and "is missing" in done.log
    assert not maker.alive()


def generation(maker, n):
    os.kill(maker.pid, signal.SIGUSR2)
    wait_for(lambda: f"generation {n}\n" in maker.read(), 10, f"generation {n}")


def next_tick():
    """Who was started in the clock tick of a dump could have another's pid: it is saved whole again."""
    time.sleep(2 / os.sysconf("SC_CLK_TCK"))


def pre_dump(maker, name, *options):
    where = maker.dir / name
    where.mkdir()
    check(cr("pre-dump", where, "-t", str(maker.pid), *options), "pre-dump")
    return where


@pytest.mark.parametrize("maker", ["rounds"], indirect=True)
@pytest.mark.parametrize("dedup", [False, True])
def test_a_chain_of_pre_dumps_saves_what_changed_and_restores_all(maker, dedup):
    extra = ["--auto-dedup"] if dedup else []
    maker.start()
    next_tick()
    first = pre_dump(maker, "first")
    assert page_bytes(first) > 4 << 20
    generation(maker, 1)
    next_tick()
    second = pre_dump(maker, "second", "--prev-images-dir", "../first", *extra)
    generation(maker, 2)
    used = sum(f.stat().st_blocks for f in first.glob("pages-*"))
    maker.dump("--prev-images-dir", "../second", *extra)
    # The new child is saved whole once; then only what changes.
    assert page_bytes(second) < page_bytes(first) * 3 // 2
    assert page_bytes(maker.images) < page_bytes(second) // 4
    if dedup:
        assert sum(f.stat().st_blocks for f in first.glob("pages-*")) < used
    maker.reap()
    maker.restore(*extra)
    maker.verify()
    if dedup:
        # One page of shared memory stays.
        assert sum(f.stat().st_blocks for f in maker.images.glob("pages-*")) <= 8


@pytest.mark.parametrize("maker", ["rounds"], indirect=True)
def test_dumps_that_leave_it_running_are_a_chain_too(maker):
    maker.start()
    before = maker.dir / "before"
    before.mkdir()
    check(cr("dump", before, "-t", str(maker.pid), "-R", "--track-mem"), "dump")
    generation(maker, 1)
    maker.dump("--prev-images-dir", "../before")
    maker.reap()
    maker.restore()
    maker.verify()


@pytest.mark.parametrize("maker", ["rounds"], indirect=True)
def test_without_tracking_or_from_another_round_everything_is_saved(maker):
    maker.start()
    first = pre_dump(maker, "first")
    generation(maker, 1)
    pre_dump(maker, "second", "--prev-images-dir", "../first")
    generation(maker, 2)
    # Not the round before: its pages are too old.
    maker.dump("--prev-images-dir", "../first")
    assert page_bytes(maker.images) > page_bytes(first)
    maker.reap()
    shutil.rmtree(first)
    maker.restore()
    maker.verify()


def has_soft_dirty_bits():
    """Bit 55 of a page that was just written, in /proc/PID/pagemap."""
    with mmap.mmap(-1, mmap.PAGESIZE) as page, open("/proc/self/pagemap", "rb", buffering=0) as f:
        page[0] = 1
        at = ctypes.c_char.from_buffer(page)
        f.seek(ctypes.addressof(at) // mmap.PAGESIZE * 8)
        bits, = struct.unpack("Q", f.read(8))
        del at
    return bool(bits >> 55 & 1)


def keepers():
    """What pre-dumps have left behind: orphans, thus ours."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {pid for pid in pids if proc_state(pid) not in (None, "Z")
            and Path(f"/proc/{pid}/comm").read_text() == "cr-track\n"}


@pytest.mark.parametrize("maker", ["rounds"], indirect=True)
def test_what_keeps_the_tracking_is_the_kernel_or_a_process_that_ends_with_the_tree(maker):
    maker.start()
    before = keepers()
    socket = pre_dump(maker, "first") / "cr-track.sock"
    # Soft-dirty bits are the process's own, a userfaultfd somebody must hold.
    kept = 0 if has_soft_dirty_bits() else 1
    assert socket.exists() == bool(kept)
    # It has its name a moment after its parent has ended.
    wait_for(lambda: len(keepers() - before) == kept, 10, f"{kept} of them")
    maker.end()
    wait_for(lambda: not keepers() - before and not socket.exists(), 10, "the keeper's end")


@pytest.mark.parametrize("maker", ["rounds"], indirect=True)
def test_what_keeps_the_tracking_keeps_nothing_of_its_caller(maker):
    maker.start()
    where = maker.dir / "first"
    where.mkdir()
    r, w = os.pipe()
    subprocess.run([CR, "pre-dump", "-D", where, "-t", str(maker.pid)], pass_fds=[w], check=True, timeout=60)
    os.close(w)
    # Its end, though the keeper lives, which may be slower than its parent.
    assert select.select([r], [], [], 60)[0] and os.read(r, 1) == b""
    os.close(r)


def test_a_chain_that_cannot_be_is_refused(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    with subprocess.Popen(["sleep", "1000"]) as p:
        for parent, words in ("../absent", "../absent"), (".", "previous images"):
            done = cr("pre-dump", images, "-t", str(p.pid), "--prev-images-dir", parent)
            assert done.returncode == 1 and words in done.log
        p.kill()

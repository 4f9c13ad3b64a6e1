"""The pmem store without an engine: memory of one kernel read by the next, and given back.

tests/vm/store_probe.c takes and fills the memory as crkexec does, store_probe_early.c reads it
as PID 1 of our own initramfs.  One VM goes through all of it, in this order.
"""

import re
import subprocess
import time

import pytest

import vm_image
from upgrade import wait_for
from vm import VM

TEST = vm_image.ROOT / "build" / "test"
PROBE = "/root/probe/store-probe"
MIB = 256


@pytest.fixture(scope="module")
def guest(image):
    subprocess.run(["make", "-s", "-C", vm_image.ROOT, "storeprobes"], check=True)
    with VM("test_store_pmem/shared", image=image, memory="2G") as vm:
        vm.wait_idle()
        vm.put(TEST / "store-probe", PROBE)
        vm.put(TEST / "store-probe-early", "/root/probe/crkexec-early")
        yield vm


def command(vm, mode, mib, series, more=""):
    version = vm.image.versions[series]
    wanted = ["virtio_blk"] + (["nd_pmem", "nd_e820"] if mode == "bind" else [])
    listed = vm.run("".join(f"modprobe -S {version} --show-depends {m};" for m in wanted)).out
    modules = dict.fromkeys(line.split()[1] for line in listed.splitlines()
                            if line.startswith("insmod"))
    return f"{PROBE} {mode} {mib} {version} {' '.join(modules)} {more}"


def probe(vm, mode, mib=MIB, series="7.2", more=""):
    """A mode that ends in this kernel: exit status and output."""
    result = vm.run(command(vm, mode, mib, series, more), timeout=180, check=False)
    return result.rc, result.out + result.err


def jump(vm, mode, series, mib=MIB):
    """A mode that ends in the other kernel: what both sides said."""
    vm.run("rm -rf /root/kept-*")
    hello = vm.run_until_restart(f"{command(vm, mode, mib, series)} >/root/probe.log 2>&1;"
                                 " cat /root/probe.log; exit 1", timeout=240)
    assert hello["kernel"] == vm.image.versions[series]
    said = vm.run("cat /root/probe.log").out
    told = [line.split("store-probe: ")[1] for line in vm.run("dmesg").out.splitlines()
            if "store-probe: " in line]
    return said, told


def meminfo(vm, key):
    return int(re.search(rf"^{key}:\s+(\d+)", vm.run("cat /proc/meminfo").out, re.M)[1])


def assert_untouched(vm):
    """No page is held, no kernel loaded, nothing left to undo."""
    assert meminfo(vm, "HugePages_Total") == 0
    assert vm.run("cat /sys/kernel/kexec_loaded").out == "0\n"
    assert vm.run("cat /run/undo").out == ""


def wait_given_back(vm, ranges, seconds=120):
    """Until the drivers have added all ranges to the system."""
    deadline = time.monotonic() + seconds
    while True:
        iomem = vm.run("cat /proc/iomem").out
        back = sum(int(b, 16) - int(a, 16) + 1 for a, b in
                   re.findall(r"([0-9a-f]+)-([0-9a-f]+) : System RAM \(kmem\)", iomem))
        if back == sum(ranges):
            return
        assert time.monotonic() < deadline, f"{back >> 20} MiB are back of {ranges}\n{iomem}"
        time.sleep(2)


def taken(said):
    """Sizes of the ranges on the command line, in bytes."""
    return [int(m) << 20 for m in re.findall(r"[=,](\d+)M!0x", said)]


def test_store_that_is_too_large_is_refused_with_the_numbers(guest):
    rc, out = probe(guest, "plan", 100_000)
    assert rc != 0
    assert re.search(r"refused: 10\d{4} MiB are needed for the images and \d+ MiB for the kernel "
                     r"to be loaded and for the others meanwhile, 1\d{3} MiB are available", out)
    assert_untouched(guest)


def test_all_is_given_back_when_the_jump_does_not_happen(guest):
    before = meminfo(guest, "MemAvailable")
    rc, out = probe(guest, "undo")
    assert rc == 0, out
    assert "committed" in out and "given back later: 1" in out
    assert_untouched(guest)
    # Freed pages stay on the processors' own lists, not counted as free, for some seconds.
    wait_for(lambda: meminfo(guest, "MemAvailable") > before - (64 << 10), 60,
             f"nearly all of {before} KiB are available again")


def test_huge_pages_of_others_stay_theirs(guest):
    guest.run("echo 20 >/proc/sys/vm/nr_hugepages")
    try:
        rc, out = probe(guest, "undo")
        assert rc == 0, out
        assert meminfo(guest, "HugePages_Total") == meminfo(guest, "HugePages_Free") == 20
    finally:
        guest.run("echo 0 >/proc/sys/vm/nr_hugepages")


def test_images_that_outgrow_their_estimate_fail_with_the_numbers(guest):
    rc, out = probe(guest, "full")
    assert rc != 0
    assert re.search(r"the image store is full: \d+ of \d+ bytes used, \d+ more needed", out)
    assert_untouched(guest)


def test_page_that_moved_is_found_before_the_jump(guest):
    rc, out = probe(guest, "moved")
    assert rc != 0
    assert re.search(r"a page of the store was moved from 0x[0-9a-f]+ to 0x[0-9a-f]+", out)
    assert_untouched(guest)


def test_store_where_kexec_loads_to_is_refused_naming_both(guest):
    # The top of a small guest's memory is the kernel's own: a large initramfs reaches further. How far
    # down the highest huge page is, is not the same each time.
    for mib in (200, 280, 360):
        guest.run(f"truncate -s {mib}M /root/large.ko")
        rc, out = probe(guest, "overlap", more="/root/large.ko")
        guest.run("rm /root/large.ko")
        if rc:
            break
    assert rc != 0, out
    assert re.search(r"the store at 0x[0-9a-f]+-0x[0-9a-f]+ and what kexec loads to "
                     r"0x[0-9a-f]+-0x[0-9a-f]+ overlap", out)
    assert_untouched(guest)


def test_memory_of_a_killed_upgrade_is_free_after_the_recovery(guest):
    guest.run(f"{command(guest, 'hold', MIB, '7.2')} >/root/hold.log 2>&1 & p=$!; "
              "for i in $(seq 600); do grep -q held /root/hold.log && break; sleep 0.1; done; "
              "kill -KILL $p; wait $p; true", timeout=120)
    assert meminfo(guest, "HugePages_Free") > 0, guest.run("cat /root/hold.log").out
    assert guest.run("cat /run/undo").out == "hugepages 0\n"
    rc, out = probe(guest, "recover")
    assert rc == 0, out
    assert_untouched(guest)


def test_every_byte_arrives_and_a_flipped_one_costs_one_tree_only(guest):
    said, told = jump(guest, "damage", "7.2")
    assert f"good.service: {MIB // 2} MiB right" in " ".join(told), (said, told)
    assert any(re.match(r"other.service: image pages-1.img is damaged \(checksum of \d+ bytes",
                        line) for line in told), told
    assert any(re.match("second time: no images at 0x", line) for line in told), told
    assert "does not tell where kexec loads to" not in said
    # Whatever is damaged is kept for the one who looks into it.
    assert "kept 1: done" in told
    sizes = guest.run("stat -c %s /root/kept-0/pages-1.img /root/kept-1/pages-1.img").out.split()
    assert sizes == [str(MIB // 2 << 20)] * 2


def test_memory_is_given_back_in_the_new_kernel(guest):
    said = guest.run("cat /root/probe.log").out
    wait_given_back(guest, taken(said))
    assert meminfo(guest, "MemTotal") > 1_990_000


def test_memory_that_a_built_in_driver_has_is_taken_back_from_it(guest):
    guest.wait_idle()
    _, told = jump(guest, "bind", "6.12")
    assert "nd_pmem has the memory" in told
    assert len([line for line in told if " right, " in line]) == 2, told


def test_every_byte_arrives_from_fragmented_memory(guest):
    guest.wait_idle()
    guest.run(f"{PROBE} fragment 1100 x")
    said, told = jump(guest, "jump", "7.2")
    assert [line.split(",")[0] for line in told if "right" in line] == [
        f"good.service: {MIB // 2} MiB right", f"other.service: {MIB // 2} MiB right"], (said, told)
    if "given back later: 1" in said:
        wait_given_back(guest, [n for n in taken(said) if n % (128 << 20) == 0])

"""Large memory is copied before the freeze; the rest of it, whatever was written since, comes back
right, in three services: one that writes a little, one that writes everything again and again, and
one whose processes share pages by copy-on-write."""

import json
import signal
from pathlib import Path

import pytest

import upgrade
import upgrade_counter
import upgrade_preload
from upgrade import guest_state, left_over
from vm import VM

KILLER = Path(__file__).with_name("upgrade_killer.py").read_bytes()
MIB = 160

# Every page holds its number and how often it was written (modulo 256); what that must be is kept apart.
WRITER = b"""#!/usr/bin/python3
import mmap, random, signal, struct, sys, time
pages, everything = int(sys.argv[1]) * 256, sys.argv[2] == "everything"
memory = mmap.mmap(-1, pages * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
written = bytearray(pages)
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
def check():
    wrong = [p for p in range(pages)
             if struct.unpack_from("QQ", memory, p * 4096 + 4080) != (p, written[p])]
    print("checked", len(wrong), wrong[:5], flush=True)
for page in range(pages):
    struct.pack_into("Q", memory, page * 4096 + 4080, page)
print("filled", flush=True)
n = 0
while True:
    n = (n + 1) % 256
    if everything:
        written[:] = bytes([n]) * pages
        memory[4088::4096] = written
    else:
        for page in random.sample(range(pages), 20):
            memory[page * 4096 + 4088] = written[page] = n
        time.sleep(0.05)
    if asked:
        check()
        asked.clear()
"""

# Four children share the parent's 48 MiB until the end.
PREFORK = b"""#!/usr/bin/python3
import os, signal, sys, time
memory = bytearray(os.urandom(1 << 20)) * 48
want = hash(bytes(memory))
children = []
def check(*_):
    for pid in children:
        os.kill(pid, signal.SIGUSR1)
    print("checked", 0 if hash(bytes(memory)) == want else 1, flush=True)
signal.signal(signal.SIGUSR1, check)    # before there is anybody who could be asked
for _ in range(4):
    pid = os.fork()
    if not pid:
        children = []
        break
    children.append(pid)
print("filled", flush=True)
while True:
    signal.pause()
"""

UNITS = {
    "crk-test-writer": (f"/usr/local/sbin/crk-test-writer {MIB} some", ""),
    "crk-test-rewriter": (f"/usr/local/sbin/crk-test-writer {MIB} everything", ""),
    "crk-test-prefork": ("/usr/local/sbin/crk-test-prefork", ""),
}
NAMES = list(UNITS)


@pytest.fixture(scope="module")
def guest(image, payload):
    with VM("test_upgrade_pre_dump/shared", image=image, destdir=payload, memory="3G") as vm:
        vm.wait_idle()
        vm.put(WRITER, "/usr/local/sbin/crk-test-writer", 0o755)
        vm.put(PREFORK, "/usr/local/sbin/crk-test-prefork", 0o755)
        upgrade_counter.install(vm, UNITS)
        for name in NAMES:
            upgrade.wait_for(lambda n=name: said(vm, n, "filled"), 120, f"{name} is ready")
        yield vm


def said(vm, unit, word):
    vm.run("journalctl --sync")
    out = vm.run(f"journalctl -u {unit} -o cat").out
    return [line.split() for line in out.splitlines() if line.startswith(word)]


def jump(vm, *options):
    up = upgrade.Upgrade(vm, NAMES, series=vm.next_series, store="pmem", load=upgrade.NoClients(), options=options)
    up.run()
    vm.next_series = "7.2" if vm.next_series == "6.12" else "6.12"
    return up


@pytest.fixture(scope="module")
def whole(guest):
    guest.next_series = "7.2"
    return jump(guest, "--no-pre-dump")


@pytest.fixture(scope="module")
def upgraded(guest, whole):
    return jump(guest)


def memory_is_right(vm, unit, processes=1):
    before = len(said(vm, unit, "checked"))
    vm.run(f"systemctl kill --kill-whom=main -s {signal.SIGUSR1.name} {unit}")
    upgrade.wait_for(lambda: len(said(vm, unit, "checked")) == before + processes, 60, f"{unit} checks")
    return all(words[1] == "0" for words in said(vm, unit, "checked"))


def units(up):
    return {u["name"].removesuffix(".service"): u for u in up.report["units"]}


def processes(name):
    return 5 if name == "crk-test-prefork" else 1


def all_held(up):
    assert not left_over(guest_state(up.vm, NAMES))
    for name in NAMES:
        before, after = up.before["units"][name], up.after["units"][name]
        assert after["MainPID"] == before["MainPID"] and after["ActiveState"] == "active", name
        assert memory_is_right(up.vm, name, processes(name)), name


@pytest.mark.parametrize("who, number", [("front", "SIGINT"), ("worker", "SIGKILL"), ("all", "SIGKILL")])
def test_killed_while_memory_is_copied_nothing_of_it_stays(guest, who, number):
    state = guest_state(guest, NAMES)
    upgrade_preload.install(guest)
    for _ in range(5):      # a kill that comes too late finds it held at the jump
        done = guest.run(f"python3 - pre-dump 300 {who} {number} "
                         f"env CRK_TEST_HOLD=1 LD_PRELOAD={upgrade_preload.PATH} "
                         + upgrade.command(guest, NAMES, "--store=pmem"), stdin=KILLER, timeout=300)
        result = json.loads(done.out)
        if result["killed"] and result["phase"] == "pre-dump":
            break
    else:
        pytest.fail(f"the kill came too late every time: {result}")
    assert result["status"] not in (0, None), result
    assert result["quiet_after"] is not None and not result["left"], result
    for name in NAMES:
        pid = state["units"][name]["MainPID"]
        assert guest.run(f"systemctl show -P MainPID {name}").out == f"{pid}\n"
        # uw: write-protected by a userfaultfd.
        assert guest.run(f"grep -c '^VmFlags:.* uw' /proc/{pid}/smaps", check=False).out == "0\n"
        assert memory_is_right(guest, name, processes(name)), name
    assert not left_over(guest_state(guest, NAMES))
    assert guest.run("cat /proc/sys/vm/nr_hugepages").out == "0\n"


def test_without_pre_dump_all_is_saved_in_the_pause(whole):
    assert all(u["pre_dump_bytes"] == 0 for u in units(whole).values())
    assert units(whole)["crk-test-writer"]["image_bytes"] > MIB << 20
    all_held(whole)


def test_memory_written_before_and_after_the_pre_dump_is_right(upgraded):
    all_held(upgraded)
    assert upgraded.report["warnings"] == []


def test_most_of_it_was_copied_before_the_freeze(upgraded):
    unit = units(upgraded)["crk-test-writer"]
    assert unit["pre_dump_bytes"] > MIB << 20
    assert unit["image_bytes"] < MIB << 18
    phases = [p["name"] for p in upgraded.report["phases"]]
    assert phases.index("quiesce") < phases.index("pre-dump") < phases.index("freeze")


def test_who_writes_everything_again_is_saved_whole(upgraded):
    unit = units(upgraded)["crk-test-rewriter"]
    assert unit["pre_dump_bytes"] == 0 and unit["image_bytes"] > MIB << 20


def test_a_damaged_pre_dump_makes_that_unit_start_cold_and_is_kept(guest, upgraded):
    before = guest_state(guest, NAMES)
    pid = before["units"]["crk-test-writer"]["MainPID"]
    upgrade_preload.install(guest)
    guest.run_until_restart(f"CRK_TEST_DAMAGE='crk-test-writer.service:{pid}:pre-dump/pages-' "
                            f"LD_PRELOAD={upgrade_preload.PATH} "
                            + upgrade.command(guest, NAMES, "--store=pmem", series=guest.next_series)
                            + " 2>/dev/ttyS0", timeout=300)
    guest.wait_idle()
    assert any("crk-test: damaged pages-" in text for _, text in guest.console.lines)
    after = guest_state(guest, NAMES)
    found = {u["name"].removesuffix(".service"): u for u in after["status"]["report"]["units"]}
    assert found["crk-test-writer"]["outcome"] == "cold"
    assert "pages-" in found["crk-test-writer"]["reason"] and "damaged" in found["crk-test-writer"]["reason"]
    place = found["crk-test-writer"]["reason"].rsplit(" ", 1)[-1]
    assert guest.run(f"find {place} -name parent -lname pre-dump -printf %f").out == "parent"
    assert guest.run(f"find {place} -path '*/pre-dump/pages-*' -size +{MIB >> 1}M").out
    assert after["units"]["crk-test-writer"]["MainPID"] != pid
    for name in ("crk-test-rewriter", "crk-test-prefork"):
        assert after["units"][name]["MainPID"] == before["units"][name]["MainPID"], name
        assert memory_is_right(guest, name, processes(name)), name

"""After the jump: a tree whose images are damaged starts cold, the others are restored.

One upgrade for each store carries many small services; all but two have one byte of one image
file flipped, another kind of file each, after everything was sealed (upgrade_preload.c).
"""

import pytest

import upgrade
import upgrade_counter
import upgrade_preload
from clients import RedisCounter
from upgrade import guest_state, left_over
from upgrade_preload import PATH as PRELOAD
from vm import VM

# Begin of an image file's name: what is damaged in a service named after it.
FILES = ["inventory", "pstree", "core-", "mm-", "pagemap-", "pages-", "files", "fs-", "ids-",
         "carry-"]
INTACT = ["redis-server", "crk-test-plain"]
FAILED = "/var/lib/crkexec/failed"
EARLIER = [f"{n:016x}" for n in range(5)]


def unit_of(prefix):
    return "crk-test-" + prefix.strip("-")


class Damaged:
    def __init__(self, vm, store):
        self.vm, self.store = vm, store
        self.names = [unit_of(prefix) for prefix in FILES]

    def run(self):
        vm = self.vm
        vm.wait_idle()
        units = {name: ("/usr/bin/sleep infinity", "RuntimeDirectory=" + name)
                 for name in self.names}
        units["crk-test-plain"] = (upgrade_counter.PROGRAM, "")
        upgrade_counter.install(vm, units)
        upgrade_preload.install(vm)
        for n, upgrade_id in enumerate(EARLIER):
            vm.run(f"mkdir -p {FAILED}/{upgrade_id}/a.service && echo x >{FAILED}/{upgrade_id}/a.service/core-1.img && "
                   f"touch -d 2026-01-0{n + 1} {FAILED}/{upgrade_id}")
        self.counter = RedisCounter(vm, "redis counter")
        self.counter.begin()
        self.before = guest_state(vm, INTACT + self.names)
        pids = {n: self.before["units"][n]["MainPID"] for n in self.names}
        damage = " ".join(f"{unit_of(p)}.service:{pids[unit_of(p)]}:{p}" for p in FILES)
        vm.run_until_restart(
            f"CRK_TEST_DAMAGE='{damage}' LD_PRELOAD={PRELOAD} "
            + upgrade.command(vm, INTACT + self.names, f"--store={self.store}")
            + " 2>/dev/ttyS0", timeout=300)
        vm.wait_idle()
        self.after = guest_state(vm, INTACT + self.names)
        self.report = {u["name"].removesuffix(".service"): u
                       for u in self.after["status"]["report"]["units"]}
        self.result = self.counter.finish()
        return self


@pytest.fixture(scope="module", params=["tmpfs", "pmem"])
def damaged(request, image, payload):
    with VM(f"test_failures_images/{request.param}", image=image, destdir=payload,
            memory=upgrade.MEMORY) as vm:
        yield Damaged(vm, request.param).run()


@pytest.mark.parametrize("prefix", FILES)
def test_one_flipped_byte_makes_that_unit_start_cold(damaged, prefix):
    name = unit_of(prefix)
    done = "\n".join(text for _, text in damaged.vm.console.lines if "crk-test: damaged" in text)
    assert f"of {name}.service" in done, f"the test damaged nothing: {done}"
    before, after = damaged.before["units"][name], damaged.after["units"][name]
    assert after["ActiveState"] == "active" and after["MainPID"] not in ("0", before["MainPID"])
    assert after["DropInPaths"] == "" and len(after["processes"]) == 1
    unit = damaged.report[name]
    assert unit["outcome"] == "cold"
    assert prefix in unit["reason"] and name in unit["reason"], unit["reason"]


def test_images_of_the_damaged_are_kept_where_the_reason_says(damaged):
    for prefix in FILES:
        reason = damaged.report[unit_of(prefix)]["reason"]
        place = reason.rsplit(" ", 1)[-1]
        assert place.startswith(FAILED + "/"), reason
        found = damaged.vm.run(f"find {place} -type f -size +0; stat -c %a {place}").out.split()
        assert len(found) > 1 and found[-1] == "700", found


def test_of_images_of_earlier_upgrades_only_the_newest_stay(damaged):
    found = set(damaged.vm.run(f"ls {FAILED}").out.split())
    assert found == {damaged.after["status"]["report"]["id"], *EARLIER[-2:]}


def test_units_beside_the_damaged_ones_are_restored(damaged):
    for name in INTACT:
        assert damaged.report[name]["outcome"] == "adopted", damaged.report[name]["reason"]
        before, after = damaged.before["units"][name], damaged.after["units"][name]
        assert before["MainPID"] == after["MainPID"] and after["ActiveState"] == "active"
        assert set(before["processes"]) == set(after["processes"])
    assert damaged.before["redis_run_id"] == damaged.after["redis_run_id"]
    assert damaged.result.ok, damaged.result.as_json()
    assert upgrade_counter.Lines(damaged.vm, "crk-test-plain").missing_or_doubled() is None


def test_no_process_of_a_damaged_tree_is_left(damaged):
    for prefix in FILES:
        pid = damaged.before["units"][unit_of(prefix)]["MainPID"]
        assert damaged.vm.run(f"test -e /proc/{pid}", check=False).rc != 0
    assert left_over(damaged.after) == []


def test_status_says_which_why_and_where_and_tells_scripts(damaged):
    assert damaged.after["status"]["exit"] == 1
    done = damaged.vm.run("crkexec status", check=False)
    assert done.rc == 1
    for prefix in FILES:
        unit = damaged.report[unit_of(prefix)]
        assert unit["name"] in done.out and unit["reason"] in done.out

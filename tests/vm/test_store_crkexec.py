"""The pmem store in whole upgrades, where the others do not look: in the distribution's initramfs,
whose udev binds drivers to the memory, and where the memory cannot be had after all. Only nginx
is kept here: redis is stopped, saves, and comes back with the boot."""

import re

import pytest

import upgrade
from upgrade_checks import held
from vm import VM

INITRD = "/boot/initrd-crkexec.img"
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"


@pytest.fixture(scope="module")
def guest(image, payload):
    with VM("test_store_crkexec/shared", image=image, destdir=payload,
            memory=upgrade.MEMORY) as vm:
        vm.wait_idle()
        yield vm


@pytest.fixture(scope="module")
def up(guest):
    """An upgrade whose initramfs has all drivers that could take the memory."""
    guest.run(f"dracut --quiet --force --add crkexec --kver {guest.image.versions['7.2']}"
              " --add-drivers 'nd_e820 nd_pmem dax_hmem device_dax kmem'"
              f" {INITRD}", timeout=600)
    with guest.connect(6379, retry=60) as sock:
        sock.sendall(b"SET crk:kept yes\r\n")
        assert sock.recv(64) == b"+OK\r\n"
    return upgrade.Upgrade(guest, ["nginx"], options=["--initrd", INITRD], store="pmem").run()


def test_auto_takes_the_other_store_when_huge_pages_cannot_be_had(guest):
    # A pool that says yes and has nothing.
    guest.run(f"echo 0 >/run/pool && mount --bind /run/pool {POOL}")
    try:
        line = upgrade.command(guest, ["nginx"], "--dry-run")
        auto = guest.run(line, check=False)
        pmem = guest.run(line + " --store=pmem", check=False)
    finally:
        guest.run(f"umount {POOL}; rm /run/pool")
    assert auto.rc == 0, auto.out + auto.err
    assert "trying another store: pmem: cannot map" in guest.run(
        "cat /var/log/crkexec/*.log").out
    assert pmem.rc != 0 and "cannot map" in pmem.out + pmem.err
    assert guest.run("cat /sys/kernel/kexec_loaded").out == "0\n"


def test_services_come_back_though_the_initramfs_has_a_driver_for_the_memory(up):
    before, after = up.before["units"]["nginx"], up.after["units"]["nginx"]
    assert before["MainPID"] == after["MainPID"]
    assert up.report["units"][0]["outcome"] == "adopted", up.report
    assert up.report["store"] == "pmem"
    # Bound in the middle of a restore, it would take the memory from under it.
    assert "nd_e820" not in up.vm.run("lsmod").out


def test_one_service_alone_is_kept_with_its_clients(up):
    held(up.troubles())
    assert up.results


def test_service_that_was_not_chosen_ended_orderly_and_runs_again(up):
    log = up.vm.run("journalctl --no-pager -u redis-server").out
    assert log.count("Stopped redis-server") == 1 and log.count("Started redis-server") == 2, log
    with up.vm.connect(6379, retry=60) as sock:
        sock.sendall(b"GET crk:kept\r\n")
        assert sock.recv(64) == b"$3\r\nyes\r\n"


def test_memory_that_stays_away_is_reported_with_its_size(up):
    kept = sum(int(n) << 20 for n in
               re.findall(r"[=,](\d+)M!0x", up.vm.run("cat /proc/cmdline").out))
    # Not rounded up to memory blocks, which could not be given back anyway.
    assert 0 < kept < 64 << 20
    assert any(re.match(f"{kept >> 20} MiB of memory, of {kept >> 20} MiB taken", w)
               for w in up.report["warnings"]), up.report["warnings"]

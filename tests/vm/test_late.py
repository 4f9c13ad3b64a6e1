"""Services beside, on and below what the new boot makes only after they are back (file systems, addresses), one
whose AppArmor profile nothing in the new boot loads, one that talks to syslog all the time, and one whose disk is
not there any more.

One VM: a second disk with XFS, which our initramfs brings up, and ext4 in a file, for which it has no
loop device. First everything is there, then the second disk's file system is missing.
"""

import json
from types import SimpleNamespace

import pytest

import upgrade
import upgrade_counter
from upgrade import NoClients, Upgrade
from upgrade_counter import PROGRAM
from vm import VM

DISK = 400 << 20    # the least that mkfs.xfs takes is 300 MiB
SETUP = """set -e
mkdir -p /srv/data /srv/late /srv/bound
mkfs.xfs -q /dev/disk/by-id/virtio-crk-data
truncate -s 64M /var/late.img
mkfs.ext4 -q /var/late.img
cat >>/etc/fstab <<EOF
UUID=$(blkid -s UUID -o value /dev/disk/by-id/virtio-crk-data) /srv/data xfs nofail 0 0
/var/late.img /srv/late ext4 loop,nofail 0 0
EOF
systemctl daemon-reload
mount -a
mkdir /srv/late/dir /srv/data/dir /srv/restricted
echo '/srv/data/dir /srv/restricted none bind,ro,noexec,nofail 0 0' >>/etc/fstab
systemctl daemon-reload
mount /srv/restricted
ip link add br-late type bridge
ip address add 10.99.0.1/24 dev br-late
ip link set br-late up
apparmor_parser -r <<EOF
profile crk-test-label {
    file,
    network,
    unix,
    signal,
    ptrace,
    capability,
}
EOF
"""
# What does not outlive a kernel, and who would fail without it.
TAKE_AWAY = ("systemctl disable -q --now crk-test-address crk-test-interface crk-test-packets crk-test-elsewhere; "
             "ip link del br-late")
LISTENER = "/usr/local/sbin/crk-test-listener"
LISTENER_SOURCE = b"""#!/usr/bin/python3
import socket, time
s = socket.create_server(("10.99.0.1", 7777))
time.sleep(1e9)
"""
BOUND = "/usr/local/sbin/crk-test-interface"
BOUND_SOURCE = b"""#!/usr/bin/python3
import socket, sys, time
if sys.argv[1] == "packets":
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    s.bind(("br-late", 0))
else:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"br-late")
    s.bind(("", 7778))
    s.listen()
time.sleep(1e9)
"""
SYSLOG = "/usr/local/sbin/crk-test-syslog"
SYSLOG_SOURCE = b"""#!/usr/bin/python3
import syslog, time
syslog.openlog("crk-test-syslog", syslog.LOG_NDELAY)
n = 0
while True:
    syslog.syslog(f"said {n}")
    n += 1
    time.sleep(0.02)
"""
SUDDEN = "/usr/local/sbin/crk-test-sudden"
# Opens a file when the check is over.
SUDDEN_SOURCE = b"""#!/bin/bash
until read -r loaded </sys/kernel/kexec_loaded && [ "$loaded" = 1 ]; do sleep 0.02; done
exec 5>>/srv/late/log
sleep infinity
"""
ELSEWHERE = ("ip link add br-late type bridge && ip address add 10.99.0.1/24 dev br-late && "
             "ip link set br-late up")
UNITS = {
    "crk-test-data": (PROGRAM, "WorkingDirectory=/srv/data"),
    "crk-test-box": (PROGRAM, "ProtectSystem=strict\nPrivateTmp=yes"),
    "crk-test-hidden": (PROGRAM, "InaccessiblePaths=/srv/late"),
    "crk-test-label": (PROGRAM, "AppArmorProfile=crk-test-label"),
    "crk-test-syslog": (SYSLOG, ""),
    "crk-test-late": (PROGRAM, "WorkingDirectory=/srv/late"),
    "crk-test-open": (f"/bin/sh -c 'exec {PROGRAM} 5>>/srv/late/log'", ""),
    "crk-test-bound": (PROGRAM, "BindPaths=/srv/late/dir:/srv/bound"),
    "crk-test-address": (LISTENER, ""),
    "crk-test-interface": (f"{BOUND} connections", ""),
    "crk-test-packets": (f"{BOUND} packets", ""),
    # What has the same names in a network namespace of its own is another address and another interface.
    "crk-test-elsewhere": (f"/bin/sh -c '{ELSEWHERE}; {BOUND} connections & exec {LISTENER}'", "PrivateNetwork=yes"),
    "crk-test-journal": (PROGRAM, "BindPaths=/run/systemd/journal/dev-log:/srv/bound-log"),
    "crk-test-part": (PROGRAM, "InaccessiblePaths=/srv/late/dir"),
}
FINE = list(UNITS)[:5]


@pytest.fixture(scope="module")
def guest(image, payload, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk") / "data"
    with open(disk, "wb") as f:
        f.truncate(DISK)
    with VM("test_late/shared", image=image, destdir=payload, memory=upgrade.MEMORY, qemu_args=[
            "-drive", f"if=none,id=data,file={disk},format=raw,cache=unsafe",
            "-device", "virtio-blk-pci,drive=data,serial=crk-data,addr=0x8"]) as vm:
        vm.wait_idle()
        vm.run(SETUP)
        vm.put(LISTENER_SOURCE, LISTENER, 0o755)
        vm.put(BOUND_SOURCE, BOUND, 0o755)
        vm.put(SYSLOG_SOURCE, SYSLOG, 0o755)
        vm.put(SUDDEN_SOURCE, SUDDEN, 0o755)
        upgrade_counter.install(vm, {**UNITS, "crk-test-sudden": (SUDDEN, "")})
        yield vm


@pytest.fixture(scope="module")
def checked(guest):
    """What the check says, before anything is tried."""
    done = guest.run(f"crkexec check --json --services {','.join(UNITS)} "
                     f"--kernel {guest.image.versions['7.2']}", check=False)
    assert done.rc == 1
    without = guest.run("crkexec check --json --services crk-test-label --append apparmor=0 "
                        f"--kernel {guest.image.versions['7.2']}", check=False)
    guest.run(TAKE_AWAY)
    said = json.loads(done.out)
    obstacles = {}
    for o in said["obstacles"]:
        obstacles.setdefault((o["unit"] or "").removesuffix(".service"), []).append(o["what"])
    return SimpleNamespace(obstacles=obstacles, warnings=said["warnings"], without=json.loads(without.out))


@pytest.fixture(scope="module")
def sudden(guest, checked):
    """What crkexec says of a service that takes into use what comes late, after the check."""
    done = guest.run(upgrade.command(guest, ["crk-test-sudden"]), check=False)
    left = guest.run("cat /sys/kernel/kexec_loaded; systemctl is-active crk-test-sudden").out.split()
    guest.run("systemctl disable -q --now crk-test-sudden")
    return done, left


@pytest.fixture(scope="module")
def upgraded(guest, sudden):
    """Everything is there."""
    return Upgrade(guest, FINE, load=NoClients()).run()


@pytest.fixture(scope="module")
def missing(guest, upgraded):
    """The kernel cannot read the second disk."""
    up = Upgrade(guest, FINE, ["--append", "module_blacklist=xfs"], load=NoClients())
    up.earlier = upgraded
    return up.run()


LATE = "/srv/late (ext4 on loop0, a kind of disk crkexec's initramfs does not know)"


@pytest.mark.parametrize("unit, what", [
    ("crk-test-late", f": cwd is on {LATE}, which is mounted only later in the boot"),
    ("crk-test-open", f": fd 5 (/srv/late/log) is on {LATE}, which is mounted only later in the boot"),
    ("crk-test-bound", f"its sandbox has /srv/bound, which takes {LATE}: that is mounted only later"),
    ("crk-test-address", ": fd 3: a socket on 10.99.0.1, an address of br-late, which only the new boot's network "
                         "service sets up"),
    ("crk-test-interface", ": fd 3: a socket bound to the interface br-late, which only the new boot's network service "
                           "sets up"),
    ("crk-test-packets", ": fd 3: a socket bound to the interface br-late, which only"),
    ("crk-test-journal", "its sandbox has journald's /systemd/journal/dev-log bound to /srv/bound-log"),
    ("crk-test-part", f"its sandbox has /srv/late/dir, which takes {LATE}: that is mounted only later"),
])
def test_who_needs_it_is_refused_by_name(checked, unit, what):
    assert len(checked.obstacles[unit]) == 1
    assert what in checked.obstacles[unit][0]


def test_who_does_not_need_it_is_not_refused_and_the_operator_is_told(checked):
    assert not {*FINE, "crk-test-elsewhere"} & set(checked.obstacles)
    said = "\n".join(checked.warnings)
    assert f"{LATE} is mounted only after the services are back" in said
    assert "address 10.99.0.1/24 of br-late is set up only by the new boot's network service" in said


def test_what_is_taken_into_use_after_the_check_is_noticed_before_the_jump(sudden):
    done, left = sudden
    assert done.rc != 0
    assert f": fd 5 (/srv/late/log) is on {LATE}, which is mounted only later in the boot" in done.out + done.err
    assert left == ["0", "active"]


def test_a_kernel_without_apparmor_is_refused_for_the_confined(checked):
    said = [o["what"] for o in checked.without["obstacles"]]
    assert said == ["it is confined by AppArmor, which --append switches off"]


def test_services_come_back_before_it(upgraded):
    assert upgraded.troubles() == []


def test_it_comes_into_the_sandboxes_when_the_host_mounts_it(upgraded):
    pids = {name: unit["MainPID"] for name, unit in upgraded.after["units"].items()}
    inside = "nsenter -m -t {} "
    assert upgraded.vm.run(inside.format(pids["crk-test-box"]) + "ls /srv/late").out.split() == [
        "dir", "log", "lost+found"]
    hidden = upgraded.vm.run(inside.format(pids["crk-test-hidden"]) + "stat -c %a /srv/late").out
    assert hidden.strip() == "0"


def test_a_bind_mount_has_its_restrictions(upgraded):
    options = upgraded.vm.run("findmnt -no OPTIONS /srv/restricted").out.strip().split(",")
    assert {"ro", "noexec"} <= set(options)
    log = upgraded.vm.run("cat /var/log/crkexec/*-early.log").out
    assert "/srv/restricted" not in log


def test_a_confined_service_is_confined_again(upgraded):
    unit = upgraded.after["units"]["crk-test-label"]
    for pid in unit["processes"]:
        label = upgraded.vm.run(f"cat /proc/{pid}/attr/current").out
        assert label == "crk-test-label (enforce)\n"


def test_what_is_said_to_syslog_before_journald_runs_is_not_lost(upgraded):
    vm = upgraded.vm
    vm.run("journalctl --sync")
    lines = vm.run("journalctl -u crk-test-syslog -o cat _TRANSPORT=syslog").out.splitlines()
    said = [int(line.removeprefix("said ")) for line in lines if line.startswith("said ")]
    # The attempt before has stopped and started it.
    said = said[len(said) - 1 - said[::-1].index(0):]
    # Where journald takes over, the first that it gets itself may overtake the last that were kept.
    assert sorted(said) == list(range(len(said))) and len(said) > 100
    here = vm.run("journalctl -b -u crk-test-syslog -o cat _TRANSPORT=syslog").out
    assert here.count("said ") > 50
    assert vm.run("pgrep -x crkexec-syslog", check=False).rc == 1


def test_without_its_disk_a_service_does_not_come_back_and_the_report_says_why(missing):
    report = {u["name"].removesuffix(".service"): u for u in missing.report["units"]}
    unit = report["crk-test-data"]
    assert unit["outcome"] == "cold"
    assert unit["reason"].startswith("its file system /srv/data is missing: cannot mount UUID="), unit["reason"]
    # Which systemd does not do without the disk either.
    assert missing.after["units"]["crk-test-data"]["ActiveState"] == "inactive"
    assert missing.vm.run("find /srv/data -mindepth 1").out == ""


@pytest.mark.parametrize("name", FINE[1:])
def test_without_a_disk_of_others_a_sandboxed_service_goes_on(missing, name):
    report = {u["name"].removesuffix(".service"): u for u in missing.report["units"]}
    assert report[name]["outcome"] == "adopted", report[name]["reason"]
    assert (missing.after["units"][name]["MainPID"] == missing.before["units"][name]["MainPID"]
            == missing.earlier.before["units"][name]["MainPID"])

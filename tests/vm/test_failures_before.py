"""Bad input and bad luck before the jump: refused or interrupted, and nothing has changed.

One VM for all of it: it never leaves its kernel.  crkexec runs with a library in front of it
(upgrade_preload.c) that lets reboot(2) wait for ever, so a kill that comes too late hangs
the test's command instead of jumping.
"""

import json
import re
from pathlib import Path
from unittest.mock import ANY

import pytest

import upgrade
import upgrade_counter
import upgrade_preload
from clients import NewConnections, RedisCounter, RedisIdle, RedisSender
from upgrade import guest_state, left_over, wait_for
from upgrade_counter import PROGRAM
from upgrade_preload import PATH as PRELOAD
from vm import VM, CommandError

CHOSEN = ["redis-server", "crk-test-plain"]
OTHERS = ["nginx", "crk-test-other"]        # stopped by an upgrade, running after its undoing
KILLER = Path(__file__).with_name("upgrade_killer.py").read_bytes()

FAT = b"""#!/usr/bin/python3
import time
data = b"\\1" * (1 << 30)
open("/run/crk-test-fat", "w").close()
time.sleep(1e9)
"""
# A ring of io_uring(7), as the descriptor after the standard ones.
RING = b"""#!/usr/bin/python3
import ctypes, time
params = ctypes.create_string_buffer(120)
fd = ctypes.CDLL(None).syscall(425, 8, params)
assert fd >= 0
time.sleep(1e9)
"""


@pytest.fixture(scope="module")
def guest(image, payload):
    with VM("test_failures_before/shared", image=image, destdir=payload,
            memory=upgrade.MEMORY) as vm:
        upgrade_preload.install(vm)
        vm.put(FAT, "/usr/local/sbin/crk-test-fat", 0o755)
        vm.put(RING, "/usr/local/sbin/crk-test-ring", 0o755)
        vm.wait_idle()
        upgrade_counter.install(vm, {
            "crk-test-plain": (PROGRAM, ""),
            "crk-test-other": (PROGRAM, ""),
            "crk-test-ring": ("/usr/local/sbin/crk-test-ring", ""),
        })
        vm.put(upgrade_counter.UNIT.format(program="/usr/local/sbin/crk-test-fat",
                                           settings="").encode(),
               "/run/systemd/system/crk-test-fat.service")
        vm.put(upgrade_counter.UNIT.format(program="/usr/bin/false", settings="").encode(),
               "/run/systemd/system/crk-test-failed.service")
        # As what systemd makes of an init script.
        vm.put(b"[Service]\nType=forking\nGuessMainPID=no\nRemainAfterExit=yes\n"
               b"ExecStart=/bin/sh -c 'sleep infinity & sleep infinity &'\n",
               "/run/systemd/system/crk-test-mainless.service")
        # Has no processes, and stops with one that is stopped.
        vm.put(f"[Unit]\nRequires={OTHERS[1]}.service\nAfter={OTHERS[1]}.service\n"
               "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n".encode(),
               "/run/systemd/system/crk-test-after.service")
        vm.run("systemctl daemon-reload; systemctl mask -q --runtime crk-test-masked.service;"
               "systemctl start crk-test-mainless crk-test-after;"
               "systemctl start crk-test-failed;"
               "until systemctl is-failed -q crk-test-failed; do sleep 0.1; done;"
               "until readlink /proc/$(systemctl show -P MainPID crk-test-ring)/fd/3 | grep -q io_uring; do"
               " sleep 0.1; done", check=False)
        vm.before = guest_state(vm, CHOSEN + OTHERS)
        vm.before["failed"] = []
        yield vm
        vm.run("systemctl reset-failed", check=False)


@pytest.fixture(scope="module")
def load(guest):
    """Clients of redis that live through everything that is done to the guest."""
    # One frozen network follows on the other here: a connection's request that is sent again after twice the time
    # each (tcp(7), tcp_syn_retries) would meet the sixth, and end. It is sent again each second, if the kernel can.
    linear = "net.ipv4.tcp_syn_linear_timeouts"     # Linux 6.5
    guest.net.run(["sysctl", "-q", "-e", "-w", "net.ipv4.tcp_syn_retries=127", f"{linear}=127"])
    clients = {c.name: c for c in (
        RedisCounter(guest, "counter"), RedisIdle(guest, "idle"), RedisSender(guest, "sender"),
        RedisIdle(guest, "idle v6", "fd77::2"), NewConnections(guest, "new", "redis"))}
    for client in clients.values():
        client.begin()
    yield clients
    for client in clients.values():
        client.abandon()


def changes(vm):
    """What is not as it was before, as texts."""
    now = guest_state(vm, CHOSEN + OTHERS)
    found = [text for text in left_over(now) if not text.startswith("left over, failed")]
    for name in CHOSEN:
        found += [f"{name}: {key} is {now['units'][name][key]}, was {value}"
                  for key, value in vm.before["units"][name].items()
                  if key not in ("memory", "processes") and now["units"][name][key] != value]
        found += upgrade.process_troubles(name, vm.before["units"][name]["processes"],
                                          now["units"][name]["processes"])
    for key in ("redis_run_id", "services", "mounts", "listening", "addresses", "routes",
                "boot_id"):
        if now[key] != vm.before[key]:
            found.append(f"{key} is {now[key]}, was {vm.before[key]}")
    for key in ("HugePages_Total", "MemTotal"):
        if now["memory"][key] != vm.before["memory"][key]:
            found.append(f"{key} is {now['memory'][key]}, was {vm.before['memory'][key]}")
    return found


def crkexec(vm, *words, prefix=""):
    """Runs it, held at the jump; it has to fail."""
    line = (f"{prefix} env CRK_TEST_HOLD=1 LD_PRELOAD={PRELOAD} TERM=dumb crkexec "
            + " ".join(words))
    done = vm.run(line.strip(), check=False, timeout=120)
    assert done.rc not in (0, 2), f"exit status {done.rc}\n{done.out}{done.err}"
    return done


def refused(vm, *words, patterns, prefix=""):
    done = crkexec(vm, *words, prefix=prefix)
    text = done.out + done.err
    for pattern in patterns:
        assert re.search(pattern, text), f"no /{pattern}/ in:\n{text}"
    return text


def target(vm):
    return vm.image.versions["7.2"]


# --- refusals ---------------------------------------------------------------------------------

def test_refuses_who_is_not_root(guest):
    refused(guest, "--services", "redis-server", prefix="setpriv --reuid=65534 --clear-groups",
            patterns=["root"])


@pytest.mark.parametrize("unit, patterns", [
    ("no-such-thing", [r"no-such-thing\.service.*no such unit"]),
    ("crk-test-fat", [r"crk-test-fat\.service.*not active", r"start it, or leave it out"]),
    ("crk-test-failed", [r"crk-test-failed\.service.*failed"]),
    ("crk-test-masked", [r"crk-test-masked\.service.*masked"]),
    ("dbus.socket", [r"dbus\.socket.*not a service"]),
    ("systemd-remount-fs", [r"systemd-remount-fs\.service.*no processes"]),
    ("crk-test-mainless", [r"crk-test-mainless\.service.*no main process", r"PIDFile="]),
    ("'../../etc/passwd'", [r"etc.passwd"]),
])
def test_refuses_a_unit_that_cannot_be_kept_by_name(guest, unit, patterns):
    refused(guest, "--services", f"redis-server,{unit}", patterns=patterns)


def test_names_all_wrong_units_and_the_kernel_at_once(guest):
    refused(guest, "--services", "no-such-a,no-such-b", "--kernel", "9.9.9",
            patterns=["no-such-a", "no-such-b", r"no kernel 9\.9\.9.*" + re.escape(target(guest))])


@pytest.mark.parametrize("kernel, patterns", [
    ("/boot/nothing", [r"/boot/nothing.*No such file"]),
    ("/etc/hostname", [r"cannot use /etc/hostname", "vmlinuz"]),
    ("/etc", [r"/etc\b"]),
    ("/dev/null", [r"/dev/null"]),
    ("/run/crk-test-short", [r"/run/crk-test-short"]),
])
def test_refuses_what_is_not_a_kernel(guest, kernel, patterns):
    guest.run(f"head -c 100000 /boot/vmlinuz-{target(guest)} >/run/crk-test-short")
    refused(guest, "--services", "redis-server", "--kernel", kernel, patterns=patterns)


@pytest.mark.parametrize("initrd, patterns", [
    ("/boot/nothing", [r"/boot/nothing.*No such file"]),
    ("/etc/hostname", [r"/etc/hostname.*not an initramfs"]),
    ("/boot/initrd.img-{old}", [r"initrd.img-{old} belongs to kernel {old}, not to {new}"]),
    ("/boot/initrd.img-{new}", [r"initrd.img-{new}.*early program", "dracut"]),
])
def test_refuses_an_initrd_that_does_not_fit(guest, initrd, patterns):
    old, new = guest.image.versions["6.12"], target(guest)
    refused(guest, "--services", "redis-server", "--kernel", new, "--initrd",
            initrd.format(old=old, new=new),
            patterns=[p.replace("{old}", re.escape(old)).replace("{new}", re.escape(new))
                      for p in patterns])


def test_refuses_a_kernel_without_a_needed_feature(guest):
    new = target(guest)
    path = guest.run(f"ls /boot/config-{new} /usr/lib/modules/{new}/config 2>/dev/null | head -n 1",
                     check=False).out.strip()
    guest.run(f"sed s/^CONFIG_CHECKPOINT_RESTORE=y/#/ {path} >/run/crk-test-config;"
              f"mount --bind /run/crk-test-config {path}")
    try:
        refused(guest, "--services", "redis-server", "--kernel", new,
                patterns=[re.escape(new) + ".*CONFIG_CHECKPOINT_RESTORE"])
    finally:
        guest.run(f"umount {path}; rm /run/crk-test-config")


def test_refuses_a_kernel_without_a_module_of_this_machine(guest):
    new = target(guest)
    guest.run(f"cd /usr/lib/modules/{new}; f=$(find . -name 'virtio_net.ko*'); mv $f /root/;"
              f"echo $f >/root/crk-test-module")
    try:
        refused(guest, "--services", "redis-server", "--kernel", new, patterns=["virtio_net"])
    finally:
        guest.run(f"cd /usr/lib/modules/{new}; f=$(cat /root/crk-test-module); "
                  "mv /root/${f##*/} $f; rm /root/crk-test-module")


def test_refuses_a_command_line_that_is_too_long(guest):
    refused(guest, "--services", "redis-server", "--append", "x" * 3000,
            patterns=["characters", "--append"])


def test_refuses_while_another_kernel_is_loaded(guest):
    new = target(guest)
    guest.run(f"kexec -s -l /boot/vmlinuz-{new} --initrd=/boot/initrd.img-{new} --reuse-cmdline")
    try:
        refused(guest, "--services", "redis-server", patterns=["loaded", "kexec -u"])
        assert guest.run("cat /sys/kernel/kexec_loaded").out == "1\n"
    finally:
        guest.run("kexec -s -u")


def test_refuses_with_the_numbers_when_memory_does_not_suffice(guest):
    guest.run("systemctl start crk-test-fat; until [ -e /run/crk-test-fat ]; do sleep 0.2; done", timeout=120)
    try:
        for store in ("tmpfs", "pmem", "auto"):
            text = refused(guest, "--services", "crk-test-fat", "--store", store,
                           patterns=[r"memory|room"])
            assert len(re.findall(r"\d[\d.]* [GM]iB", text)) >= 2, text
    finally:
        guest.run("systemctl stop crk-test-fat; rm -f /run/crk-test-fat", timeout=120)


def test_names_what_cannot_be_saved_with_unit_process_descriptor_and_remedy(guest):
    pid = guest.run("systemctl show -P MainPID crk-test-ring").out.strip()
    patterns = [r"crk-test-ring\.service", rf"\b{pid}\b", r"crk-test-ring|python3", r"fd 3",
                r"io_uring"]
    text = refused(guest, "--services", "crk-test-ring,redis-server", patterns=patterns)
    said = json.loads(crkexec(guest, "--json", "--services", "crk-test-ring,redis-server").out)
    mine = [o for o in said["obstacles"] if o["unit"] == "crk-test-ring.service"]
    assert mine and any(o["remedy"] for o in mine), said["obstacles"]
    assert any(o["remedy"] in text for o in mine if o["remedy"])
    assert not [o for o in said["obstacles"] if o["unit"] == "redis-server.service"]
    check = guest.run("crkexec check --services crk-test-ring", check=False)
    assert check.rc == 1 and "io_uring" in check.out + check.err


def test_refuses_where_systemd_could_not_execute_the_guard(guest):
    refused(guest, "--services", "redis-server", patterns=["guard unit does not run", "/mnt/crkexec"],
            prefix="unshare -m sh -c 'mount -t tmpfs none /mnt && cp $(command -v crkexec) /mnt && "
                   "PATH=/mnt:$PATH exec \"$@\"' sh")
    assert guest.run("systemctl list-units --all --plain --no-legend 'crkexec-guard-*'").out == ""


def test_wrong_usage_has_its_own_exit_status(guest):
    for words in ("", "--services", "--no-such-option", "--services '' --kernel 1",
                  "--services redis-server --store nowhere"):
        done = guest.run(f"crkexec {words}", check=False)
        assert done.rc == 2, f"crkexec {words}: {done.rc}\n{done.out}{done.err}"
        assert done.err


def test_check_and_dry_run_say_that_it_is_possible(guest):
    services = ",".join(CHOSEN)
    assert guest.run(f"crkexec check --services {services} --kernel {target(guest)}",
                     timeout=120).rc == 0
    for store in ("tmpfs", "pmem"):
        said = json.loads(guest.run(f"crkexec --dry-run --json --services {services} --kernel "
                                    f"{target(guest)} --store {store}", timeout=120).out)
        assert said["outcome"] == "dry-run" and said["kernel_to"] == target(guest)
        assert said["store"] == store and "crkexec=" in said["command_line"]


def test_check_and_dry_run_name_the_units_that_an_upgrade_stops(guest):
    words = f"--json --services {','.join(CHOSEN)} --kernel {target(guest)} --store tmpfs"
    stopped = json.loads(guest.run(f"CRK_TEST_NO_FREEZE=/ CRK_TEST_HOLD=1 LD_PRELOAD={PRELOAD} "
                                   f"crkexec {words}", check=False, timeout=120).out)
    assert stopped["undone"] and stopped["units_to_stop"] is None, stopped
    wait_for(lambda: others_run(guest), 60, "the other services run again")
    # What has no processes stops with another, and nobody has to stop it.
    stopping = {*stopped["stopped_services"], "crk-test-after.service"}
    assert {f"{name}.service" for name in OTHERS} < stopping
    for verb in ("check", "--dry-run"):
        said = json.loads(guest.run(f"crkexec {verb} {words}", timeout=120).out)
        named = {u for u in said["units_to_stop"] if not u.endswith(".timer")}
        assert named == stopping and said["stopped_services"] == [], said
        text = guest.run(f"crkexec {verb} {words.replace('--json', '')}", timeout=120).err
        assert "\n  ".join(["first; the new kernel starts what it starts at any boot:",
                            *said["units_to_stop"]]) in text, text


def test_refusals_checks_and_dry_runs_changed_nothing(guest):
    assert "\n".join(changes(guest)) == ""


# --- failed ---------------------------------------------------------------------------------

def test_names_a_file_system_that_cannot_be_frozen(guest, load):
    command = upgrade.command(guest, CHOSEN, "--store=tmpfs")
    done = guest.run(f"CRK_TEST_NO_FREEZE=/ CRK_TEST_HOLD=1 LD_PRELOAD={PRELOAD} {command}",
                     check=False, timeout=120)
    said = done.out + done.err
    assert done.rc == 1 and "cannot freeze the file system at /: Input/output error" in said, said
    wait_for(lambda: others_run(guest), 60, "the other services run again")
    assert "\n".join(changes(guest)) == ""


def test_ends_a_dump_that_hangs(guest, load):
    command = upgrade.command(guest, CHOSEN, "--store=tmpfs")
    done = guest.run(f"CRK_TEST_HANG=1 CRK_TEST_HOLD=1 LD_PRELOAD={PRELOAD} {command}", check=False,
                     timeout=180)
    said = done.out + done.err
    assert done.rc == 1 and "redis-server.service: the dump hung" in said, said
    wait_for(lambda: others_run(guest), 60, "the other services run again")
    assert "\n".join(changes(guest)) == ""


# --- killed -------------------------------------------------------------------------------------

def kill_in(vm, phase, delay, who, number, store):
    line = (f"python3 - {phase} {delay} {who} {number} env CRK_TEST_HOLD=1 LD_PRELOAD={PRELOAD} "
            + upgrade.command(vm, CHOSEN, f"--store={store}"))
    return json.loads(vm.run(line, stdin=KILLER, timeout=300).out)


def others_run(vm):
    names = OTHERS + ["crk-test-after"]
    return vm.run("systemctl is-active " + " ".join(names), check=False).out == "active\n" * len(names)


# phase, milliseconds into it, who is killed, signal, store
KILLS = [
    ("check", 0, "front", "SIGINT", "tmpfs"),
    # Within the engine's look at a service, more or less.
    ("check", 3, "worker", "SIGKILL", "tmpfs"),
    ("check", 10, "worker", "SIGKILL", "tmpfs"),
    ("check", 20, "worker", "SIGKILL", "tmpfs"),
    ("store", 0, "front", "SIGTERM", "pmem"),
    ("store", 300, "all", "SIGKILL", "pmem"),
    ("load", 100, "front", "SIGINT", "tmpfs"),
    ("load", 100, "worker", "SIGKILL", "tmpfs"),
    ("quiesce", 100, "front", "SIGTERM", "tmpfs"),
    ("quiesce", 100, "front", "SIGKILL", "tmpfs"),
    ("quiesce", 100, "all", "SIGKILL", "pmem"),
    ("gate", 0, "front", "SIGINT", "tmpfs"),
    ("gate", 0, "all", "SIGKILL", "tmpfs"),
    ("freeze", 0, "front", "SIGTERM", "pmem"),
    ("freeze", 0, "worker", "SIGKILL", "tmpfs"),
    ("freeze", 0, "all", "SIGKILL", "tmpfs"),
    ("dump", 30, "front", "SIGINT", "tmpfs"),
    ("dump", 30, "front", "SIGKILL", "pmem"),
    ("dump", 30, "worker", "SIGKILL", "tmpfs"),
    ("dump", 30, "all", "SIGKILL", "tmpfs"),
    ("dump", 150, "all", "SIGKILL", "pmem"),
    ("commit", 0, "front", "SIGTERM", "tmpfs"),
    ("commit", 0, "worker", "SIGKILL", "pmem"),
    ("commit", 50, "all", "SIGKILL", "tmpfs"),
    # Held at reboot(2) itself: file systems are frozen.
    ("jump", 3000, "worker", "SIGKILL", "tmpfs"),
    ("jump", 3000, "all", "SIGKILL", "pmem"),
]


@pytest.mark.parametrize("kill", KILLS, ids=lambda k: f"{k[0]}-{k[1]}ms-{k[2]}-{k[3]}-{k[4]}")
def test_killed_in_a_phase_leaves_everything_as_before(guest, load, kill):
    phase, delay, who, number, store = kill
    for _ in range(5):
        written = load["counter"].count
        said = kill_in(guest, phase, delay, who, number, store)
        if said["killed"] and (said["seen"] == phase or phase in ("gate", "freeze", "check")):
            break
        # The killer was not scheduled for the whole phase; held at the jump, all was undone then.
        wait_for(lambda: others_run(guest), 60, f"{OTHERS} run again: {said}")
    else:
        pytest.fail(f"the kill came too late every time: {said}")
    assert said["status"] not in (0, None), said
    assert said["quiet_after"] is not None, said
    wait_for(lambda: others_run(guest), 60, f"{OTHERS} run again: {said}")
    wait_for(lambda: load["counter"].count > written + 5, 60, "the counter counts again")
    guest.run("date >/var/tmp/crk-test-writable && sync && rm /var/tmp/crk-test-writable")
    assert "\n".join(changes(guest)) == "", said["output"]
    for client in load.values():
        assert client.result.errors == [], client.name


def test_a_dump_that_outlives_its_worker_does_not_freeze_again(guest, load):
    command = upgrade.command(guest, CHOSEN, "--store=tmpfs")
    # Stopped, so that it does not even end by its alarm.
    said = guest.run(f"""
        CRK_TEST_HANG=1 LD_PRELOAD={PRELOAD} CRK_TEST_HOLD=1 {command} 2>&1 & front=$!
        for i in $(seq 6000); do grep -qsx dump /run/crkexec/*/phase && break; sleep 0.01; done
        worker=$(pgrep -P $front)
        for i in $(seq 500); do pgrep -P $worker >/dev/null && break; sleep 0.01; done
        dumps=$(pgrep -P $worker)
        kill -STOP $dumps; kill -KILL $worker
        wait $front; echo "status $?"
        for p in $dumps; do ! kill -0 $p || echo "$p lives"; done; kill -KILL $dumps""", check=False,
                     timeout=180).out
    assert "killed by signal 9 in phase dump" in said and "status 1" in said, said
    assert " lives" not in said, said
    wait_for(lambda: others_run(guest), 60, "the other services run again")
    assert "\n".join(changes(guest)) == ""


def test_what_cannot_be_undone_stays_written_down_until_it_can(guest):
    other = OTHERS[0]
    guest.run(f"systemctl mask -q --runtime {other}")
    try:
        # It is stopped all the same, and cannot be started again.
        said = kill_in(guest, "freeze", 0, "worker", "SIGKILL", "tmpfs")
        assert said["status"] == 3 and "could be undone" in said["output"], said
        status = guest.run("crkexec status --json", check=False)
        assert json.loads(status.out) == {"state": "interrupted", "id": ANY,
                                          "left": [f"start {other}.service"]}
        assert status.rc == 1
        refused(guest, "--services", "redis-server", patterns=[rf"{other}.service.*masked", "put right"])
        assert guest.run("crkexec recover", check=False).rc == 3
    finally:
        guest.run(f"systemctl unmask -q --runtime {other}")
    assert "all of it was undone" in guest.run("crkexec recover").out
    wait_for(lambda: others_run(guest), 60, "the other services run again")
    assert "\n".join(changes(guest)) == ""


def test_a_transient_service_that_cannot_be_started_again_is_named(guest):
    name = "crk-test-transient.service"
    guest.run(f"systemd-run -q --unit {name} sleep infinity")
    said = kill_in(guest, "freeze", 0, "front", "SIGINT", "tmpfs")
    assert said["status"] == 3, said
    assert f"{name} is transient" in said["output"] and "could be undone" in said["output"], said
    status = json.loads(guest.run("crkexec status --json", check=False).out)
    assert status["left"] == [f"start {name}"]
    guest.run(f"rm -r /run/crkexec/{status['id']}")
    wait_for(lambda: others_run(guest), 60, "the other services run again")
    guest.run("rmdir /run/crkexec", check=False)
    assert "\n".join(changes(guest)) == ""


def test_a_service_that_fails_when_it_is_started_again_is_named(guest):
    name = "crk-test-once.service"
    guest.put(b"[Service]\nExecStart=/bin/sh -c 'test ! -e /run/crk-test-once && "
              b"touch /run/crk-test-once && exec sleep infinity'\n", f"/run/systemd/system/{name}")
    guest.run(f"systemctl daemon-reload; systemctl start {name}")
    said = kill_in(guest, "freeze", 0, "front", "SIGINT", "tmpfs")
    assert said["status"] == 3, said
    status = json.loads(guest.run("crkexec status --json", check=False).out)
    assert status["left"] == [f"started {name}"], status
    log = guest.run(f"cat /var/log/crkexec/{status['id']}.log").out
    assert f"{name} was started again and has failed: systemctl status {name}" in log
    guest.run(f"rm /run/crk-test-once; systemctl start {name}; crkexec recover")
    guest.run(f"systemctl stop {name}; rm /run/crk-test-once /run/systemd/system/{name}; systemctl daemon-reload")
    wait_for(lambda: others_run(guest), 60, "the other services run again")
    assert "\n".join(changes(guest)) == ""


def test_second_upgrade_at_the_same_time_is_refused_with_the_firsts_pid(guest):
    command = upgrade.command(guest, CHOSEN, "--store=tmpfs")
    guest.run(f"""
        LD_PRELOAD={PRELOAD} CRK_TEST_HOLD=1 {command} >/run/crk-test-first 2>&1 & echo $! >/run/crk-test-pid
        for i in $(seq 600); do grep -qsx load /run/crkexec/*/phase && break; sleep 0.05; done
        pkill -STOP -x crkexec-worker""")
    try:
        pid = guest.run("cat /run/crk-test-pid").out.strip()
        refused(guest, "--services", "redis-server", patterns=[rf"under way.*\b{pid}\b"])
        status = guest.run("crkexec status --json")
        assert json.loads(status.out)["state"] == "running"
    finally:
        guest.run("pkill -CONT -x crkexec-worker; pkill -TERM -x crkexec; "
                  "for i in $(seq 600); do pgrep -x crkexec || break; sleep 0.1; done; "
                  "rm -f /run/crk-test-first /run/crk-test-pid", check=False, timeout=90)
    wait_for(lambda: others_run(guest), 60, "the other services run again")
    assert "\n".join(changes(guest)) == ""


def test_counters_and_connections_lived_through_all_of_it(guest, load):
    for client in load.values():
        client.ask_to_end()
    results = [client.finish() for client in load.values()]
    assert [f"{r.name}: {r.errors or r.lost}" for r in results if not r.ok] == []
    lines = upgrade_counter.Lines(guest, "crk-test-plain")
    assert lines.missing_or_doubled() is None


def test_refuses_when_kexec_is_disabled_for_good(guest):
    guest.run("sysctl -q -w kernel.kexec_load_disabled=1")
    try:
        refused(guest, "--services", "redis-server", patterns=["kexec_load_disabled"])
    except CommandError as e:
        pytest.fail(str(e))

"""The new kernel's side alone: both carriers of the early program and adoption by systemd, with
stand-in processes in place of restored ones (standin.py)."""

import re
import time

import pytest

import standin
from standin import Unit
from upgrade import wait_for

UNITS = [
    # A watchdog that bites within seconds, and a restart that would show.
    Unit("sa.service", 300123, settings="WatchdogSec=10\nRestart=on-failure",
         extra="ConditionPathExists=/nonexistent"),
    # A sandbox that hides the helper and makes everything unexecutable but the service.
    Unit("sb.service", 3001, unit_type="simple",
         settings="PrivateTmp=yes\nProtectSystem=strict\nTemporaryFileSystem=/opt\nNoExecPaths=/\n"
                  f"ExecPaths={standin.SERVICE}\nPrivateDevices=yes\n"
                  "SystemCallFilter=@system-service"),
    Unit("sfail.service", 3002, program="fail"),
    Unit("scrash.service", 3003, program="crash"),
    Unit("sdamage.service", 3004, damage=True),
    Unit("send.service", 3005, program="end"),
]


@pytest.fixture(scope="module", params=["own-initramfs", "dracut"])
def guest(request, image, tmp_path_factory):
    """A guest that has gone through the upgrade."""
    import vm as vm_module
    standin.build()
    dest = standin.make_payload(tmp_path_factory.mktemp("payload"))
    run_dir = tmp_path_factory.mktemp("run")
    (run_dir / "state").write_text("carried\n")
    (run_dir / "state").chmod(0o640)
    UNITS[0].run_dir = str(run_dir)
    UNITS[2].run_dir = str(run_dir)
    with vm_module.VM(f"test_adoption/{request.param}", image=image, destdir=dest) as vm:
        for unit in UNITS:
            vm.put(unit.text().encode(), f"/etc/systemd/system/{unit.name}")
        vm.run("systemctl daemon-reload; systemctl enable " + " ".join(u.name for u in UNITS))
        vm.wait_idle()
        vm.carrier = request.param
        vm.before = vm.run("date +%s; ip -br address").out
        base = standin.make_dracut_initrd(vm) if request.param == "dracut" else None
        standin.jump(vm, standin.pack(vm, UNITS, base=base))
        vm.wait_idle()
        yield vm


def show(vm, unit, *names):
    out = vm.run(f"systemctl show {unit} " + " ".join(f"-p {n}" for n in names)).out
    return dict(line.split("=", 1) for line in out.splitlines())


def journal(vm, unit, want=""):
    """The unit's own lines; waits for one that begins with want."""
    for _ in range(120):
        lines = vm.run(f"journalctl -b -u {unit} -o cat -t standin").out.splitlines()
        if any(line.startswith(want) for line in lines):
            return lines
        time.sleep(0.5)
    raise AssertionError(f"no line \"{want}…\" of {unit} in the journal:\n" + "\n".join(lines))


def numbers(lines, who):
    """{pid: [0, 1, 2, …]} of the lines of one counter."""
    found = {}
    for line in lines:
        m = re.fullmatch(rf"{who} (\d+) (\d+)", line)
        if m:
            found.setdefault(int(m[1]), []).append(int(m[2]))
    return found


def test_kernel_is_the_new_one_and_restored_units_keep_their_pids(guest):
    assert guest.run("uname -r").out.strip() == guest.image.versions["7.2"]
    for unit in UNITS[:2]:
        state = show(guest, unit.name, "MainPID", "ActiveState", "SubState", "NRestarts", "Result")
        assert state == {"MainPID": str(unit.pid), "ActiveState": "active", "SubState": "running",
                         "NRestarts": "0", "Result": "success"}


def test_processes_are_children_of_init_in_their_control_group(guest):
    for unit in UNITS[:2]:
        assert guest.run(f"cat /proc/{unit.pid}/cgroup").out.strip() \
            == f"0::/system.slice/{unit.name}"
        assert "PPid:\t1\n" in guest.run(f"cat /proc/{unit.pid}/status").out


def test_failed_crashed_and_damaged_trees_start_cold(guest):
    for unit in UNITS[2:]:
        state = show(guest, unit.name, "MainPID", "ActiveState")
        assert state["ActiveState"] == "active"
        assert int(state["MainPID"]) != unit.pid
        journal(guest, unit.name, "fresh")
    assert "last words of 3005" in journal(guest, "send.service", "last words")


def test_no_line_of_output_is_lost_or_doubled(guest):
    for unit in UNITS[:2]:
        lines = journal(guest, unit.name, f"main {unit.pid} 60")
        assert f"restored {unit.pid}" in lines
        # systemd stops and continues every process before it leaves the initramfs; one that
        # happens to wait sees that.
        assert lines.count("epoll_wait failed") <= (1 if guest.carrier == "dracut" else 0)
        for who in ("main", "thread", "child"):
            counters = numbers(lines, who)
            assert len(counters) == 1, (unit.name, who, list(counters))
            for pid, counted in counters.items():
                assert counted == list(range(len(counted))), (unit.name, who, pid)
                assert len(counted) > 20


def test_settings_of_the_units_are_their_own_again(guest):
    assert show(guest, "sa.service", "Type", "DropInPaths") == {"Type": "notify", "DropInPaths": ""}
    assert show(guest, "sb.service", "Type", "DropInPaths") == {"Type": "simple", "DropInPaths": ""}
    assert guest.run("ls /run/crkexec 2>&1", check=False).rc != 0


def test_nothing_is_left_over(guest):
    # Every process is a zombie for a moment.
    wait_for(lambda: guest.run("ps -eo stat,pid,comm | grep '^Z'", check=False).out == "", 30, "no zombie stays")
    assert guest.run("systemctl --failed --plain --no-legend").out == ""
    assert guest.run("findmnt -n -o TARGET | grep sysroot", check=False).out == ""


def test_new_processes_get_ids_above_the_saved_ones(guest):
    assert int(guest.run("echo $$").out) > 300123


def test_network_is_as_it_was_before(guest):
    before = guest.before.split("\n", 1)[1]
    # Link-local addresses come when links have their carrier.
    wait_for(lambda: guest.run("ip -br address").out == before, 30, f"addresses are again {before}")
    assert int(guest.run("date +%s").out) > int(guest.before.split("\n", 1)[0])


def test_carried_directory_is_back_and_gone_for_a_cold_unit(guest):
    assert guest.run("cat /run/sa.service/state; stat -c %a /run/sa.service/state").out \
        == "carried\n640\n"
    assert guest.run("ls /run/sfail.service", check=False).rc != 0


def test_images_of_a_failed_tree_are_kept_on_disk(guest):
    kept = f"/var/lib/crkexec/failed/{standin.UPGRADE_ID}"
    assert guest.run(f"cat {kept}/sfail.service/0/standin.img").out == "fail\n"
    assert guest.run(f"stat -c %a {kept}").out == "700\n"
    assert guest.run(f"ls {kept}").out.split() == ["scrash.service", "sdamage.service",
                                                   "sfail.service"]


def test_reload_reaches_the_process_and_watchdog_lets_it_live(guest):
    guest.run("systemctl reload sa.service; sleep 12")
    journal(guest, "sa.service", "reloaded")
    assert show(guest, "sa.service", "MainPID", "NRestarts") == {"MainPID": "300123",
                                                                 "NRestarts": "0"}


def test_failure_restarts_from_the_units_own_command(guest):
    guest.run("kill -USR1 300123")
    wait_for(lambda: show(guest, "sa.service", "ActiveState", "NRestarts")
             == {"ActiveState": "active", "NRestarts": "1"}, 60, "it is restarted once")
    state = show(guest, "sa.service", "MainPID")
    journal(guest, "sa.service", "fresh " + state["MainPID"])


def test_restart_and_stop_behave_as_ever(guest):
    guest.run("systemctl restart sb.service")
    state = show(guest, "sb.service", "MainPID", "ActiveState")
    assert state["ActiveState"] == "active" and state["MainPID"] not in ("0", "3001")
    guest.run("systemctl stop sb.service")
    assert guest.run("pgrep -x standin-service -g 0,3001", check=False).out == ""
    journal(guest, "sb.service", "main ends after")

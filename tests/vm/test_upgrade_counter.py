"""The simplest upgrade, twice: services that only count, from Debian 12's 6.1 into 7.2 in the
initramfs, and on to 6.12 in memory of the old kernel. Whatever an upgrade must keep for every service is seen here."""

import pytest

import upgrade
import upgrade_counter
from upgrade import guest_state, left_over, wait_for
from upgrade_checks import held
from upgrade_counter import Lines, PROGRAM
from vm import VM

COUNTERS = {
    "crk-test-plain": (PROGRAM, ""),
    "crk-test-shell": (PROGRAM + "-sh", ""),
    "crk-test-boxed": (PROGRAM, "DynamicUser=yes\nPrivateTmp=yes\nProtectSystem=strict\n"
                       "ProtectHome=yes\nNoNewPrivileges=yes\nPrivateUsers=yes\n"
                       "ProtectHostname=yes\nMemoryMax=100M\nTasksMax=20"),
    "crk-test-large": (PROGRAM + "-large", ""),
    "crk-test-orphans": (PROGRAM + "-orphans", "Type=forking\nPIDFile=/run/crk-test-orphans.pid"),
    "crk-test-private": (PROGRAM, "PrivateNetwork=yes\nPrivateIPC=yes"),
    "crk-test-pids": (PROGRAM + "-threads", "PrivatePIDs=yes"),
}
NAMES = list(COUNTERS)
TIMERS = "crk-test-timers"


def lines_of_boots(vm, name, boots, more_than=0):
    """What the unit wrote, once there is some of each of so many boots and as much as that: a unit may
    write seldom, and the machine may be slow."""
    seen = []

    def all_wrote():
        seen[:] = [Lines(vm, name)]
        return len(set(seen[0].boots)) == boots and len(seen[0].numbers) > more_than
    wait_for(all_wrote, 60, f"{name} has written {more_than} lines and more, in {boots} boots", period=1)
    return seen[0]


@pytest.fixture(scope="module")
def guest(image, payload):
    with VM("test_upgrade_counter/shared", image=image, destdir=payload,
            memory=upgrade.MEMORY, kernel="6.1") as vm:
        vm.wait_idle()
        upgrade_counter.install(vm, {**COUNTERS, TIMERS: (PROGRAM + "-timers", "")})
        for name in NAMES:
            lines_of_boots(vm, name, 1)
        vm.jumps = []
        yield vm


def jump(vm, series, store):
    up = upgrade.Upgrade(vm, [*NAMES, TIMERS], series=series, store=store, load=upgrade.NoClients())
    up.run()
    vm.jumps.append(up)
    return up


@pytest.fixture(scope="module")
def upgraded(guest):
    """The guest in 7.2."""
    if not guest.jumps:
        jump(guest, "7.2", "tmpfs")
    return guest


@pytest.fixture(scope="module")
def back(upgraded):
    """The guest in 6.12; an upgrade of an upgrade."""
    jump(upgraded, "6.12", "pmem")
    return upgraded


def test_units_processes_and_machine_are_as_before(upgraded):
    held(upgraded.jumps[0].troubles())


def test_no_line_of_the_counters_is_lost_or_doubled(upgraded):
    for name in NAMES:
        lines = lines_of_boots(upgraded, name, 2, more_than=2 if name == "crk-test-large" else 50)
        assert lines.missing_or_doubled() is None, name
        # What was written before the adoption reaches the journal through the adopting helper.
        assert int(upgraded.jumps[0].before["units"][name]["MainPID"]) in lines.pids
        assert len(set(lines.pids)) <= 2
        assert lines.units == {f"{name}.service"}
        assert len(lines.identifiers) == 1


def test_clocks_of_the_restored_go_on_with_the_time_of_the_world(upgraded):
    for name in ("crk-test-plain", "crk-test-boxed"):
        lines = lines_of_boots(upgraded, name, 2)
        steps = list(zip(zip(lines.monotonic, lines.realtime),
                         zip(lines.monotonic[1:], lines.realtime[1:])))
        for (mono, real), (mono_next, real_next) in steps:
            assert mono_next >= mono and real_next >= real, name
        # The greatest step is the blackout: both clocks saw all of it.
        (mono, real), (mono_next, real_next) = max(steps, key=lambda s: s[1][1] - s[0][1])
        # README, Limits: the wall clock may be a second off here.
        assert abs((mono_next - mono) - (real_next - real)) < 1.2, name


def test_timers_go_on_with_the_time_they_had_left(upgraded):
    period = upgrade_counter.PERIOD
    report = upgraded.jumps[0].report
    back = max(u["restored_at_usec"] for u in report["units"]) / 1e6
    seen = []

    def errors(name):
        """One that expired in the blackout comes when that is over; those after it are in time again."""
        return [(t + period / 2) % period - period / 2 for other, _, t, now in seen
                if other == name and now > back + period]

    def all_ticked():
        seen[:] = upgrade_counter.ticks(upgraded, TIMERS)
        return all(len(errors(name)) > 2 for name in ("monotonic", "boottime", "itimer"))
    wait_for(all_ticked, 120, "each timer has expired three times", period=1)
    for name in ("monotonic", "boottime", "itimer"):
        # The best counts: any may be late on a busy machine, none comes too early.
        assert min(map(abs, errors(name))) < 1.2, (name, seen)
    # Nothing that expired meanwhile is forgotten.
    for name in ("monotonic", "boottime"):
        n, t = max((n, t) for other, n, t, _ in seen if other == name)
        assert abs(t - n * period) < period, (name, seen)


def test_waits_for_events_end_when_they_would_have(upgraded):
    back = max(u["restored_at_usec"] for u in upgraded.jumps[0].report["units"]) / 1e6
    wait = upgrade_counter.WAIT
    seen = []

    def spanned():
        """Those that began before the blackout and ended after it."""
        seen[:] = upgrade_counter.waits(upgraded, TIMERS)
        return [(lasted, end) for lasted, end in seen if end - lasted < back < end]
    wait_for(lambda: len(spanned()) >= 2, 120, "both have ended", period=1)
    for lasted, end in spanned():
        # What began anew would last eight seconds longer, for one of them at least.
        assert wait - 1.2 < lasted and end < max(end - lasted + wait, back) + 4, seen


def test_status_shows_the_unit_running_with_its_output(upgraded):
    pid = upgraded.jumps[0].before["units"]["crk-test-plain"]["MainPID"]
    lines_of_boots(upgraded, "crk-test-plain", 2)
    text = upgraded.run("systemctl status crk-test-plain").out
    assert "active (running)" in text and f"Main PID: {pid} " in text
    # Output of this boot, not only of the old one.
    assert "count " in text


def test_processes_of_a_pid_namespace_have_their_ids_inside_and_outside(upgraded):
    unit = upgraded.jumps[0].before["units"]["crk-test-pids"]
    assert len(unit["processes"]) == 2
    for pid in unit["processes"]:
        assert upgraded.jumps[0].after["units"]["crk-test-pids"]["processes"][pid]["ids"] == \
            unit["processes"][pid]["ids"]
    ids = unit["processes"][unit["MainPID"]]["ids"]
    assert ids["NSpid"] == [unit["MainPID"], "1"] and ids["NSsid"][1] == "0"
    assert unit["processes"][unit["MainPID"]]["threads"] == 3


def test_limits_of_the_unit_hold_for_the_restored_processes(upgraded):
    group = "/sys/fs/cgroup/system.slice/crk-test-boxed.service"
    assert upgraded.run(f"cat {group}/memory.max {group}/pids.max").out == "104857600\n20\n"
    assert int(upgraded.run(f"cat {group}/memory.current").out) > 1 << 20


def test_second_upgrade_back_through_pmem_keeps_everything_again(back):
    up = back.jumps[1]
    held(up.troubles())
    assert up.report["store"] == "pmem"
    for name in NAMES:
        lines = lines_of_boots(back, name, 3)
        assert lines.missing_or_doubled() is None, name
        assert lines.pids[0] == lines.pids[-1] == int(up.before["units"][name]["MainPID"])


def test_memory_taken_for_the_store_is_given_back(back):
    first = back.jumps[0].before["memory"]

    def is_back():
        last = guest_state(back)["memory"]
        return last["HugePages_Total"] == first["HugePages_Total"] and \
            last["MemTotal"] >= first["MemTotal"] - 16 * 1024
    wait_for(is_back, 60, "all of it is the system's")


def test_restart_stop_and_start_behave_as_ever(back):
    pid = back.jumps[1].before["units"]["crk-test-plain"]["MainPID"]
    back.run("systemctl restart crk-test-plain")
    new = back.run("systemctl show -P MainPID crk-test-plain").out.strip()
    assert new not in ("0", pid)
    assert back.run(f"test -e /proc/{pid}", check=False).rc != 0
    back.run("systemctl stop crk-test-shell crk-test-boxed")
    assert back.run("systemctl is-active crk-test-shell crk-test-boxed", check=False).out \
        == "inactive\ninactive\n"
    group = "/sys/fs/cgroup/system.slice/crk-test-boxed.service"
    assert back.run(f"cat {group}/cgroup.procs", check=False).out == ""
    back.run("systemctl start crk-test-boxed")
    assert back.run("systemctl is-active crk-test-boxed").out == "active\n"
    assert left_over(guest_state(back)) == []


def test_a_killed_process_is_noticed_and_restarted_by_its_own_unit(upgraded):
    # Whatever kernel it is in by now.
    upgraded.run("mkdir -p /run/systemd/system/crk-test-plain.service.d; printf "
                 "'[Service]\\nRestart=always\\nRestartSec=0\\n' "
                 ">/run/systemd/system/crk-test-plain.service.d/restart.conf;"
                 "systemctl daemon-reload; systemctl kill -s KILL crk-test-plain")
    wait_for(lambda: upgraded.run("systemctl show -p NRestarts -p ActiveState --value crk-test-plain").out
             == "1\nactive\n", 60, "it is restarted once")

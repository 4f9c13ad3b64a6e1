"""What every test of an upgrade of redis and nginx asserts; a class per service."""

import re

import pytest

from upgrade import guest_state, left_over, wait_for
from vm import GUEST_V4, GUEST_V6

__all__ = ["Held", "held", "no_trouble"]


def held(troubles):
    """Shows them one a line."""
    if troubles:
        pytest.fail("\n".join(troubles), pytrace=False)


def no_trouble(up, name):
    """The client's result, which must be in order."""
    result = next(r for r in up.results if r.name == name)
    assert result.ok, f"{name}: {result.as_json()}"
    return result


class Held:
    """Mixed into a test class, last; its fixture `up` is an Upgrade that has run. No test
    outside this class may need what the others' last tests change: pytest's order of
    inherited tests differs between versions, except that these come first."""
    into_the_same = False       # kernel, by its name

    def test_kernel_was_replaced(self, up):
        held(up.kernel_troubles())
        assert (up.before["kernel"] == up.after["kernel"]) == self.into_the_same
        assert up.before["boot_id"] != up.after["boot_id"]

    def test_units_kept_processes_state_and_control_groups(self, up):
        held(up.unit_troubles())

    def test_rest_of_the_machine_is_as_it_was(self, up):
        held(up.host_troubles())

    def test_nothing_is_left_over(self, up):
        held(left_over(up.after))

    def test_report_accounts_for_every_unit(self, up):
        held(up.report_troubles())
        for unit in up.report["units"]:
            wanted = up.before["units"][unit["name"].removesuffix(".service")]
            assert str(unit["main_pid"]) == wanted["MainPID"]
            assert unit["processes"] == len(wanted["processes"])
            assert unit["connections"] > 0 and unit["unaccepted"] == 0

    def test_every_client_kept_its_connection_and_lost_nothing(self, up):
        assert up.results
        held(up.client_troubles())

    def test_clients_really_waited_through_the_jump(self, up):
        """Or they would prove nothing."""
        blackout = max(u["blackout_usec"] for u in up.report["units"]) / 1e6
        busy = [r for r in up.results if r.gap]
        assert busy
        for result in busy:
            if "BLPOP" not in result.name:
                assert result.gap > blackout / 3, result.name

    def test_new_connections_were_answered_after_the_blackout(self, up):
        for result in up.results:
            if "longest_attempt" in result.details:
                assert result.details["longest_attempt"] > 1
                assert result.kept == result.connections > 10

    def test_unit_is_shown_with_its_old_process_by_systemctl_status(self, up):
        for name in up.services:
            text = up.vm.run(f"systemctl status {name}").out
            pid = up.before["units"][name]["MainPID"]
            assert "active (running)" in text and re.search(rf"Main PID: {pid}\b", text), text


class RedisHeld:
    def test_time_limit_of_a_blocked_client_ran_on(self, up):
        counter = no_trouble(up, "redis counter")
        rounds = []
        for client in up.load["redis BLPOP 30"], up.load["redis BLPOP 25"]:
            client.check_times(counter.gap_end)
            held(client.result.errors)
            rounds += client.rounds
        # Nothing is answered in the blackout: what ended later than its middle ended after it. The end of
        # the counter's gap says less: TCP repeats what its client has sent at ever longer intervals.
        frozen = counter.gap_end - counter.gap
        middle = frozen + max(u["blackout_usec"] for u in up.report["units"]) / 2e6
        assert any(begin < frozen and end > middle for begin, end in rounds), \
            f"no round was under way over the jump: {rounds}, which was from {frozen} till after {middle}"

    def test_peer_that_never_stopped_sending_has_an_exact_stream(self, up):
        for name in ("redis sender", "redis sender v6"):
            result = no_trouble(up, name)
            # It went on in the blackout: what it sent then was not yet answered.
            assert result.details["in_flight_at_most"] > 20

    def test_redis_reloads_restarts_and_stops_as_ever(self, up):
        vm, pid = up.vm, up.before["units"]["redis-server"]["MainPID"]
        sock = vm.connect(6379)
        sock.sendall(b"SET crk:last 1\r\nCONFIG GET maxmemory\r\n")
        assert sock.recv(5) == b"+OK\r\n"
        sock.close()
        vm.run("systemctl restart redis-server", timeout=120)
        state = guest_state(vm, ["redis-server"])["units"]["redis-server"]
        assert state["ActiveState"] == "active" and state["MainPID"] != pid
        assert vm.run(f"test -e /proc/{pid}", check=False).rc != 0
        # Its data came from its last save, which is redis' own affair; it answers.
        with vm.connect(6379, GUEST_V6, retry=30) as sock:
            sock.sendall(b"PING\r\n")
            assert sock.recv(64) == b"+PONG\r\n"
        vm.run("systemctl stop redis-server", timeout=120)
        assert vm.run("systemctl is-active redis-server", check=False).out == "inactive\n"
        assert vm.run("pgrep redis-server", check=False).rc == 1

        def log():
            return vm.run("journalctl --no-pager -u redis-server").out
        wait_for(lambda: log().count("Stopped redis-server") > 1, 60, "the journal has its end")
        assert log().count("Stopped redis-server") == 2, log()


class NginxHeld:
    def test_download_was_in_the_middle_when_the_kernel_changed(self, up):
        for name in ("nginx download", "nginx download v6"):
            result = no_trouble(up, name)
            assert 0 < result.details["bytes_before_the_end"] < result.details["bytes"] == 64 << 20

    def test_nginx_reloads_restarts_and_stops_as_ever(self, up):
        vm, pid = up.vm, up.before["units"]["nginx"]["MainPID"]
        workers = set(up.before["units"]["nginx"]["processes"]) - {pid}
        vm.run("systemctl reload nginx")
        wait_for(lambda: not workers & set(guest_state(vm, ["nginx"])["units"]["nginx"]["processes"]), 60,
                 "the workers are replaced")
        state = guest_state(vm, ["nginx"])["units"]["nginx"]
        assert state["MainPID"] == pid, "a reload keeps the master"
        vm.run("systemctl restart nginx", timeout=120)
        state = guest_state(vm, ["nginx"])["units"]["nginx"]
        assert state["ActiveState"] == "active" and state["MainPID"] != pid
        vm.connect(80, GUEST_V4, retry=30).close()
        vm.run("systemctl stop nginx", timeout=120)
        assert vm.run("systemctl is-active nginx", check=False).out == "inactive\n"
        assert vm.run("pgrep nginx; ls /run/nginx.pid", check=False).out == ""

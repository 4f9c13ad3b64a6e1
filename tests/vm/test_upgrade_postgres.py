"""PostgreSQL and redis by the names an administrator would say: a server of several processes with
System V and POSIX shared memory, transactions under way and state of sessions."""

import json

import pytest

import upgrade
from clients import Load
from upgrade import guest_state, wait_for
from upgrade_checks import Held, no_trouble
from vm import GUEST_V4, VM

UNITS = ["redis-server", "postgresql@17-main"]
NAMED = ["redis-server", "postgresql"]      # postgresql.service runs nothing itself


@pytest.fixture(scope="module", params=["pmem", "tmpfs"])
def up(request, image, payload):
    with VM(f"test_upgrade_postgres/{request.param}", image=image, destdir=payload,
            memory=upgrade.MEMORY) as vm:
        vm.wait_idle()
        vm.run("systemctl enable -q --now postgresql", timeout=120)
        up = upgrade.Upgrade(vm, UNITS, store=request.param, load=Load(vm, NAMED), named=NAMED)
        check = vm.run(upgrade.command(vm, ["postgresql"], "--dry-run", "--json"), timeout=120)
        up.planned = json.loads(check.out)
        yield up.run()


class TestPostgres(Held):
    def test_service_without_processes_stands_for_the_units_that_are_part_of_it(self, up):
        assert [u["name"] for u in up.planned["units"]] == ["postgresql@17-main.service"]

    def test_open_transaction_with_its_cursor_and_locks_went_on(self, up):
        no_trouble(up, "postgres transaction")

    def test_every_acknowledged_transaction_is_there(self, up):
        for name in ("postgres counter", "postgres counter v6"):
            assert no_trouble(up, name).answered > 50

    def test_nothing_of_a_recovery_is_in_the_log(self, up):
        log = up.vm.run("cat /var/log/postgresql/postgresql-17-main.log").out
        for bad in ("PANIC", "FATAL", "not properly shut down", "terminated"):
            assert bad not in log, log

    def test_postgres_restarts_and_stops_as_ever(self, up):
        vm, pid = up.vm, up.before["units"][UNITS[1]]["MainPID"]
        segments = "ipcs -m | grep -c postgres"
        assert vm.run(segments).out == "1\n"
        vm.run(f"systemctl restart {UNITS[1]}", timeout=120)
        state = guest_state(vm, [UNITS[1]])["units"][UNITS[1]]
        assert state["ActiveState"] == "active" and state["MainPID"] != pid
        vm.connect(5432, GUEST_V4, retry=30).close()
        assert vm.run(segments).out == "1\n"
        # The jobs of its parts are not waited for.
        vm.run("systemctl stop postgresql", timeout=120)
        wait_for(lambda: vm.run(f"systemctl is-active {UNITS[1]}", check=False).out == "inactive\n",
                 60, "the cluster is stopped")
        assert vm.run(segments, check=False).out == "0\n"
        log = vm.run("cat /var/log/postgresql/postgresql-17-main.log").out
        assert log.count("database system is shut down") >= 2 and "not properly" not in log

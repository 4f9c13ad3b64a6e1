"""redis alone, through memory of the old kernel; nginx is stopped and comes back with the boot."""

import pytest

import upgrade
from upgrade_checks import Held, RedisHeld
from vm import VM


@pytest.fixture(scope="module")
def up(image, payload):
    with VM("test_upgrade_redis/shared", image=image, destdir=payload,
            memory=upgrade.MEMORY) as vm:
        yield upgrade.Upgrade(vm, ["redis-server"], store="pmem").run()


class TestRedis(RedisHeld, Held):
    def test_service_that_was_not_chosen_was_stopped_and_started(self, up):
        log = up.vm.run("journalctl --no-pager -u nginx").out
        assert log.count("Stopped nginx") == 1 and log.count("Started nginx") == 2
        assert up.vm.run("systemctl is-active nginx").out == "active\n"

"""The main job: redis and nginx with all their clients, through either store."""

import pytest

import upgrade
from upgrade_checks import Held, NginxHeld, RedisHeld
from vm import VM


@pytest.fixture(scope="module", params=["pmem", "tmpfs"])
def up(request, image, payload):
    with VM(f"test_upgrade_both/{request.param}", image=image, destdir=payload,
            memory=upgrade.MEMORY) as vm:
        yield upgrade.Upgrade(vm, store=request.param).run()


class TestBoth(RedisHeld, NginxHeld, Held):
    def test_store_is_the_one_that_was_asked_for(self, up):
        assert up.report["store"] == up.options[0].removeprefix("--store=")

    def test_services_answer_before_systemd_starts(self, up):
        """Restored in the initramfs: PID 1 of the new boot found them running."""
        started = up.vm.run("systemctl show --timestamp=unix -P UserspaceTimestamp").out
        for unit in up.report["units"]:
            # Given in whole seconds.
            assert unit["restored_at_usec"] / 1e6 < int(started.strip()[1:]) + 1, (unit, started)

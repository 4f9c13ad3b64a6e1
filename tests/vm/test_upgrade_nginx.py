"""nginx alone, from Debian 12's 6.1 to 6.1; redis is stopped, saves, and comes back with the boot."""

import pytest

import upgrade
from upgrade_checks import Held, NginxHeld
from vm import VM


@pytest.fixture(scope="module", params=["tmpfs", "pmem"])
def up(request, image, payload):
    with VM(f"test_upgrade_nginx/{request.param}", image=image, destdir=payload,
            memory=upgrade.MEMORY, kernel="6.1") as vm:
        vm.wait_idle()
        with vm.connect(6379, retry=60) as sock:
            sock.sendall(b"SET crk:kept yes\r\n")
            assert sock.recv(64) == b"+OK\r\n"
        yield upgrade.Upgrade(vm, ["nginx"], store=request.param, series="6.1").run()


class TestNginx(NginxHeld, Held):
    into_the_same = True

    def test_service_that_was_not_chosen_ended_orderly(self, up):
        with up.vm.connect(6379, retry=60) as sock:
            sock.sendall(b"GET crk:kept\r\n")
            assert sock.recv(64) == b"$3\r\nyes\r\n"

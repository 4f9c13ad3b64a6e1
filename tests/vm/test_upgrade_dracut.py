"""The second carrier: the early program inside the distribution's initramfs (dracut)."""

import pytest

import upgrade
from upgrade_checks import Held, NginxHeld, RedisHeld
from vm import VM

INITRD = "/boot/initrd-crkexec.img"


@pytest.fixture(scope="module", params=["tmpfs", "pmem"])
def up(request, image, payload):
    with VM(f"test_upgrade_dracut/{request.param}", image=image, destdir=payload,
            memory=upgrade.MEMORY) as vm:
        vm.wait_idle()
        version = vm.image.versions["7.2"]
        vm.run(f"dracut --quiet --force --add crkexec --kver {version} {INITRD}", timeout=600)
        assert "crkexec-early" in vm.run(f"lsinitrd {INITRD} | grep crkexec", timeout=120).out
        yield upgrade.Upgrade(vm, options=["--initrd", INITRD], store=request.param).run()


class TestDracut(RedisHeld, NginxHeld, Held):
    def test_distributions_initramfs_has_run(self, up):
        log = up.vm.run("journalctl --no-pager -b").out
        assert "initrd-switch-root" in log

"""What the new kernel's side does when it has nothing to restore from, or nothing to boot."""

import pytest

import standin
from standin import Unit

UNIT = Unit("sa.service", 3001)


@pytest.fixture
def guest(start_vm, tmp_path):
    standin.build()
    vm = start_vm(destdir=standin.make_payload(tmp_path / "payload"))
    vm.put(UNIT.text().encode(), f"/etc/systemd/system/{UNIT.name}")
    vm.run(f"systemctl daemon-reload; systemctl enable {UNIT.name}")
    return vm


def is_started_cold(vm):
    vm.wait_idle()
    out = vm.run(f"systemctl show {UNIT.name} -p ActiveState -p MainPID").out
    return "ActiveState=active" in out and "MainPID=3001" not in out


def test_damaged_manifest_boots_cold_by_the_kernels_own_root_argument(guest):
    initramfs = standin.pack(guest, [UNIT])
    assert initramfs.count(b'"kernel_from"') == 1
    standin.jump(guest, initramfs.replace(b'"kernel_from"', b'"kernel_frOm"'))
    assert guest.run("uname -r").out.strip() == guest.image.versions["7.2"]
    assert is_started_cold(guest)
    said = guest.run("journalctl -b -t crkexec -o cat").out
    assert "nothing restored: manifest: " in said and "damaged" in said
    # The same guest once more: a manifest of another upgrade than the one that boots.
    standin.jump(guest, standin.pack(guest, [UNIT]), upgrade_id="1111111111111111")
    assert is_started_cold(guest)
    assert "is of upgrade 00c0ffee00c0ffee" in guest.run("journalctl -b -t crkexec -o cat").out


def test_missing_root_filesystem_says_so_and_reboots(guest):
    initramfs = standin.pack(guest, [UNIT], root="UUID=00000000-0000-0000-0000-000000000000")
    mark = guest.console.mark()
    # QEMU's own kernel comes back after the reboot.
    standin.jump(guest, initramfs, append="root=/dev/nonexistent panic=3")
    guest.wait_console(r"crkexec: cannot boot: root filesystem: .*UUID=00000000", since=mark)
    assert guest.run("uname -r").out.strip() == guest.image.versions["6.12"]
    assert is_started_cold(guest)

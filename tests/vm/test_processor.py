"""What only some processors have, and a kernel may be told not to use: memory above 47 bits, protection keys, AVX,
FSGSBASE. It goes along with an upgrade; where it is missing a restore refuses before it has made anything,
and `crkexec check` knows it before the jump."""

import shutil

import pytest

import upgrade
from test_makers import PLACE, make_payload
from upgrade_checks import held
from vm import VM

MAKERS = f"/{PLACE}/build/make"
IMAGES = "/var/tmp/images"
UNIT = f"""
[Service]
ExecStartPre=/sbin/sysctl -w vm.nr_hugepages=8
WorkingDirectory=/var/tmp
ExecStart={MAKERS}/memory_high /var/tmp/high-result
"""


@pytest.fixture(scope="module")
def guest(image, payload, tmp_path_factory):
    dest = tmp_path_factory.mktemp("processor") / "payload"
    shutil.copytree(payload, dest, symlinks=True)
    make_payload(dest)
    with VM("test_processor/shared", image=image, destdir=dest, memory=upgrade.MEMORY, cpu="max") as vm:
        vm.wait_idle()
        yield vm


def wait_said(vm, place, words):
    vm.run(f"until grep -qE '^({words}|FAIL|SKIP)' {place}; do sleep 0.1; done 2>/dev/null; "
           f"grep -qE '^({words})' {place} || {{ cat {place}; exit 1; }}")


def start(vm, name):
    place = f"{IMAGES}/{name}"
    vm.run(f"mkdir -p {place}/pre; cd {place}; "
           f"setsid {MAKERS}/{name} {place}/result </dev/null >output 2>&1 &")
    wait_said(vm, f"{place}/result", "ready")
    return place


def save(vm, *names):
    """What these makers have, on the disk, copied in two rounds; with pids that nobody has in another boot."""
    vm.run("sysctl -q vm.nr_hugepages=8 kernel.ns_last_pid=30000")
    for name in names:
        place = start(vm, name)
        vm.run(f"cr pre-dump -t $(pgrep -o -x {name}) -D {place}/pre -o dump.log --track-mem && "
               f"cr dump -t $(pgrep -o -x {name}) -D {place} -o dump.log --prev-images-dir pre && sync")


def save_at_once(vm, name):
    """In one round: a poll(2) with a time-out that is interrupted twice ends with EINTR (README, Limits)."""
    vm.run("sysctl -q kernel.ns_last_pid=30000")
    place = start(vm, name)
    vm.run(f"cr dump -t $(pgrep -o -x {name}) -D {place} -o dump.log && sync")


def boot(vm, words):
    """Into the same kernel by kexec, with these words on its command line."""
    version = vm.image.versions[vm.kernel]
    vm.run(f"kexec -s -l /boot/vmlinuz-{version} --initrd=/boot/initrd.img-{version} "
           f"--command-line=\"$(sed -E 's/ (no5lvl|clearcpuid).*//' /proc/cmdline) {words}\"")
    vm.run_until_restart("systemctl kexec")
    vm.wait_idle()


def restored(vm, name):
    done = vm.run(f"cd {IMAGES}/{name} && cr restore -d -D . -o restore.log --pidfile pid", check=False)
    return done.rc, done.err + vm.run(f"cat {IMAGES}/{name}/restore.log").out


def refusal(vm, name):
    rc, text = restored(vm, name)
    assert rc == 1 and vm.run(f"pgrep -x {name}", check=False).rc == 1, text
    assert "restore failed (images)" in text, text
    return text


def test_memory_above_47_bits_goes_along_with_an_upgrade(guest):
    guest.put(UNIT.encode(), "/etc/systemd/system/high.service")
    guest.run("systemctl daemon-reload && systemctl start high")
    wait_said(guest, "/var/tmp/high-result", "ready")
    version = guest.image.versions["7.2"]
    for option, found in (("", False), ("--append no5lvl", True)):
        done = guest.run(f"crkexec check --services high --kernel {version} {option}", check=False)
        text = done.out + done.err
        assert ("is above 47 bits, and the target kernel is told no5lvl" in text) == found, text
        assert bool(done.rc) == found, text
    up = upgrade.Upgrade(guest, ["high"], series="7.2", load=upgrade.NoClients())
    up.run()
    held(up.troubles())
    guest.kernel = "7.2"
    guest.run("systemctl kill -s USR1 --kill-whom=main high")
    wait_said(guest, "/var/tmp/high-result", "ok")


def test_a_kernel_that_does_not_use_what_the_images_need_refuses_them(guest):
    save(guest, "memory_high", "pkeys_orphan", "registers")
    boot(guest, "no5lvl nopku")
    assert "lies above 47 bits" in refusal(guest, "memory_high")
    assert "protection keys" in refusal(guest, "pkeys_orphan")
    assert "comes from a processor with protection keys" in refusal(guest, "registers")
    boot(guest, "clearcpuid=avx nofsgsbase")
    assert "comes from a processor with AVX" in refusal(guest, "registers")
    save_at_once(guest, "threads")
    boot(guest, "")
    # And from less to more.
    for name in ("memory_high", "pkeys_orphan", "registers", "threads"):
        rc, text = restored(guest, name)
        assert rc == 0, text
        guest.run(f"kill -USR1 $(cat {IMAGES}/{name}/pid)")
        wait_said(guest, f"{IMAGES}/{name}/result", "ok")

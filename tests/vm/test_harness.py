"""The VM harness itself: what every other VM test builds on."""

import hashlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import vm_image
from vm import (GUEST_V4, GUEST_V6, VM, AgentError, AgentLost, CommandError, ConsoleError, VMError)
from vm_net import remove_stale


def make_payload(dest):
    """A tree with a drop-in for a stock unit, and a directory mode that / must not take over."""
    dropin = dest / "etc/systemd/system/nginx.service.d/probe.conf"
    dropin.parent.mkdir(parents=True)
    dropin.write_text("[Service]\nExecStartPre=/usr/bin/touch /run/crk-probe-ran\n")
    unit = dest / "usr/lib/systemd/system/crk-probe.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nType=oneshot\nExecStart=true\n")
    tool = dest / "usr/bin/crk-probe"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho probe\n")
    tool.chmod(0o755)
    (dest / "usr").chmod(0o700)
    return dest


@pytest.fixture(scope="module")
def guest(request, image, tmp_path_factory):
    """One VM for the tests that only look at it."""
    dest = make_payload(tmp_path_factory.mktemp("payload"))
    with VM("test_harness/shared", image=image, destdir=dest) as vm:
        yield vm


def redis_ping(vm, address, **kwargs):
    with vm.connect(6379, address, **kwargs) as sock:
        sock.sendall(b"PING\r\n")
        return sock.recv(64)


def http_get(vm, path, address=GUEST_V4, **kwargs):
    connection = http.client.HTTPConnection(address)
    connection.sock = vm.connect(80, address, **kwargs)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def namespaces():
    return set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()


# --- one guest, looked at -----------------------------------------------------------------

def test_guest_boots_the_suites_kernel_and_reaches_a_running_system(guest):
    assert guest.run("uname -r").out.strip() == guest.image.versions["6.12"]
    assert guest.wait_idle() == "running"


def test_agent_keeps_output_errors_and_status_apart(guest):
    result = guest.run("echo out; echo err >&2; exit 7", check=False)
    assert (result.rc, result.out, result.err) == (7, "out\n", "err\n")
    assert guest.run("cat", stdin=b"given").out == "given"
    with pytest.raises(CommandError, match="exit status 7"):
        guest.run("exit 7")


def test_command_over_its_time_limit_is_killed_and_blocks_nobody(guest):
    began = time.monotonic()
    with pytest.raises(CommandError, match="still running"):
        guest.run("sleep 4711", timeout=1)
    assert guest.run("echo next").out == "next\n"
    assert guest.run("pgrep -f 'sleep 471[1]'", check=False).rc == 1
    assert time.monotonic() - began < 60


def test_files_travel_both_ways_whole(guest, tmp_path):
    data = os.urandom(1_000_003)
    local = tmp_path / "data"
    local.write_bytes(data)
    local.chmod(0o750)
    guest.put(local, "/var/tmp/new/dir/data")
    assert guest.run("stat -c '%a %s' /var/tmp/new/dir/data").out == "750 1000003\n"
    assert guest.fetch("/var/tmp/new/dir/data") == data
    guest.put(b"", "/var/tmp/new/dir/data")
    assert guest.fetch("/var/tmp/new/dir/data") == b""
    with pytest.raises(AgentError, match="FileNotFoundError"):
        guest.fetch("/no/such/file")


def has_payload(vm):
    vm.wait_idle()
    assert vm.run("crk-probe").out == "probe\n"
    assert vm.run("systemctl is-active nginx").out == "active\n"
    assert vm.run("systemctl show -P LoadState crk-probe").out == "loaded\n"
    assert vm.run("stat -c '%a %U' /usr").out == "755 root\n"


def test_payload_is_there_where_a_guest_goes_on(guest):
    has_payload(guest)


def test_guest_goes_on_at_the_right_time(guest):
    for clock in ("date +%s", "cat /sys/class/rtc/rtc0/since_epoch"):
        before = time.time()
        shown = int(guest.run(clock).out)
        assert int(before) - 5 <= shown <= time.time() + 5, clock


def test_tree_can_be_installed_into_the_running_guest(guest, tmp_path):
    tool = tmp_path / "usr/bin/crk-late"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho late\n")
    tool.chmod(0o755)
    guest.install(tmp_path)
    assert guest.run("crk-late").out == "late\n"


@pytest.mark.parametrize("address", [GUEST_V4, GUEST_V6])
def test_redis_answers_clients_outside_the_guest(guest, address):
    assert redis_ping(guest, address, retry=60) == b"+PONG\r\n"


def test_nginx_serves_the_big_file_to_the_outside(guest):
    status, body = http_get(guest, "/big.bin", retry=60)
    assert status == 200
    assert hashlib.sha256(body).digest() == hashlib.sha256(vm_image.big_file()).digest()


def test_processes_of_the_tester_live_in_the_vms_network(guest):
    out = guest.net.run(["ip", "-o", "-4", "address"], stdout=subprocess.PIPE, text=True).stdout
    assert "10.77.0.1/24" in out
    ping = guest.popen_in_net([sys.executable, "-c",
                               f"import socket; socket.create_connection(('{GUEST_V4}', 80), 20)"])
    assert ping.wait(30) == 0


def test_console_wait_that_is_not_met_shows_the_last_lines(guest):
    guest.run("echo 'crk-probe was here' >/dev/kmsg")
    guest.wait_console("crk-probe was here", timeout=30)
    with pytest.raises(ConsoleError, match="crk-probe was here"):
        guest.wait_console("no such line", timeout=0.1)


# --- guests that restart --------------------------------------------------------------------

def test_plain_kexec_brings_up_the_other_kernel_and_a_reboot_the_first(start_vm):
    vm = start_vm()
    vm.wait_idle()
    vm.run("echo kept >/root/kept")
    mark = vm.console.mark()
    hello = vm.kexec("7.2")
    assert hello["kernel"] == vm.image.versions["7.2"]
    assert vm.run("uname -r").out.strip() == vm.image.versions["7.2"]
    jump, _ = vm.wait_console("Starting new kernel", since=mark)
    up, match = vm.wait_console(r"Linux version (\S+)", since=mark)
    assert up > jump and match[1] == vm.image.versions["7.2"]
    assert redis_ping(vm, GUEST_V4, retry=60) == b"+PONG\r\n"
    assert http_get(vm, "/", retry=60) == (200, b"crkexec test guest\n")

    assert vm.reboot()["kernel"] == vm.image.versions["6.12"]
    assert vm.run("cat /root/kept").out == "kept\n"
    vm.close()
    boots = (vm.log_dir / "journal.txt").read_text().count("Linux version")
    assert boots == 3


def test_payload_is_in_place_before_services_start(start_vm, tmp_path):
    vm = start_vm(destdir=make_payload(tmp_path), boot=True)
    has_payload(vm)
    vm.run("test -e /run/crk-probe-ran")


def test_request_under_way_is_reported_lost_and_a_panic_at_once(start_vm):
    vm = start_vm()
    with pytest.raises((AgentLost, VMError), match="panicked"):
        vm.run("echo c >/proc/sysrq-trigger; sleep 600", timeout=120)
    with pytest.raises(VMError, match="panicked"):
        vm.wait_agent(not_boot_id=vm.boot_id(), timeout=120)


# --- what a harness leaves behind -------------------------------------------------------------

def test_closed_vm_leaves_no_process_and_no_namespace(image):
    vm = VM("test_harness/closed", image=image)
    vm.start(wait=False)
    pid, tmp, name = vm.qemu.pid, vm._tmp, vm.net.name
    assert name in namespaces()
    vm.close()
    assert name not in namespaces()
    assert not os.path.exists(f"/proc/{pid}") and not os.path.exists(tmp)


def test_killed_harness_takes_its_qemu_along_and_the_next_removes_its_namespace(image):
    program = ("import sys, time; sys.path.insert(0, sys.argv[1]); from vm import VM\n"
               "vm = VM('test_harness/killed'); vm.start(wait=False)\n"
               "print(vm.qemu.pid, vm.net.name, flush=True); time.sleep(600)")
    harness = subprocess.Popen([sys.executable, "-c", program, str(Path(__file__).parent)],
                               stdout=subprocess.PIPE, text=True)
    pid, name = harness.stdout.readline().split()
    assert name in namespaces() and os.path.exists(f"/proc/{pid}")
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    harness.stdout.close()
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}")
    remove_stale()
    assert name not in namespaces()
    assert not list(Path(tempfile.gettempdir()).glob(f"crk-vm-{harness.pid}-*"))


def test_image_builders_at_the_same_time_agree_on_one_image(image):
    builders = [subprocess.Popen([vm_image.ROOT / "scripts" / "guest-image"],
                                 stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {b.communicate()[0].strip() for b in builders}
    assert outputs == {str(image.dir)}

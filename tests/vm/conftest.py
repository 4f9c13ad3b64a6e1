"""Fixtures of the VM tests.  Run with Debian's /usr/bin/python3 -m pytest."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (0, 1)]

pytest.register_assert_rewrite("upgrade_checks")

import vm as vm_module          # noqa: E402  (the path comes first)
import vm_image                 # noqa: E402


def pytest_configure(config):
    # So that a test run that is terminated still removes its VMs and namespaces.
    def interrupt(_signum, _frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)


def log_name(node):
    """build/vm-logs/<file>/<test> for a test, build/vm-logs/<file>/shared for a module."""
    name = node.name if isinstance(node, pytest.Function) else "shared"
    return Path(node.nodeid.split("::")[0]).stem + "/" + name


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    logs = [str(vm.log_dir) for vm in getattr(item, "vms", [])]
    if report.failed and logs:
        report.sections.append(("VM logs", "\n".join(logs)))


@pytest.fixture(scope="session")
def image():
    if os.geteuid() != 0:
        pytest.fail("VM tests need root (network namespaces, the guest's root filesystem)")
    if not os.path.exists("/dev/net/tun"):
        pytest.fail("this machine has no /dev/net/tun (modprobe tun)")
    return vm_image.build()


@pytest.fixture(scope="session")
def payload(image):
    """What "make install" installs, as a tree for VM(destdir=…)."""
    dest = vm_image.ROOT / "build" / "vm-payload"
    subprocess.run(["rm", "-rf", dest], check=True)
    subprocess.run(["make", "-s", "-C", vm_image.ROOT, "install", f"DESTDIR={dest}",
                    "PREFIX=/usr"], check=True)
    return dest


@pytest.fixture
def start_vm(request, image):
    """start_vm(destdir=…, memory=…, append=…): VMs that end with the test."""
    vms = request.node.vms = []

    def start(**kwargs):
        name = log_name(request.node) + (f"-{len(vms) + 1}" if vms else "")
        vm = vm_module.VM(name, image=image, **kwargs)
        vms.append(vm)
        vm.start()
        return vm

    yield start
    for vm in vms:
        vm.close()

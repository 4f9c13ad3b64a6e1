"""Fixtures of the VM tests.  Run with Debian's /usr/bin/python3 -m pytest."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (0, 1)]

pytest.register_assert_rewrite("upgrade_checks")

import vm as vm_module          # noqa: E402  (the path comes first)
import vm_image                 # noqa: E402
from vm_net import remove_stale  # noqa: E402

# The name of a process that runs tests beside others (pytest -n), in its environment.
WORKER = "PYTEST_XDIST_WORKER"
# Fixtures that are VMs of a module, which may have parameters.
VM_FIXTURES = ("guest", "up", "damaged")
REPORT_LINES = 12


def pytest_configure(config):
    # So that a test run that is terminated still removes its VMs and namespaces.
    def interrupt(_signum, _frame):
        raise KeyboardInterrupt
    # Workers of pytest -n are ended by the process they work for.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def pytest_unconfigure():
    # What workers had that were ended in the middle of a test.
    if WORKER not in os.environ:
        remove_stale()


def group_of(item):
    """The tests of one VM: those of a file whose module's fixtures have the same parameters."""
    params = getattr(item, "callspec", None) and item.callspec.params or {}
    of_vm = [str(params[name]) for name in VM_FIXTURES if name in params]
    return re.sub(r"[^\w.+-]+", "-", " ".join([item.path.stem, *of_vm])).strip("-")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Where several VMs run side by side (pytest -n), each has its tests in one process, one after the other.
    The longest come first, so that none is left alone at the end."""
    groups = {}
    for item in items:
        groups.setdefault(group_of(item), []).append(item)
    for name, members in groups.items():
        for item in members:
            item.add_marker(pytest.mark.xdist_group(name))
    items[:] = [item for members in sorted(groups.values(), key=len, reverse=True) for item in members]


def pytest_runtest_logreport(report):
    """At once: the summary never comes when a run is ended for want of time."""
    if report.failed and WORKER not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = (crash.message if crash else report.longreprtext).splitlines()
        shown = lines[:REPORT_LINES] if crash else lines[-REPORT_LINES:]
        print(f"\nFAILED {report.nodeid}:", *shown, sep="\n  ", file=sys.__stdout__, flush=True)


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
    # Of each process that runs tests beside others.
    dest = vm_image.ROOT / "build" / f"vm-payload{os.environ.get(WORKER, '')}"
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

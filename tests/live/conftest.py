"""What the live tests ask of the machine they run on."""
import os
import subprocess

import pytest

# In a guest (tests/vm/test_live.py), whose kernels lack nothing.
LACKS_NOTHING = "CRK_LACKS_NOTHING" in os.environ


def pytest_configure(config):
    config.addinivalue_line("markers", "may_lack: skipped where the kernel has been built without what it is "
                            "about; then only a guest runs it")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """No test is skipped everywhere: a skip without the mark is a failure, and in a guest each is."""
    report = (yield).get_result()
    if report.skipped and (LACKS_NOTHING or not item.get_closest_marker("may_lack")):
        report.outcome = "failed"
        report.longrepr = f"skipped ({report.longrepr[2]}) and not marked may_lack, or in a guest"


@pytest.fixture(scope="session", autouse=True)
def loopback():
    """Connections are made over it. Where it is down, as in a new network namespace, it is up meanwhile."""
    shown = subprocess.run(["ip", "link", "show", "up", "dev", "lo"], capture_output=True, check=True)
    if not shown.stdout:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    yield
    if not shown.stdout:
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True)

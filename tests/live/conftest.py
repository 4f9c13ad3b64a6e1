"""What the live tests ask of the machine they run on."""
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

import live

# In a guest (tests/vm/test_live.py), whose kernels lack nothing.
LACKS_NOTHING = "CRK_LACKS_NOTHING" in os.environ


def pytest_configure(config):
    config.addinivalue_line("markers", "may_lack: skipped where the kernel has been built without what it is "
                            "about; then only a guest runs it")

    # So that a run that is terminated ends what it has started.
    def interrupt(_signum, _frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """No test is skipped everywhere: a skip without the mark is a failure, and in a guest each is."""
    report = (yield).get_result()
    if report.skipped and (LACKS_NOTHING or not item.get_closest_marker("may_lack")):
        report.outcome = "failed"
        report.longrepr = f"skipped ({report.longrepr[2]}) and not marked may_lack, or in a guest"


RUNNER = "CRK_LIVE_RUNNER"


def stale(pid):
    """It has been started by a run that is no more."""
    try:
        found = re.search(rf"(?:^|\0){RUNNER}=(\d+)\0", Path(f"/proc/{pid}/environ").read_text(errors="replace"))
    except OSError:
        return False
    return found and not os.path.exists(f"/proc/{found[1]}")


@pytest.fixture(scope="session", autouse=True)
def earlier_runs():
    """What those have left that were killed: nobody else could end it."""
    os.environ[RUNNER] = str(os.getpid())
    for pid in [int(p.name) for p in Path("/proc").glob("[0-9]*")]:
        if stale(pid):
            live.kill(pid)
    an_hour_ago = time.time() - 3600
    for group in list(live.groups_named(lambda n: not os.path.exists(f"/proc/{n}"))):
        if group.stat().st_mtime < an_hour_ago:
            live.remove_group(group)


@pytest.fixture(scope="session", autouse=True)
def loopback():
    """Connections are made over it. Where it is down, as in a new network namespace, it is up meanwhile."""
    shown = subprocess.run(["ip", "link", "show", "up", "dev", "lo"], capture_output=True, check=True)
    if not shown.stdout:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    yield
    if not shown.stdout:
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True)


@pytest.fixture(autouse=True)
def strays():
    """Whoever a test leaves behind falls to us, sooner or later, and ends with the test."""
    before = live.children()
    yield
    live.end_strays(before)

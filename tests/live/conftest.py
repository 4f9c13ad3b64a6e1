"""What the live tests ask of the machine they run on."""
import subprocess

import pytest


@pytest.fixture(scope="session", autouse=True)
def loopback():
    """Connections are made over it. Where it is down, as in a new network namespace, it is up meanwhile."""
    shown = subprocess.run(["ip", "link", "show", "up", "dev", "lo"], capture_output=True, check=True)
    if not shown.stdout:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    yield
    if not shown.stdout:
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True)

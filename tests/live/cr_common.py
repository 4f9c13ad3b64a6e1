"""What the tests of the `cr` command share."""
import os
import re
import subprocess

import pytest

from live import CR, kill, wait_in_call


NANOSLEEP = 230     # clock_nanosleep(2)


def run(*argv, **kw):
    return subprocess.run([CR, *argv], capture_output=True, text=True, timeout=60, **kw)


@pytest.fixture
def sleeper(tmp_path):
    """A process in a session of its own that has nothing but files."""
    with open(tmp_path / "out", "wb") as out:
        p = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                             start_new_session=True, cwd=tmp_path)
    wait_in_call(p.pid, NANOSLEEP)     # the loader has done its work
    yield p
    p.kill()
    p.wait()
    kill(p.pid)


# Lines of /proc/PID/status and fdinfo.
CHANGES_BY_ITSELF = re.compile(
    r"(?m)^(voluntary|nonvoluntary|Vm|Rss|SigQ|Seccomp_|State|x86_|untag|HugetlbPages|ticks:|it_value:).*$")


def snapshot(pid):
    """What of a process must not change by a dump that fails or lets it go on."""
    def text(name):
        with open(f"/proc/{pid}/{name}") as f:
            return f.read()
    status = CHANGES_BY_ITSELF.sub("", text("status"))
    fds = {fd: (os.readlink(f"/proc/{pid}/fd/{fd}"), text(f"fdinfo/{fd}"))
           for fd in os.listdir(f"/proc/{pid}/fd")}
    return text("maps"), status, fds

"""What the tests of sockets share: the network lock's table, and who is dumped."""
import os
import re
import signal
import subprocess

import pytest

from live import Maker, cr


def tables():
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lock_table(images):
    """The table that its dump made; it has the name of the dump's run, as CRIU's has."""
    log = images / "dump.log"
    found = log.exists() and re.search(r"table inet (CRIU-[0-9a-f-]{21})\n", log.read_text())
    return found[1] if found else None


def is_locked(images):
    return f"table inet {lock_table(images)}\n" in tables()


@pytest.fixture
def maker(request, tmp_path):
    m = Maker(request.param, tmp_path)
    yield m
    if lock_table(m.images):
        subprocess.run(["nft", "delete", "table", "inet", lock_table(m.images)], capture_output=True)
    m.end()


def dump(m, *options):
    return cr("dump", m.images, "-t", str(m.pid), *options)


def locked_by(dump):
    return re.search(r"network locked for .*: table inet (\S+)", dump.log).group(1)


@pytest.fixture
def target(tmp_path):
    """A process of its own session that runs the given Python text."""
    started = []

    def start(text, **kwargs):
        p = subprocess.Popen(["/usr/bin/python3", "-c", text], stdin=subprocess.DEVNULL,
                             start_new_session=True, cwd="/", **kwargs)
        started.append(p)
        return p

    yield start
    for p in started:
        try:
            os.kill(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        p.wait()

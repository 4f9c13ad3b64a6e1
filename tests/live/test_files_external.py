"""Files whose other side is not in the tree: what is handed in with --inherit-fd takes their
place, without it a pipe is a pipe whose other end was closed."""
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from live import CR, check, cr, wait_for

# Echoes lines from fd 0 to fd 1 with a count; on the end of input, writes "end" to result.
ECHO = r"""
import os, signal
os.setsid()
signal.signal(signal.SIGUSR1, lambda *_: None)
n = 0
try:
    while True:
        data = os.read(0, 5)
        if not data:
            break
        if data == b"sleep":
            signal.pause()
            continue
        n += 1
        os.write(1, b"%d:" % n + data)
    word = "end"
except BrokenPipeError:
    word = "broken"
with open("result", "w") as f:
    f.write(f"{word} {n}")
"""


class Echo:
    def __init__(self, tmp):
        self.dir = tmp
        self.images = tmp / "images"
        self.images.mkdir()
        self.to, self.back = os.pipe(), os.pipe()
        with open(tmp / "errors", "wb") as err:
            self.popen = subprocess.Popen(["/usr/bin/python3", "-c", ECHO], cwd=tmp, stderr=err,
                                          stdin=self.to[0], stdout=self.back[1])
        self.pid = self.popen.pid
        os.close(self.to[0])
        os.close(self.back[1])
        self.to, self.back = self.to[1], self.back[0]
        self.talk("one", "1:one")

    def talk(self, text, answer):
        os.write(self.to, text.encode())
        assert os.read(self.back, 100).decode() == answer

    def name(self, fd):
        return os.readlink(f"/proc/{self.pid}/fd/{fd}")

    def dump(self, *options):
        done = cr("dump", self.images, "-t", str(self.pid), *options)
        check(done, "dump")
        self.popen.wait(timeout=20)
        return done

    def restore(self, fds=(), *options):
        done = subprocess.run([CR, "restore", "-D", self.images, "-d", "-v4", "-o", "restore.log",
                               *options], pass_fds=fds, capture_output=True, text=True, timeout=60)
        done.log = (self.images / "restore.log").read_text()
        return done

    def result(self):
        path = self.dir / "result"
        wait_for(lambda: path.exists() and path.read_text(), 10, "no result")
        return path.read_text()

    def end(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.fixture
def echo(tmp_path):
    e = Echo(tmp_path)
    yield e
    e.end()


def test_inherited_pipes_take_the_place_of_the_old_ones(echo):
    names = echo.name(0), echo.name(1)
    echo.dump()
    (r1, w1), (r2, w2) = os.pipe(), os.pipe()
    check(echo.restore((r1, w2), "--inherit-fd", f"fd[{r1}]:{names[0]}",
                       "--inherit-fd", f"fd[{w2}]:{names[1]}"), "restore")
    os.close(r1)
    os.close(w2)
    echo.to, echo.back = w1, r2
    echo.talk("two", "2:two")
    os.close(w1)
    assert echo.result() == "end 2"


def test_a_pipe_whose_writer_was_outside_reads_as_ended_and_the_dump_says_so(echo):
    done = echo.dump()
    assert re.search(r"fd 0: the writer of pipe:\[\d+\] is not in the tree", done.log)
    assert re.search(r"fd 1: the reader of pipe:\[\d+\] is not in the tree", done.log)
    check(echo.restore(), "restore")
    assert echo.result() == "end 1"


def test_bytes_queued_in_a_pipe_of_the_outside_arrive_before_its_end(echo):
    os.write(echo.to, b"sleep")
    wait_for(lambda: "pause" in Path(f"/proc/{echo.pid}/wchan").read_text() or
             Path(f"/proc/{echo.pid}/syscall").read_text().split()[0] == "34", 10, "asleep")
    os.write(echo.to, b"words")
    echo.dump()
    check(echo.restore(), "restore")
    wait_for(lambda: os.kill(echo.pid, signal.SIGUSR1) or (echo.dir / "result").exists(), 10,
             "awake")
    # The answer goes to a pipe that nobody reads any more.
    assert echo.result() == "broken 2"


def test_an_external_file_is_the_one_that_is_handed_in(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    log = tmp_path / "log"
    other = tmp_path / "other"
    with open(log, "ab") as out, open(tmp_path / "in", "wb+") as dev:
        p = subprocess.Popen(["/usr/bin/python3", "-c", """
import os, signal
os.setsid()
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"here"))
os.write(1, b"ready")
while True:
    signal.pause()
"""], stdin=dev, stdout=out, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: log.read_bytes() == b"ready", 10, "ready")
        info = Path(f"/proc/{p.pid}/fdinfo/1").read_text()
        mnt = int(re.search(r"mnt_id:\s*(\d+)", info).group(1))
        key = f"file[{mnt:x}:{log.stat().st_ino:x}]"
        check(cr("dump", images, "-t", str(p.pid), "--external", key), "dump")
        p.wait(timeout=20)
        without = subprocess.run([CR, "restore", "-D", images, "-d"], capture_output=True,
                                 text=True, timeout=60)
        assert without.returncode != 0 and key in without.stderr
        with open(other, "wb") as new:
            done = subprocess.run([CR, "restore", "-D", images, "-d", "-o", "restore.log",
                                   "--inherit-fd", f"fd[{new.fileno()}]:{key}"],
                                  pass_fds=(new.fileno(),), capture_output=True, text=True,
                                  timeout=60)
        done.log = (images / "restore.log").read_text()
        check(done, "restore")
        wait_for(lambda: os.kill(p.pid, signal.SIGUSR1) or other.read_bytes()[:4] == b"here", 10,
                 "output in the new file")
        assert log.read_bytes() == b"ready"
    finally:
        try:
            os.kill(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

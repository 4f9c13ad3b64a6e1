"""A container's terminal: its devpts and the slave are the tree's, the master is the runtime's."""
import errno
import fcntl
import os
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest

from live import cr, cr_check, proc_state, reap_orphans, wait_for, wait_gone, wait_in_call
from rpc import DUMP, RESTORE, places, swrk

READ = 0     # its number

# As runtimes do it: the master goes out by a socket, the slave is all there is, /dev/console shows it.
CONTAINER = r"""
import fcntl, os, signal, socket, struct, subprocess, sys, termios
dev, sock, body = sys.argv[1], socket.socket(fileno=int(sys.argv[2])), sys.argv[3]
def mount(*words):
    subprocess.run(["mount", *words], check=True)
mount("-t", "tmpfs", "none", dev)
os.mkdir(dev + "/pts"), open(dev + "/console", "w").close()
mount("-t", "devpts", "-o", "newinstance,ptmxmode=666", "none", dev + "/pts")
mount("--make-shared", dev + "/pts")
def new():
    m = os.open(dev + "/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(m, 0x40045431, struct.pack("i", 0))     # TIOCSPTLCK
    s = os.open(dev + "/pts/%d" % struct.unpack("i", fcntl.ioctl(m, 0x80045430, bytes(4))), os.O_RDWR)
    socket.send_fds(sock, [b"m"], [m])
    os.close(m)
    return s
s = new()
os.fchown(s, 0, 5), os.fchmod(s, 0o620)
fcntl.ioctl(s, termios.TIOCSWINSZ, struct.pack("HHHH", 11, 77, 0, 0))
mount("--bind", dev + "/pts/0", dev + "/console")
for fd in range(3):
    os.dup2(s, fd)
os.close(s)
exec(body)
"""

# Lines are answered; of a job in the foreground, one in the background, and what the console shows.
SHELL = r"""
sock.close()
job = os.fork()
if not job:
    signal.pause()
os.setpgid(job, job)
signal.signal(signal.SIGWINCH, lambda *_: os.write(1, b"<winch>"))
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"<int>"))
def answer(line):
    if line == "size":
        return "%d %d" % struct.unpack("HH4x", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
    if line == "who":
        return " ".join(map(str, (os.getpid(), os.getsid(0), os.tcgetpgrp(0), os.getpgid(job), job)))
    if line == "node":
        st = os.stat(dev + "/pts/0")
        return "%d %d %o" % (st.st_uid, st.st_gid, st.st_mode & 0o777)
    if line == "mounts":
        mounts = [x.split() for x in open("/proc/self/mountinfo") if dev in x]
        groups = [x[6] for x in mounts if "shared:" in x[6]]
        return " ".join(x[3] + x[4] + x[5] for x in mounts) + str(len(groups)) + str(len(set(groups)))
    if line == "console":
        with open(dev + "/console", "wb", buffering=0) as f, open("/dev/tty", "wb", buffering=0) as t:
            f.write(b"<by console>"), t.write(b"<by tty>")
            return str(os.fstat(f.fileno()) == os.fstat(0) and os.listdir(dev + "/pts") == ["0", "ptmx"])
    return line
print("<ready>", flush=True)
while True:
    print("<%s: %s>" % ((line := input()), answer(line)), flush=True)
"""
# Nobody reads.
DEAF = r"""
sock.close()
print("<ready>", flush=True)
signal.pause()
"""


class Screen:
    def __init__(self, fd):
        self.fd, self.text = fd, ""

    def expect(self, pattern, timeout=20):
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self.text)):
            left = end - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], f"no {pattern!r} in {self.text!r}"
            self.text += os.read(self.fd, 4096).decode()
        self.text = self.text[found.end():]
        return found

    def ask(self, line):
        os.write(self.fd, line.encode() + b"\n")
        return self.expect(rf"<{line}: (.*?)>").group(1)


@pytest.fixture
def container(tmp_path):
    """Starts one; gives its first process, what its terminal shows, and the socket for more masters."""
    (tmp_path / "dev").mkdir(), (tmp_path / "images").mkdir()
    made, socks = [], socket.socketpair()

    def start(body):
        reap_orphans()
        p = subprocess.Popen(["unshare", "-m", "/usr/bin/python3", "-c", CONTAINER,
                              tmp_path / "dev", str(socks[1].fileno()), body],
                             stdin=subprocess.DEVNULL, pass_fds=[socks[1].fileno()], start_new_session=True)
        made.append(p)
        socks[1].close()
        socks[0].settimeout(20)
        screen = Screen(socket.recv_fds(socks[0], 1, 1)[1][0])
        screen.expect("<ready>")
        return p, screen, socks[0]
    yield start
    for p in made:
        p.kill()
        p.wait()
    socks[0].close()
    reap_orphans()


def ask(type, tmp_path, refuse=(), **opts):
    client = swrk()
    client.refuse |= set(refuse)
    answer = client.ask(type, places(tmp_path / "images", **opts))
    client.wait()
    log = (tmp_path / "images/rpc.log").read_text(errors="replace")
    return client, answer, log


def dumped(tmp_path, pid, **more):
    _, answer, log = ask(DUMP, tmp_path, pid=pid, orphan_pts_master=True, **more)
    assert answer["success"], log[-3000:]


def kill(pids):
    for pid in pids:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    reap_orphans()


@pytest.mark.parametrize("shell_job", [False, True])
def test_its_new_master_goes_to_the_client_and_all_is_as_it_was(container, tmp_path, shell_job):
    p, screen, _ = container(SHELL)
    before = {line: screen.ask(line) for line in ("size", "who", "node", "console", "mounts")}
    pid, sid, front, behind, job = map(int, before["who"].split())
    assert (pid, sid, front) == (p.pid,) * 3 and behind == job
    assert before["size"] == "11 77" and before["node"] == "0 5 620" and before["console"] == "True"
    assert before["mounts"].endswith("21"), "the console is of its devpts' peer group"
    dumped(tmp_path, pid, shell_job=shell_job)
    p.wait()
    wait_gone(job)
    with pytest.raises(OSError) as gone:
        while os.read(screen.fd, 99):
            pass
    assert gone.value.errno == errno.EIO
    os.close(screen.fd)

    client, answer, log = ask(RESTORE, tmp_path, orphan_pts_master=True, notify_scripts=True, rst_sibling=True,
                              shell_job=shell_job)
    assert answer["success"], log[-3000:]
    try:
        names = [e for e, _ in client.events]
        assert names.count("orphan-pts-master") == len(client.fds) == 1
        assert names.index("post-setup-namespaces") < names.index("orphan-pts-master") < names.index("post-restore")
        screen = Screen(client.fds[0])
        assert {line: screen.ask(line) for line in before} == before
        # Keys are signals of its own session, and so is another size. Python's handlers run when read(2) ends.
        wait_in_call(pid, READ)
        os.write(screen.fd, b"\x03")
        screen.expect("<int>")
        wait_in_call(pid, READ)
        fcntl.ioctl(screen.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 99, 0, 0))
        screen.expect("<winch>")
        assert screen.ask("size") == "20 99"
        # Nobody but the client holds the master.
        os.close(screen.fd)
        wait_for(lambda: proc_state(pid) in (None, "Z"), 10, "its session ends with the terminal")
    finally:
        kill([job, pid])


def test_several_have_each_their_own(container, tmp_path):
    body = "s = new()\nsock.close()\nprint('<ready>', flush=True)\nwhile True: os.write(s, os.read(0, 99))"
    p, screen, sock = container(body)
    second = socket.recv_fds(sock, 1, 1)[1][0]
    dumped(tmp_path, p.pid)
    p.wait()
    client, answer, log = ask(RESTORE, tmp_path, orphan_pts_master=True, notify_scripts=True, rst_sibling=True)
    assert answer["success"], log[-3000:]
    try:
        number = {struct.unpack("i", fcntl.ioctl(fd, 0x80045430, bytes(4)))[0]: fd for fd in client.fds}
        first, other = Screen(number[0]), Screen(number[1])
        os.write(first.fd, b"hello\n")
        other.expect("hello")
    finally:
        kill([p.pid])
        for fd in (screen.fd, second, *client.fds):
            os.close(fd)


def test_without_the_option_it_is_refused_by_name(container, tmp_path):
    p, screen, _ = container(SHELL)
    job = screen.ask("who").split()[4]
    done = cr("dump", tmp_path / "images", "-t", str(p.pid))
    for status, text in ((done.returncode, done.log), cr_check(p.pid)):
        assert status == 1 and "master is outside the tree" in text and "orphan_pts_master" in text
        assert str(p.pid) in text and "fd 0" in text
    screen.ask("goes on")
    dumped(tmp_path, p.pid)
    p.wait()
    wait_gone(job)
    for opts, words in (({}, "orphan_pts_master"), ({"orphan_pts_master": True}, "notify_scripts")):
        client, answer, _ = ask(RESTORE, tmp_path, **opts)
        assert not answer["success"] and words in answer["cr_errmsg"], answer
        assert not client.fds
    os.close(screen.fd)


def test_a_client_that_refuses_it_has_no_tree(container, tmp_path):
    p, screen, _ = container(DEAF)
    dumped(tmp_path, p.pid)
    p.wait()
    client, answer, _ = ask(RESTORE, tmp_path, refuse=["orphan-pts-master"], orphan_pts_master=True,
                            notify_scripts=True)
    assert not answer["success"] and "orphan-pts-master" in answer["cr_errmsg"]
    wait_for(lambda: reap_orphans() or proc_state(p.pid) is None, 10, "nothing is left")
    # A master without anybody at its other end.
    assert select.select(client.fds, [], [], 10)[0]
    with pytest.raises(OSError):
        os.read(client.fds[0], 1)
    os.close(client.fds[0]), os.close(screen.fd)


def test_input_that_nobody_has_read_is_refused(container, tmp_path):
    p, screen, _ = container(DEAF)
    os.write(screen.fd, b"typed ahead\n")
    screen.expect("typed ahead")
    wait_for(lambda: proc_state(p.pid) == "S", 10, "it sleeps")
    _, answer, _ = ask(DUMP, tmp_path, pid=p.pid, orphan_pts_master=True)
    assert not answer["success"] and "12 bytes of input are unread" in answer["cr_errmsg"]
    wait_for(lambda: proc_state(p.pid) == "S", 10, "it goes on")
    os.close(screen.fd)


def test_a_console_of_a_terminal_that_nobody_has_open_is_refused(container, tmp_path):
    p, screen, _ = container("sock.close()\nprint('<ready>', flush=True)\nnull = os.open('/dev/null', os.O_RDWR)\n"
                             "for fd in range(3): os.dup2(null, fd)\nsignal.pause()")
    wait_for(lambda: os.readlink(f"/proc/{p.pid}/fd/2") == "/dev/null", 10, "it has let go")
    _, answer, log = ask(DUMP, tmp_path, pid=p.pid, orphan_pts_master=True)
    assert not answer["success"] and "console shows terminal 0, which no process" in log
    wait_for(lambda: proc_state(p.pid) == "S", 10, "it goes on")
    os.close(screen.fd)


# The master is the tree's as well, the slave not opened yet.
OWN_MASTER = r"""
import fcntl, os, signal, struct, subprocess, sys
dev, seen = sys.argv[1:3]
for words in (["-t", "tmpfs", "none", dev], ["-t", "devpts", "-o", "newinstance,ptmxmode=666", "none", dev + "/pts"],
              ["--bind", dev + "/pts/0", dev + "/console"], ["--bind", dev + "/pts/ptmx", dev + "/ptmx"]):
    subprocess.run(["mount", *words], check=True)
    if words[1] == "tmpfs":
        os.mkdir(dev + "/pts"), open(dev + "/console", "w").close(), open(dev + "/ptmx", "w").close()
    if words[1] == "devpts":
        m = os.open(dev + "/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(m, 0x40045431, struct.pack("i", 0))
def look(*_):
    s = os.open(dev + "/console", os.O_RDWR | os.O_NOCTTY)
    os.write(s, b"shown")
    same = os.path.samestat(os.stat(dev + "/ptmx"), os.stat(dev + "/pts/ptmx"))
    with open(seen, "wb") as f:
        f.write(os.read(m, 99) + b" %d" % same)
signal.signal(signal.SIGUSR1, look)
os.write(1, b"ready\n")
while True:
    signal.pause()
"""


def test_a_console_whose_master_is_the_trees_comes_back_without_a_client(tmp_path):
    (tmp_path / "dev").mkdir(), (tmp_path / "images").mkdir()
    seen = tmp_path / "seen"
    p = subprocess.Popen(["unshare", "-m", "/usr/bin/python3", "-c", OWN_MASTER, tmp_path / "dev", seen],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert p.stdout.readline() == b"ready\n"
        done = cr("dump", tmp_path / "images", "-t", str(p.pid))
        assert done.returncode == 0, done.log[-3000:]
        p.wait()
        done = cr("restore", tmp_path / "images", "-d")
        assert done.returncode == 0, done.log[-3000:]
        os.kill(p.pid, signal.SIGUSR1)
        wait_for(lambda: seen.exists() and seen.read_bytes() == b"shown 1", 10, "the console shows the master's")
    finally:
        kill([p.pid])
        p.stdout.close()

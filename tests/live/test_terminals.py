"""Jobs of a shell move to another terminal with --shell-job; what has no place is refused."""
import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from live import CR, cr, proc_state, reap_orphans, wait_for, wait_gone

# A job: raw input, one answer a key, reports sizes.
JOB = """
import fcntl, os, signal, struct, sys, termios, tty
def size(*_):
    rows, cols = struct.unpack("HH4x", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
    os.write(1, f"<size {rows}x{cols}>".encode())
signal.signal(signal.SIGWINCH, size)
before = termios.tcgetattr(0)
tty.setraw(0)
ctty = open("/dev/tty", "rb+", buffering=0)
os.write(1, f"<job {os.getpid()}>".encode())
while True:
    key = os.read(0, 1)
    ctty.write(b"<key " + key + b">")
    if key == b"q":
        break
termios.tcsetattr(0, termios.TCSADRAIN, before)
print("<end>")
"""


class Terminal:
    """A shell on a pseudo terminal, as an operator has it."""

    def __init__(self, rows, cols):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            # A key that signals discards what is being shown, also what its handler writes at once.
            modes = termios.tcgetattr(0)
            modes[3] |= termios.NOFLSH
            termios.tcsetattr(0, termios.TCSANOW, modes)
            os.environ.update(PS1="$ ", HISTFILE="", TERM="dumb")
            os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        self.text = ""
        self.expect(r"\$ ")

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern, timeout=20):
        """Waits for pattern in what is shown from here on; returns the match."""
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self.text)):
            left = end - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], \
                f"no {pattern!r} in {self.text!r}"
            try:
                self.text += os.read(self.fd, 4096).decode(errors="replace")
            except OSError as e:
                assert e.errno == errno.EIO
                raise AssertionError(f"no {pattern!r} in {self.text!r}, and the end") from e
        self.text = self.text[found.end():]
        return found

    def group(self):
        return os.tcgetpgrp(self.fd)

    def close(self):
        for pid in {self.pid, self.group()} - {0}:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        os.close(self.fd)
        wait_gone(self.pid)


@pytest.fixture
def terminal():
    made = []

    def make(rows=24, cols=80):
        made.append(Terminal(rows, cols))
        return made[-1]
    yield make
    for t in made:
        t.close()
    reap_orphans()


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def start_job(term, tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    term.type(f"/usr/bin/python3 {tmp_path}/job.py\n")
    pid = int(term.expect(r"<job (\d+)>").group(1))
    term.type("a")
    term.expect("<key a>")
    return pid


def children():
    """Zombies that fell to us."""
    with open(f"/proc/self/task/{os.getpid()}/children") as f:
        return [pid for pid in f.read().split() if proc_state(pid) == "Z"]


def lflag(fd):
    return termios.tcgetattr(fd)[3]


def runs_free(pid):
    """It sleeps, and the engine, whose clone it was at first, has let go of it."""
    try:
        program = os.readlink(f"/proc/{pid}/exe")
        status = open(f"/proc/{pid}/status").read()
    except OSError:
        return False
    return program != str(CR.resolve()) and "\nState:\tS" in status and "\nTracerPid:\t0\n" in status


def test_a_job_moves_to_the_terminal_that_restore_runs_on(terminal, images, tmp_path):
    first = terminal()
    pid = start_job(first, tmp_path)
    done = cr("dump", images, "-t", str(pid), "-j")
    assert done.returncode == 0, done.log[-3000:]
    first.expect("Killed")
    wait_for(lambda: proc_state(pid) is None, 10, "the shell reaps its job")

    second = terminal(30, 100)
    assert lflag(second.fd) & termios.ICANON
    second.type(f"{CR} restore -D {images} -v4 -o restore.log -j; echo status $?\n")
    # Raw again, in the foreground, and told of the other size.
    second.expect("<size 30x100>")
    second.type("b")
    second.expect("<key b>")
    assert not lflag(second.fd) & termios.ICANON
    stat = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    assert int(stat[3]) == second.pid, "it is in the shell's session"
    assert int(stat[2]) == second.group(), "and in the foreground"
    assert os.readlink(f"/proc/{pid}/fd/0") == os.readlink(f"/proc/{second.pid}/fd/0")
    second.type("q")
    second.expect("<end>")
    second.expect("status 0")
    second.expect(r"\$ ")
    second.type("echo $((6*7))\n")
    second.expect("42")


def test_a_job_that_leads_its_session_joins_the_shells(images, terminal, tmp_path):
    (tmp_path / "job.py").write_text("import os\nif os.fork():\n    os.wait()\n    os._exit(7)\n" + JOB)
    pid, fd = pty.fork()
    if not pid:
        os.execv("/usr/bin/python3", ["python3", f"{tmp_path}/job.py"])
    second = terminal()
    shown = ""
    while "<job" not in shown:
        shown += os.read(fd, 100).decode()
    # Our own child leads, its child has the terminal in the same group.
    assert cr("dump", images, "-t", str(pid)).returncode == 1
    done = cr("dump", images, "-t", str(pid), "-j")
    assert done.returncode == 0, done.log[-3000:]
    wait_gone(pid)
    os.close(fd)
    wait_for(lambda: reap_orphans() or not children(), 10, "its child is reaped")
    second.type(f"{CR} restore -D {images} -v4 -o restore.log -j; echo status $?\n")
    second.expect("restore")
    wait_for(lambda: runs_free(pid), 20, "it is restored")
    stat = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    assert int(stat[3]) == second.pid and int(stat[2]) == second.group()
    wait_for(lambda: not lflag(second.fd) & termios.ICANON, 10, "it has the terminal's mode")
    second.type("b")
    second.expect("<key b>")
    second.type("q")
    second.expect("<end>")
    second.expect("status 0")


def test_keys_reach_the_job_and_the_shell_controls_it(terminal, images, tmp_path):
    first, second = terminal(), terminal()
    (tmp_path / "job.py").write_text(
        "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [2])\nprint('pid', os.getpid(), flush=True)\n"
        "while True:\n    signal.sigwait([2])\n    print('got it', flush=True)\n")
    first.type(f"/usr/bin/python3 {tmp_path}/job.py\n")
    pid = int(first.expect(r"pid (\d+)").group(1))
    assert cr("dump", images, "-t", str(pid), "-j").returncode == 0
    first.expect("Killed")
    second.type(f"{CR} restore -D {images} -o restore.log -j\n")
    wait_for(lambda: runs_free(pid), 20, "it is restored")
    # Twice: the engine did not end with the first.
    for _ in range(2):
        second.type("\x03")
        second.expect("got it")
    group = second.group()
    second.type("\x1a")
    second.expect("Stopped.*\n")
    second.expect(r"\$ ")
    wait_for(lambda: proc_state(pid) == "T", 10, "it is stopped, too")
    second.type("fg\n")
    wait_for(lambda: proc_state(pid) == "S" and second.group() == group, 10, "it goes on")
    second.type("\x03")
    second.expect("got it")
    os.kill(pid, signal.SIGKILL)
    second.type("echo status $?\n")
    second.expect("status 0")


def test_a_job_is_dumped_and_goes_on_in_its_own_terminal(terminal, images, tmp_path):
    term = terminal()
    pid = start_job(term, tmp_path)
    done = cr("dump", images, "-t", str(pid), "-j", "--leave-running")
    assert done.returncode == 0, done.log[-3000:]
    term.type("b")
    term.expect("<key b>")
    term.type("q")
    term.expect("<end>")


def test_without_shell_job_it_is_refused_at_dump_and_at_restore(terminal, images, tmp_path):
    term = terminal()
    pid = start_job(term, tmp_path)
    done = cr("dump", images, "-t", str(pid))
    assert done.returncode == 1 and "--shell-job" in done.log
    done = cr("check", images, "-t", str(pid))
    assert done.returncode == 1
    line = next(x for x in done.stdout.splitlines() + done.stderr.splitlines() if "master" in x)
    assert str(pid) in line and "fd 0" in line and "--shell-job" in done.stdout + done.stderr
    term.type("b")
    term.expect("<key b>")
    assert cr("dump", images, "-t", str(pid), "-j").returncode == 0
    term.expect("Killed")
    term.type(f"{CR} restore -D {images} -o restore.log; echo status $?\n")
    term.expect("status 1")
    assert "--shell-job" in (images / "restore.log").read_text()
    assert lflag(term.fd) & termios.ICANON
    done = cr("restore", images, "-j")
    assert done.returncode == 1 and "no terminal" in done.log


HOLDER = """
import os, pty, signal, sys
os.setsid()
{body}
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def holder():
    made = []

    def make(body, **more):
        p = subprocess.Popen(["/usr/bin/python3", "-c", HOLDER.format(body=body)],
                             stdout=subprocess.PIPE, text=True, **more)
        made.append(p)
        assert p.stdout.readline() == "ready\n"
        return p
    yield make
    for p in made:
        p.kill()
        p.wait()
        p.stdout.close()


def test_an_external_terminal_is_handed_in(holder, images):
    master, slave = pty.openpty()
    p = holder("", stdin=slave)
    st = os.fstat(slave)
    key = f"tty[{st.st_rdev:x}:{st.st_dev:x}]"
    refused = cr("dump", images, "-t", str(p.pid))
    assert refused.returncode == 1 and "master is outside" in refused.log
    assert cr("dump", images, "-t", str(p.pid), "--external", key).returncode == 0
    p.wait()
    master2, slave2 = pty.openpty()
    done = subprocess.run([CR, "restore", "-D", images, "-d", "--inherit-fd", f"fd[{slave2}]:{key}"],
                          pass_fds=[slave2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    try:
        assert os.readlink(f"/proc/{p.pid}/fd/0") == os.ttyname(slave2)
    finally:
        os.kill(p.pid, signal.SIGKILL)
        for fd in (master, slave, master2, slave2):
            os.close(fd)


def test_a_number_that_is_taken_is_named_with_its_user(holder, terminal, tmp_path):
    for attempt in range(20):
        images = tmp_path / str(attempt)
        images.mkdir()
        p = holder("os.openpty()")
        name = os.readlink(f"/proc/{p.pid}/fd/4")
        assert cr("dump", images, "-t", str(p.pid)).returncode == 0
        p.wait()
        thief = terminal()
        # Somebody else may take the number first, or leave a lower one to the thief.
        if os.readlink(f"/proc/{thief.pid}/fd/0") == name:
            break
    else:
        raise AssertionError(f"{name} goes to others every time")
    number = int(name.rpartition("/")[2])
    done = cr("restore", images, "-d")
    assert done.returncode == 1
    assert f"number {number} is in use by process {thief.pid} (bash)" in done.log
    assert proc_state(p.pid) in (None, "Z")


def test_numbers_below_are_held_only_while_pairs_are_made(holder, images):
    p = holder("a = os.openpty(); b = os.openpty(); c = os.openpty(); "
               "[os.close(x) for x in a + b]")
    name = os.readlink(f"/proc/{p.pid}/fd/8")
    number = int(name.rpartition("/")[2])
    assert number >= 2
    assert cr("dump", images, "-t", str(p.pid)).returncode == 0
    p.wait()
    assert cr("restore", images, "-d").returncode == 0
    try:
        assert os.readlink(f"/proc/{p.pid}/fd/8") == name
        free = os.openpty()
        assert int(os.ttyname(free[1]).rpartition("/")[2]) < number
        os.close(free[0])
        os.close(free[1])
    finally:
        os.kill(p.pid, signal.SIGKILL)


SENT = """
import socket
a, b = socket.socketpair()
m, s = os.openpty()
socket.send_fds(a, [b"x"], [m])
os.write(s, b"shown")
os.close(m)
def look(*_):
    m = socket.recv_fds(b, 1, 1)[1][0]
    with open("/proc/self/cwd/seen", "wb") as f:
        f.write(os.read(m, 99))
signal.signal(signal.SIGUSR1, look)
"""


def test_a_master_on_its_way_in_a_socket_travels(holder, images, tmp_path):
    p = holder(SENT, cwd=tmp_path)
    done = cr("dump", images, "-t", str(p.pid))
    assert done.returncode == 0, done.log[-2000:]
    p.wait()
    done = cr("restore", images, "-d")
    assert done.returncode == 0, done.log[-2000:]
    try:
        os.kill(p.pid, signal.SIGUSR1)
        wait_for(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_bytes() == b"shown", 10,
                 "what it showed is read")
    finally:
        os.kill(p.pid, signal.SIGKILL)


def test_trees_restored_at_the_same_time_get_their_numbers(holder, tmp_path):
    body = ("kept = [os.openpty() for _ in range(8)]; "
            "[os.close(x) for m, s in kept[::2] for x in (m, s)]")
    trees = [holder(body) for _ in range(3)]
    images = [tmp_path / str(p.pid) for p in trees]
    names = []
    for p, d in zip(trees, images):
        d.mkdir()
        names.append([os.readlink(f"/proc/{p.pid}/fd/{n}") for n in (6, 10, 14, 18)])
        assert cr("dump", d, "-t", str(p.pid)).returncode == 0
    for p in trees:
        p.wait()
    running = [subprocess.Popen([CR, "restore", "-D", d, "-d"], stderr=subprocess.PIPE, text=True)
               for d in images]
    try:
        for r in running:
            assert r.wait(60) == 0, r.stderr.read()
        for p, name in zip(trees, names):
            assert [os.readlink(f"/proc/{p.pid}/fd/{n}") for n in (6, 10, 14, 18)] == name
    finally:
        for p, r in zip(trees, running):
            r.stderr.close()
            if r.returncode == 0:
                os.kill(p.pid, signal.SIGKILL)


@pytest.mark.may_lack
def test_a_logins_console_is_its_users_again(holder, images):
    node = "/dev/tty62"
    if not os.path.exists(node):
        pytest.skip(f"no virtual consoles ({node})")
    was = os.stat(node)
    try:
        p = holder(f"os.close(0); os.open('{node}', os.O_RDWR); os.fchown(0, 9, 5); os.fchmod(0, 0o640)")
        assert cr("dump", images, "-t", str(p.pid)).returncode == 0
        p.wait()
        os.chown(node, 0, 0)
        os.chmod(node, 0o600)
        done = cr("restore", images, "-d")
        assert done.returncode == 0, done.log
        st = os.stat(node)
        assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (9, 5, 0o640)
        os.kill(p.pid, signal.SIGKILL)
    finally:
        os.chown(node, was.st_uid, was.st_gid)
        os.chmod(node, was.st_mode & 0o7777)


def test_a_session_outside_on_a_terminal_of_the_tree_is_refused(images):
    # The dumped process holds the master, a child of its parent's leads the session.
    p = subprocess.Popen(["/usr/bin/python3", "-c", """
import fcntl, os, signal, sys, termios
m, s = os.openpty()
if os.fork():
    os.close(m)
    os.setsid()
    fcntl.ioctl(s, termios.TIOCSCTTY, 0)
    os.write(1, b"ready\\n")     # one write: two processes speak here
else:
    os.setsid()
    os.close(s)
    os.write(1, b"%d\\n" % os.getpid())
signal.pause()
"""], stdout=subprocess.PIPE, text=True, start_new_session=False)
    try:
        lines = {p.stdout.readline().strip() for _ in range(2)}
        child = next(x for x in lines if x != "ready")
        done = cr("dump", images, "-t", child)
        assert done.returncode == 1
        assert f"the session {p.pid} on this terminal is outside the tree" in done.log
        os.kill(int(child), signal.SIGKILL)
    finally:
        p.kill()
        p.wait()
        p.stdout.close()

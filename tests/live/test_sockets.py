"""Sockets, what the makers cannot show: refusals, losses, what is handed in."""
import errno
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from live import CR, cgroup_root, check, cr, cr_check, proc_state, start_python, stop_python, wait_for
from refused_sockets import REFUSED, start
from sockets_common import dump, maker, target  # noqa: F401 (fixtures)


@pytest.mark.parametrize("maker", ["unix_external"], indirect=True)
def test_an_outside_unix_peer_is_refused_by_its_name(maker):
    maker.start()
    done = dump(maker, "--ext-unix-sk")
    assert done.returncode == 1
    assert f"/tmp/maker-unix-stream-{maker.pid}" in done.stderr
    assert "--external 'unix[" in done.stderr
    maker.verify()


@pytest.mark.parametrize("maker", ["unix_named"], indirect=True)
def test_a_socket_path_in_use_by_another_process_is_not_taken(maker):
    maker.start()
    maker.dump()
    maker.reap()
    path = f"/tmp/maker-unix-{maker.pid}/listen"
    os.unlink(path)
    other = socket.socket(socket.AF_UNIX)
    other.bind(path)
    other.listen()
    done = cr("restore", maker.images, "-d")
    assert done.returncode == 1
    assert f"{path} is in use by another process" in done.stderr
    other.close()
    maker.restore()
    maker.verify()


@pytest.mark.may_lack
@pytest.mark.parametrize("maker", ["sk_cgroup"], indirect=True)
def test_a_group_that_only_a_socket_is_in_is_made_again(maker):
    maker.start()
    maker.dump()
    maker.reap()
    group = cgroup_root() / f"crk-sk-{maker.pid}-other"
    wait_for(lambda: not (group / "cgroup.procs").read_text(), 5, "group is not empty")
    group.rmdir()
    maker.restore()
    maker.verify()


# A socket of the host's network namespace and of a group that its process is not in.
HANDED_IN = """
import ctypes, os, signal, socket
def enter(group):
    open(group + "/cgroup.procs", "w").write("0")
enter(GROUPS + "-of-socket"); l = socket.create_server(("127.0.0.1", 0)); enter(GROUPS)
if ctypes.CDLL(None).unshare(0x40000000):
    os._exit(9)
open(READY, "w").write("ready")
signal.pause()
"""


def test_a_socket_that_loses_its_control_group_says_so(target, tmp_path):
    ready, images = tmp_path / "ready", tmp_path / "images"
    images.mkdir()
    groups = [Path(f"{cgroup_root()}/crk-lost-{os.getpid()}{x}") for x in ("", "-of-socket")]
    try:
        for group in groups:
            group.mkdir()
        p = target(HANDED_IN.replace("GROUPS", repr(str(groups[0]))).replace("READY", repr(str(ready))),
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(ready.exists, 10, "not ready")
        check(cr("dump", images, "-t", str(p.pid)), "dump")
        p.wait()
        # Another path of that length, where no group can be.
        files = (images / "files.img").read_bytes()
        assert files.count(b"-of-socket") == 1
        (images / "files.img").write_bytes(files.replace(b"-of-socket", b"/../socket"))
        done = cr("restore", images, "-d")
        check(done, "restore")
        os.kill(p.pid, signal.SIGKILL)
        assert re.search(r"cannot make sockets in control group \S+/\.\./socket", done.log), done.log
    finally:
        for group in groups:
            if group.exists():
                wait_for(lambda g=group: not (g / "cgroup.procs").read_text(), 5, "group is not empty")
                group.rmdir()


LOSING = """
import select, signal, socket, time
def udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); return s
unread, failed, gone, plain = udp(), udp(), udp(), udp()
plain.sendto(b"unread", unread.getsockname())
failed.connect(gone.getsockname()); gone.close(); failed.send(b"?")
plain.setsockopt(socket.SOL_SOCKET, 37, 1 << 4 | 1 << 7)       # SO_TIMESTAMPING: SOFTWARE, OPT_ID
l = socket.create_server(("127.0.0.1", 0)); l.setsockopt(socket.SOL_TCP, 27, 1)        # TCP_SAVE_SYN
c = socket.create_connection(l.getsockname()); s, _ = l.accept()
c.setsockopt(socket.SOL_SOCKET, 60, 1)                          # SO_ZEROCOPY
for s1, event in (unread, select.POLLIN), (failed, select.POLLERR):
    p = select.poll(); p.register(s1, event); p.poll()
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
assert unread.recv(10, socket.MSG_DONTWAIT) == b"unread"
assert failed.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 111
assert len(s.getsockopt(socket.SOL_TCP, 28, 200)) >= 40         # TCP_SAVED_SYN
print("ok", flush=True)
"""


def test_what_a_dump_loses_of_sockets_is_said_and_still_there(target, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    p = target("import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])" + LOSING,
               stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"ready\n"
    done = cr("dump", images, "-t", str(p.pid), "--tcp-established", "--network-lock", "skip",
              "--leave-running", "--external", "pipe[*]")
    check(done, "dump")
    for what in ("unread datagrams of port", "an error that nobody has read yet", "MSG_ZEROCOPY",
                 "SOF_TIMESTAMPING_OPT_ID", "TCP_SAVED_SYN"):
        assert done.log.count(what) == 1, (what, done.log)
    p.send_signal(signal.SIGUSR1)
    assert p.stdout.readline() == b"ok\n"
    p.stdout.close()


WRITES = """
import os, socket, threading
a, b = socket.socketpair()
def write():
    open(TOLD, "w").write(str(os.write(a.fileno(), bytes(20 << 20))))
t = threading.Thread(target=write); t.start()
print("ready", flush=True)
t.join()
"""


def test_a_write_of_which_too_much_is_missing_is_named(target, tmp_path):
    images, told = tmp_path / "images", tmp_path / "told"
    images.mkdir()
    p = target(WRITES.replace("TOLD", repr(str(told))), stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"ready\n"
    wait_for(lambda: any(t.read_text().startswith("1 ") for t in Path(f"/proc/{p.pid}/task").glob("*/syscall")),
             10, "it does not write")
    done = cr("dump", images, "-t", str(p.pid), "--leave-running", "--external", "pipe[*]")
    check(done, "dump")
    p.wait()
    p.stdout.close()
    said = re.search(r"of (\d+) bytes that it writes to fd \d+ it is told that only (\d+) are written", done.log)
    assert said and said[1] == str(20 << 20) and said[2] == told.read_text()


def test_a_stream_gets_the_replacement_that_is_handed_in(target, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    ours, theirs = socket.socketpair()
    p = target("import time\nwhile True: print('tick', flush=True); time.sleep(0.05)",
               stdout=theirs, stderr=theirs)
    theirs.close()
    assert ours.recv(4) == b"tick"
    inode = int(os.readlink(f"/proc/{p.pid}/fd/1").split("[")[1].rstrip("]"))
    done = cr("dump", images, "-t", str(p.pid), "--external", "unix[*]")
    check(done, "dump")
    p.wait()
    ours.close()
    replacement = open(tmp_path / "output", "ab+", buffering=0)
    os.set_inheritable(replacement.fileno(), True)
    log = images / "restore.log"
    done = subprocess.run(
        [CR, "restore", "-D", images, "-d", "-o", "restore.log", "-v4", "--inherit-fd",
         f"fd[{replacement.fileno()}]:socket:[{inode}]"], close_fds=False, capture_output=True,
        text=True)
    assert done.returncode == 0, done.stderr + log.read_text()
    wait_for(lambda: b"tick" in (tmp_path / "output").read_bytes(), 10, "no output")


MOVED = """
import os, socket, sys, time
l = socket.socket(socket.AF_UNIX); l.bind("bound"); l.listen()
os.mkdir("elsewhere"); HOW
print("ready", flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("how, words", [
    ("os.link('bound', 'other')", "whose file has 2 names"),
    ("os.link('bound', 'elsewhere/other'); os.unlink('bound')",
     "/bound (deleted), out of reach"),
])
def test_a_socket_whose_clients_would_find_nobody_is_refused(target, tmp_path, how, words):
    images = tmp_path / "images"
    images.mkdir()
    p = target(f"import os; os.chdir({str(tmp_path)!r})" + MOVED.replace("HOW", how), stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"ready\n"
    p.stdout.close()
    done = cr("dump", images, "-t", str(p.pid))
    assert done.returncode == 1
    assert "socket bound as bound" in done.stderr and words in done.stderr
    assert p.poll() is None


@pytest.mark.may_lack
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_saved_is_refused_by_name_and_lives_on(tmp_path, name):
    p, lacking = start(name)
    try:
        if lacking:
            pytest.skip(lacking)
        # What may have gone by itself when the dump comes is no obstacle to it, but said.
        _, text = cr_check(p.pid, "--tcp-established")
        assert REFUSED[name][1] in text
        done = cr("dump", tmp_path, "-t", str(p.pid), "--tcp-established", "--file-locks")
        assert done.returncode == 1
        assert REFUSED[name][1] in done.stderr
        assert p.poll() is None
        wait_for(lambda: proc_state(p.pid) == "S", 10, "it sleeps on")
    finally:
        p.kill()
        p.wait()


def test_a_peer_that_is_only_queued_is_not_outside():
    p, _ = start_python("""
import os, socket, time
a, b = socket.socketpair()
c, d = socket.socketpair()
socket.send_fds(c, [b"x"], [a.fileno()])
a.close()
print(os.getpid(), flush=True)
time.sleep(1e6)""")
    try:
        assert cr_check(p.pid)[0] == 0
    finally:
        stop_python(p)


BPF_FILTER = """
import ctypes, socket, struct, sys, time
code = struct.pack("<BBhi", 0xb7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)
buf, gpl = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
attr = ctypes.create_string_buffer(struct.pack("<IIQQ", 1, 2, ctypes.addressof(buf),
                                               ctypes.addressof(gpl)), 128)
libc = ctypes.CDLL(None, use_errno=True)
for _ in range(100):    # a signal that comes in between ends the kernel's look at it: EAGAIN
    fd = libc.syscall(321, 5, attr, 128)
    if fd >= 0 or ctypes.get_errno() != 11:
        break
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if fd >= 0:
    s.setsockopt(socket.SOL_SOCKET, 50, fd)
    import os; os.close(fd)
print(fd if fd >= 0 else -ctypes.get_errno(), flush=True)
time.sleep(3600)
"""


def has_loaded_bpf(p):
    fd = int(p.stdout.readline())
    p.stdout.close()
    if fd == -errno.ENOSYS:
        pytest.skip("the kernel has no bpf(2) (CONFIG_BPF_SYSCALL)")
    assert fd >= 0, os.strerror(-fd)


@pytest.mark.may_lack
def test_an_ebpf_program_that_may_spread_a_group_is_warned_of(target, tmp_path):
    text = (BPF_FILTER.replace('"<IIQQ", 1,', '"<IIQQ", 21,')
            .replace("s.setsockopt(socket.SOL_SOCKET, 50, fd)",
                     "s.setsockopt(1, 15, 1); s.bind(('127.0.0.1', 0)); s.setsockopt(1, 52, fd)"))
    p = target(text, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    has_loaded_bpf(p)
    done = cr("dump", tmp_path, "-t", str(p.pid), "--leave-running", "-j")
    # The pipe to us is an obstacle that comes after.
    assert "spreads connections over some SO_REUSEPORT group" in done.log


@pytest.mark.may_lack
def test_an_ebpf_program_on_a_socket_is_refused_by_name(target, tmp_path):
    p = target(BPF_FILTER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    has_loaded_bpf(p)
    done = cr("dump", tmp_path, "-t", str(p.pid), "-j")
    assert done.returncode == 1
    assert "an eBPF program is attached to the socket (SO_ATTACH_BPF)" in done.stderr
    assert p.poll() is None


PAIR = """
import os, socket, time
a, b = socket.socketpair()
os.set_inheritable(a.fileno(), True); os.set_inheritable(b.fileno(), True)
open(INODES, "w").write(f"{os.fstat(a.fileno()).st_ino} {os.fstat(b.fileno()).st_ino}")
a.settimeout(30); b.settimeout(30)
while not os.path.exists(LOOK): time.sleep(0.05)
def look(s):
    try: return s.recv(8)
    except OSError as e: return repr(e).encode()
text = repr(look(ONE))
open(RESULT, "w").write(text)
time.sleep(3600)
"""


@pytest.mark.parametrize("handed", [0, 1])
def test_an_end_of_a_pair_whose_other_end_is_handed_in_sees_it_closed(target, tmp_path, handed):
    images = tmp_path / "images"
    images.mkdir()
    paths = {n: tmp_path / n.lower() for n in ("INODES", "LOOK", "RESULT")}
    text = PAIR.replace("ONE", "ab"[1 - handed])
    for name, path in paths.items():
        text = text.replace(name, repr(str(path)))
    p = target(text, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: paths["INODES"].exists() and paths["INODES"].read_text(), 10, "no pair")
    inode = paths["INODES"].read_text().split()[handed]
    check(cr("dump", images, "-t", str(p.pid)), "dump")
    p.wait()
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    done = subprocess.run(
        [CR, "restore", "-D", images, "-d", "-o", "restore.log", "-v4", "--inherit-fd",
         f"fd[{theirs.fileno()}]:socket:[{inode}]"], close_fds=False, capture_output=True,
        text=True)
    try:
        assert done.returncode == 0, done.stderr
        paths["LOOK"].write_text("now")
        wait_for(lambda: paths["RESULT"].exists() and paths["RESULT"].read_text(), 10, "no result")
        assert paths["RESULT"].read_text() == "b''"
    finally:
        ours.close()
        os.kill(p.pid, signal.SIGKILL)

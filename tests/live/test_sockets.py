"""Sockets, what the makers cannot show: refusals, the network lock, long pauses."""
import errno
import os
import re
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from live import CR, Maker, cgroup_root, check, cr, proc_state, wait_for
from refused_sockets import REFUSED, start


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


@pytest.mark.parametrize("maker", ["tcp_peer"], indirect=True)
def test_a_connection_without_the_option_is_refused_by_name_and_lives_on(maker):
    maker.start()
    done = dump(maker)
    assert done.returncode == 1
    assert "connected TCP socket" in done.stderr
    assert "--tcp-established" in done.stderr
    assert not is_locked(maker.images)
    maker.verify()


@pytest.mark.parametrize("maker", ["unix_external"], indirect=True)
def test_an_outside_unix_peer_is_refused_by_its_name(maker):
    maker.start()
    done = dump(maker, "--ext-unix-sk")
    assert done.returncode == 1
    assert f"/tmp/maker-unix-stream-{maker.pid}" in done.stderr
    assert "--external 'unix[" in done.stderr
    maker.verify()


@pytest.mark.parametrize("maker", ["tcp_peer"], indirect=True)
def test_a_check_names_every_connection(maker):
    maker.start()
    done = subprocess.run([CR, "check", "-t", str(maker.pid)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.count("connected TCP socket") == 2
    maker.verify()


@pytest.mark.parametrize("maker", ["tcp_peer"], indirect=True)
def test_the_network_is_locked_between_dump_and_restore(maker):
    maker.start()
    assert not is_locked(maker.images)
    maker.dump()
    assert is_locked(maker.images)
    maker.reap()
    # Long enough for retransmissions and for the peers' windows to fill.
    time.sleep(4)
    maker.restore()
    assert not is_locked(maker.images)
    maker.verify(timeout=60)


@pytest.mark.parametrize("maker", ["tcp_peer"], indirect=True)
def test_a_failed_restore_keeps_the_lock_and_can_be_repeated(maker):
    maker.start()
    maker.dump()
    maker.reap()
    # Somebody else listens on one of the tree's ports meanwhile.
    port = listening_port(maker)
    other = socket.socket()
    other.bind(("127.0.0.1", port))
    other.listen()
    done = cr("restore", maker.images, "-d", "--tcp-established")
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert is_locked(maker.images)
    other.close()
    maker.restore()
    maker.verify(timeout=60)
    assert not is_locked(maker.images)


def listening_port(m):
    """The port of the IPv4 connection in the lock's rules, on our side."""
    done = subprocess.run(["nft", "list", "set", "inet", lock_table(m.images), "c4"],
                          capture_output=True, text=True, check=True)
    elements = done.stdout.partition("elements = {")[2].split("}")[0]
    return int(elements.split(".")[-1])


@pytest.mark.parametrize("maker", ["tcp_peer"], indirect=True)
def test_a_dump_that_fails_late_leaves_connections_and_network_as_they_were(maker):
    maker.start()
    # The images directory cannot take the last files.
    (maker.images / "inventory.img").mkdir()
    done = dump(maker, "--tcp-established")
    assert done.returncode == 1
    assert not is_locked(maker.images)
    maker.verify()


@pytest.mark.parametrize("maker", ["tcp_peer"], indirect=True)
def test_the_end_of_a_dumped_tree_is_silent(maker):
    """Nobody restores: the peers must see neither end nor reset while the lock stands."""
    maker.start()
    peers = connected_peers(maker.pid)
    assert len(peers) == 2
    maker.dump()
    maker.reap()
    time.sleep(1.5)
    try:
        for pid in peers:
            os.kill(pid, 0)
        assert "FAIL" not in maker.read()
    finally:
        for pid in peers:
            os.kill(pid, signal.SIGKILL)


def connected_peers(pid):
    """Processes of the same program outside the tree."""
    exe = os.readlink(f"/proc/{pid}/exe")
    started = Path(f"/proc/{pid}/cmdline").read_bytes()
    found = []
    for p in Path("/proc").iterdir():
        if p.name.isdigit() and int(p.name) != pid:
            try:
                if os.readlink(p / "exe") == exe and (p / "cmdline").read_bytes() == started:
                    found.append(int(p.name))
            except OSError:
                pass
    return found


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


MANY = """
import resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
l = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(l.getsockname()); s, _ = l.accept()
pairs = [socket.socketpair() for _ in range(700)]
open(READY, "w").write("ready")
time.sleep(3600)
"""


def locked_by(dump):
    return re.search(r"network locked for .*: table inet (\S+)", dump.log).group(1)


def test_a_tree_with_more_than_1024_files_is_locked_and_unlocked(target, tmp_path):
    ready, images = tmp_path / "ready", tmp_path / "images"
    images.mkdir()
    p = target(MANY.replace("READY", repr(str(ready))), stdout=subprocess.DEVNULL,
               stderr=subprocess.DEVNULL)
    wait_for(ready.exists, 10, "not ready")
    done = cr("dump", images, "-t", str(p.pid), "--tcp-established", "--leave-running")
    check(done, "dump")
    assert locked_by(done) not in tables()
    done = cr("dump", images, "-t", str(p.pid), "--tcp-established")
    check(done, "dump")
    assert locked_by(done) in tables()
    p.wait()
    try:
        check(cr("restore", images, "-d", "--tcp-established"), "restore")
        assert locked_by(done) not in tables()
        assert len(os.listdir(f"/proc/{p.pid}/fd")) > 1400
    finally:
        os.kill(p.pid, signal.SIGKILL)


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


LISTENER = """
import socket, sys, time
l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen(8)
open(PORT_FILE, "w").write(str(l.getsockname()[1]))
time.sleep(3600)
"""


def test_a_waiting_connection_is_refused_unless_it_may_be_lost(target, tmp_path):
    port_file = tmp_path / "port"
    images = tmp_path / "images"
    images.mkdir()
    p = target(LISTENER.replace("PORT_FILE", repr(str(port_file))), stdout=subprocess.DEVNULL,
               stderr=subprocess.DEVNULL)
    wait_for(lambda: port_file.exists() and port_file.read_text(), 10, "no listener")
    port = int(port_file.read_text())
    with socket.create_connection(("127.0.0.1", port)):
        wait_for(lambda: waiting(port) == 1, 10, "the connection waits to be accepted")
        done = cr("dump", images, "-t", str(p.pid), "--tcp-established")
        assert done.returncode == 1
        assert "1 connection(s) of a listening socket wait to be accepted" in done.stderr
        assert "--skip-in-flight" in done.stderr
        done = cr("dump", images, "-t", str(p.pid), "--tcp-established", "--skip-in-flight",
                  "--leave-running")
        check(done, "dump")
        assert "wait to be accepted are lost" in done.log


def waiting(port):
    """How many connections a listener has not accepted."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues = line.split()[:5]
        if local == f"0100007F:{port:04X}" and state == "0A":
            return int(queues.split(":")[1], 16)
    return 0


SERVER = """
import select, signal, socket
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
l = socket.socket(FAMILY); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind((HOST, 0)); l.listen()
own = l.getsockname()[:2]
print(own[1], flush=True)
s, _ = l.accept()
c = socket.create_connection(own); t, _ = l.accept()
print("connected", flush=True)
signal.sigwait([signal.SIGUSR1])
for each in s, c, t:
    p = select.poll()
    p.register(each, select.POLLIN)
    assert p.poll(0)[0][1] & select.POLLIN and each.recv(9) == b""
    assert each.getsockopt(6, 11, 8)[0] == 7    # TCP_INFO: TCP_CLOSE
    try:
        each.send(b"x")
        raise SystemExit("sent")
    except BrokenPipeError:
        pass
assert s.getsockname()[:2] == t.getsockname()[:2] == own
print("closed", flush=True)
while True:
    l.accept()[0].close()
"""


@pytest.mark.parametrize("how", ["--tcp-established", "--tcp-close"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_of_a_server_come_back_closed_beside_its_listener(target, tmp_path, how, host):
    out = tmp_path / "out"
    family = "socket.AF_INET6" if ":" in host else "socket.AF_INET"
    with open(out, "w") as f:
        p = target(SERVER.replace("HOST", repr(host)).replace("FAMILY", family), stdout=f, stderr=f)
    wait_for(out.read_text, 10, "no listener")
    port = int(out.read_text())
    images = tmp_path / "images"
    images.mkdir()
    with socket.create_connection((host, port)) as client:
        client.send(b"not read by then")
        wait_for(lambda: "connected" in out.read_text(), 10, "no connection")
        check(cr("dump", images, "-t", str(p.pid), how), "dump")
        p.wait()
        if how == "--tcp-close":
            done = cr("restore", images, "-d", "--tcp-established")
            assert done.returncode == 1 and "a dump with --tcp-close has none" in done.stderr
        check(cr("restore", images, "-d", "--tcp-close"), "restore")
        assert not is_locked(images)
        os.kill(p.pid, signal.SIGUSR1)
        wait_for(lambda: "closed" in out.read_text() or "Err" in out.read_text(), 10, "its connections")
        assert out.read_text().endswith("closed\n")
    with socket.create_connection((host, port)) as client:
        assert client.recv(1) == b""


# A listener without SO_REUSEADDR. It closes its first connection, and answers the second.
CLOSES = """
import socket, time
l = socket.socket(socket.AF_INET6 if ":" in AT else socket.AF_INET)
l.bind((AT, 0)); l.listen()
open(READY, "w").write(str(l.getsockname()[1]))
s, _ = l.accept(); s.close(); open(READY + "-closed", "w")
s, _ = l.accept()
s.sendall(b"%d" % l.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
time.sleep(3600)
"""


def states(port):
    """Of connections that have this port here."""
    lines = [line.split() for name in ("tcp", "tcp6")
             for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return sorted(state for _, local, _, state, *_ in lines if local.endswith(f":{port:04X}") and state != "0A")


@pytest.mark.parametrize("at", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_connections_in_time_wait_keep_no_listener_from_its_port(target, tmp_path, at):
    """Of a listener without SO_REUSEADDR, on the kernel that it was dumped on. Nothing is ended in vain."""
    ready, images = tmp_path / "ready", tmp_path / "images"
    images.mkdir()
    p = target(CLOSES.replace("AT", repr(at)).replace("READY", repr(str(ready))), stdout=subprocess.DEVNULL)
    wait_for(lambda: ready.exists() and ready.read_text(), 10, "not ready")
    port, host = int(ready.read_text()), "::1" if at == "::1" else "127.0.0.1"
    client = socket.create_connection((host, port))
    wait_for(Path(f"{ready}-closed").exists, 10, "not closed")
    check(cr("dump", images, "-t", str(p.pid)), "dump")
    p.wait()

    wait_for(lambda: states(port) == ["05"], 10, "no FIN_WAIT2")
    done = cr("restore", images, "-d")
    assert done.returncode == 1
    assert f"{port}: a connection that is being closed has it, try again in a minute" in done.log
    client.close()
    wait_for(lambda: states(port) == ["06"], 10, "no TIME-WAIT")

    # In repair mode (19) a port can be had that others have.
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other, \
            socket.create_server((host, 0), family=other.family) as server:
        other.setsockopt(socket.SOL_TCP, 19, 1)
        other.bind((host, port))
        other.setsockopt(socket.SOL_TCP, 19, -1)
        other.connect(server.getsockname())
        done = cr("restore", images, "-d")
        assert done.returncode == 1
        assert f"{port}: another process uses it" in done.log
        assert states(port) == ["01", "06"]
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    done = cr("restore", images, "-d")
    check(done, "restore")
    assert "1 connection(s) in TIME-WAIT kept a listener from" in done.log
    assert states(port) == []
    with socket.create_connection((host, port)) as client:
        assert client.recv(10) == b"0"


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
        done = cr("dump", tmp_path, "-t", str(p.pid), "--tcp-established")
        assert done.returncode == 1
        assert REFUSED[name][1] in done.stderr
        assert p.poll() is None
        wait_for(lambda: proc_state(p.pid) == "S", 10, "it sleeps on")
    finally:
        p.kill()
        p.wait()


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


ECHO = """
import selectors, socket
l = socket.create_server(("::1" if V6 else "127.0.0.1", 0), family=FAMILY)
open(PORT_FILE, "w").write(str(l.getsockname()[1]))
s = selectors.DefaultSelector(); s.register(l, selectors.EVENT_READ)
while True:
    for k, _ in s.select():
        if k.fileobj is l: s.register(l.accept()[0], selectors.EVENT_READ)
        else:
            d = k.fileobj.recv(4096)
            if not d: raise SystemExit
            k.fileobj.sendall(d)
"""


def answer_after_silence(target, where, family):
    """Four seconds of silence. After a restore, how long it takes until what was sent meanwhile is answered."""
    port_file, images = where / "port", where / "images"
    images.mkdir(parents=True)
    v6 = family == socket.AF_INET6
    p = target(ECHO.replace("PORT_FILE", repr(str(port_file))).replace("V6", str(v6))
               .replace("FAMILY", str(int(family))),
               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: port_file.exists() and port_file.read_text(), 10, "no server")
    at = ("::1" if v6 else "127.0.0.1", int(port_file.read_text()))
    with socket.create_connection(at) as busy, socket.create_connection(at) as idle:
        for s in busy, idle:
            s.settimeout(60)
            s.sendall(b"hello")
            assert s.recv(5) == b"hello"
        check(cr("dump", images, "-t", str(p.pid), "--tcp-established"), "dump")
        p.wait()
        busy.sendall(b"lost")
        time.sleep(4)
        check(cr("restore", images, "-d", "--tcp-established"), "restore")
        begin = time.monotonic()
        assert busy.recv(4) == b"lost"
        seconds = time.monotonic() - begin
        # What woke the one has left no error on the other.
        idle.sendall(b"still")
        assert idle.recv(5) == b"still"
        for s in busy, idle:
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert lock_table(images) and not is_locked(images)
    return seconds


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_peer_deep_in_its_backoff_is_answered_at_once(target, tmp_path, family):
    """The peer's own next try would be due after up to 2.4 seconds. A busy machine may be late once, not always."""
    assert any(answer_after_silence(target, tmp_path / str(n), family) < 0.8 for n in range(6))

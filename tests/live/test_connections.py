"""TCP connections: options, the network lock, what becomes of them and of their listeners."""
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from live import CR, check, cr, wait_for
from sockets_common import dump, is_locked, lock_table, locked_by, maker, tables, target  # noqa: F401 (fixtures)


@pytest.mark.parametrize("maker", ["tcp_peer"], indirect=True)
def test_a_connection_without_the_option_is_refused_by_name_and_lives_on(maker):
    maker.start()
    done = dump(maker)
    assert done.returncode == 1
    assert "connected TCP socket" in done.stderr
    assert "--tcp-established" in done.stderr
    assert not is_locked(maker.images)
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


MANY = """
import resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
l = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(l.getsockname()); s, _ = l.accept()
pairs = [socket.socketpair() for _ in range(700)]
open(READY, "w").write("ready")
time.sleep(3600)
"""


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

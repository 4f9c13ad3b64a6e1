"""Network namespaces that somebody else provides, as a container runtime does."""
import os
import signal
import subprocess
import sys

import pytest

from live import check, cr, wait_for

LISTENER = """
import os, socket, sys
s = socket.create_server((sys.argv[1], 7007))
print("ready", flush=True)
os.dup2(os.open("/dev/null", os.O_RDWR), 1)
while True:
    c, _ = s.accept()
    c.sendall(b"hello")
    c.close()
"""
SPEAK = "import socket, sys; print(socket.create_connection((sys.argv[1], 7007), 60).recv(9).decode())"
NS_ENTER = ["nsenter", "-n", "-t"]


def start(argv):
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, start_new_session=True)
    p.stdout.readline()
    return p


@pytest.fixture
def listener():
    """Listens in a network namespace of its own, at an address of that one."""
    setup = "ip link set lo up && ip link add d0 type veth peer d1 && ip addr add 192.0.2.1/32 dev lo && exec \"$@\""
    p = start(["unshare", "-n", "sh", "-c", setup, "sh", sys.executable, "-c", LISTENER, "192.0.2.1"])
    # Nobody reads it when the test is over.
    yield p
    for end in (lambda: os.kill(p.pid, signal.SIGKILL), p.wait, p.stdout.close):
        try:
            end()
        except OSError:
            pass


def links(pid):
    return subprocess.run([*NS_ENTER, str(pid), "ip", "-o", "link"], capture_output=True, text=True).stdout


def says(pid, address):
    return subprocess.run([*NS_ENTER, str(pid), sys.executable, "-c", SPEAK, address],
                          capture_output=True, text=True, timeout=90).stdout.strip()


def test_an_empty_one_is_furnished_by_a_script_by_the_roots_pid(listener, tmp_path):
    images, script = tmp_path / "img", tmp_path / "script"
    images.mkdir()
    script.write_text("#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION = setup-namespaces ] || exit 0\n"
                      "exec nsenter -n -t $CRTOOLS_INIT_PID ip addr add 192.0.2.1/32 dev lo\n")
    script.chmod(0o755)
    check(cr("dump", images, "-t", str(listener.pid), "--empty-ns", "net"), "dump")
    listener.wait()
    assert not list(images.glob("netns-*")) and not list(images.glob("netdev-*"))
    done = cr("restore", images, "-d")
    assert done.returncode == 1 and "--empty-ns" in done.stderr
    check(cr("restore", images, "-d", "--empty-ns", "net", "--action-script", script), "restore")
    assert "d0" not in links(listener.pid) and "LOOPBACK,UP" in links(listener.pid)
    assert says(listener.pid, "192.0.2.1") == "hello"


def test_images_that_have_one_can_be_restored_into_an_empty_one(tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    p = start(["unshare", "-n", "sh", "-c", "ip link set lo up && ip link add d0 type veth peer d1 && exec \"$@\"",
               "sh", sys.executable, "-c", LISTENER, "127.0.0.1"])
    check(cr("dump", images, "-t", str(p.pid)), "dump")
    p.wait()
    check(cr("restore", images, "-d", "--empty-ns", "net"), "restore")
    try:
        assert "d0" not in links(p.pid) and says(p.pid, "127.0.0.1") == "hello"
    finally:
        os.kill(p.pid, signal.SIGKILL)
        p.stdout.close()


def test_an_external_one_is_named_and_entered_again(tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    holder = start(["unshare", "-n", "sh", "-c", "ip link set lo up; ip link add d0 type veth peer d1; echo; exec sleep 1000"])
    p = start([*NS_ENTER, str(holder.pid), sys.executable, "-c", LISTENER, "127.0.0.1"])
    net = os.stat(f"/proc/{holder.pid}/ns/net").st_ino
    try:
        done = cr("dump", images, "-t", str(p.pid))
        assert done.returncode == 1 and "is in its net namespace" in done.log
        check(cr("dump", images, "-t", str(p.pid), "--external", f"net[{net}]:outside"), "dump")
        p.wait()
        assert not list(images.glob("netdev-*"))
        done = cr("restore", images, "-d")
        assert done.returncode == 1 and "fd[N]:outside" in done.stderr
        with open(f"/proc/{holder.pid}/ns/net") as f:
            # live.cr() passes no descriptors: standard input is one.
            fd = os.dup(0)
            os.dup2(f.fileno(), 0)
            try:
                check(cr("restore", images, "-d", "--inherit-fd", "fd[0]:outside"), "restore")
            finally:
                os.dup2(fd, 0)
                os.close(fd)
        wait_for(lambda: os.stat(f"/proc/{p.pid}/ns/net").st_ino == net, 5, "in it")
        assert "d0" in links(p.pid) and says(p.pid, "127.0.0.1") == "hello"
    finally:
        for pid in p.pid, holder.pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        holder.wait()
        p.stdout.close(), holder.stdout.close()

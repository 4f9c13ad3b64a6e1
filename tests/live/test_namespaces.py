"""Namespaces of a tree's own: what cannot come back is named before anything has changed."""
import ctypes
import os
import signal
import subprocess
import sys
import time

import pytest

from live import CR, Failure, Maker, cr, cr_check, proc_state, reap_orphans, wait_for
from namespaces_common import PRELUDE, run  # noqa: F401 (fixtures)


@pytest.mark.parametrize("unlinked", [True, False])
def test_message_queues_of_the_namespace_that_it_has_left_are_refused_by_name(run, unlinked):
    name = f"/crk-left-{os.getpid()}"
    p, _ = run(f"""
libc.mq_open(b"{name}", os.O_CREAT | os.O_RDWR, 0o600, None)
{unlinked} and libc.mq_unlink(b"{name}")
unshare(NEWIPC)
ready(1)
""")
    code, text = cr_check(p.pid)
    ctypes.CDLL(None).mq_unlink(name.encode())
    assert code == 1
    assert f"{name}{' (deleted)' if unlinked else ''}: POSIX message queue of another IPC namespace" in text, text


def test_a_queue_that_nobody_has_open_but_one_outside_is_refused_by_name(run, tmp_path):
    """By a descriptor that was handed out of the namespace."""
    p, said = run(f"""
unshare(NEWIPC)
q = libc.mq_open(b"/handed", os.O_CREAT | os.O_RDWR, 0o600, None)
print(q, flush=True)
while not os.path.exists("{tmp_path}/close"):
    time.sleep(0.01)
os.close(q)
time.sleep(1e6)
""")
    pidfd = os.pidfd_open(p.pid)
    outside = ctypes.CDLL(None).syscall(438, pidfd, int(said[0]), 0)    # pidfd_getfd(2)
    assert outside >= 0
    (tmp_path / "close").write_text("")
    try:
        wait_for(lambda: not os.path.exists(f"/proc/{p.pid}/fd/{said[0]}"), 10, "closed")
        code, text = cr_check(p.pid)
        assert code == 1
        assert f"/handed: POSIX message queue that process {os.getpid()}, outside the tree, has open" in text, text
    finally:
        os.close(outside)
        os.close(pidfd)


def test_a_failed_restore_leaves_queues_of_the_host_with_the_same_name_alone(run, tmp_path):
    m = Maker("ns_ipc", tmp_path)
    m.start()
    m.dump()
    m.reap()
    libc = ctypes.CDLL(None)
    queue = libc.mq_open(b"/loose", os.O_CREAT | os.O_RDWR, 0o600, None)
    try:
        script = tmp_path / "script"
        script.write_text('#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ]\n')
        script.chmod(0o755)
        assert cr("restore", m.images, "-d", "--action-script", script).returncode == 1
        again = libc.mq_open(b"/loose", os.O_RDWR)
        assert again >= 0
        os.close(again)
    finally:
        os.close(queue)
        libc.mq_unlink(b"/loose")


def test_a_segment_of_the_namespace_that_it_has_left_is_refused_by_name(run):
    p, said = run("""
segment = libc.shmget(0, 4096, 0o600)
libc.shmat.restype = ctypes.c_void_p
assert libc.shmat(segment, None, 0) != ctypes.c_void_p(-1).value
libc.shmctl(segment, 0, None)       # IPC_RMID
unshare(NEWIPC)
ready(segment)
""")
    code, text = cr_check(p.pid)
    assert code == 1
    assert f"has attached System V segment {said[0]} of another IPC namespace than its own" in text, text


@pytest.mark.parametrize("name", ["ipc", "net"])
def test_a_namespace_that_others_are_in_is_refused(run, name):
    flag = {"ipc": "NEWIPC", "net": "NEWNET"}[name]
    p, _ = run(f"unshare({flag})\nready(1)")
    other, _ = run(f"fd = os.open('/proc/{p.pid}/ns/{name}', 0)\nlibc.setns(fd, 0)\nready(1)")
    code, text = cr_check(p.pid)
    assert code == 1
    assert f"process {other.pid} (" in text and f"outside of the tree is in its {name} namespace" \
        in text, text


@pytest.mark.parametrize("name", ["ipc", "net", "user"])
def test_a_namespace_that_only_a_part_of_the_tree_is_in_is_refused(run, name):
    p, (child,) = run(f"""
r, w = os.pipe()
child = os.fork()
if not child:
    unshare(NEW{name.upper()})
    os.write(w, b"x")
    time.sleep(1e6)
os.read(r, 1)
ready(child)
""")
    try:
        code, text = cr_check(p.pid)
        assert code == 1
        assert f"process {child} (" in text and f"its {name} namespace differs from that of the tree's root" in text, text
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_what_a_network_namespace_cannot_be_saved_with_is_named(run):
    p, _ = run("""
unshare(NEWNET)
assert os.system("ip link set lo up && ip link add x0 type vxlan id 7 dstport 4789 dev lo") == 0
os.system("ip nexthop add id 7 dev lo")
ready(1)
""")
    code, text = cr_check(p.pid)
    assert code == 1
    for words in ("interface x0 of its network namespace is of kind vxlan", "1 nexthop objects"):
        assert words in text, text


@pytest.fixture
def outside():
    """A network namespace that stands for the host's."""
    p = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up && echo ready && exec sleep 1000"],
                         stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    yield lambda *argv: subprocess.run(["nsenter", "-n", "-t", str(p.pid), *argv], check=False,
                                       capture_output=True, text=True, timeout=60)
    p.kill()
    p.wait()
    p.stdout.close()


TREE = PRELUDE + """
os.system("ip link add br0 type bridge && ip link set br0 up && ip addr add 10.3.0.1/24 dev br0")
home = os.open("/proc/self/ns/net", 0)
unshare(NEWNET)
inside = os.open("/proc/self/ns/net", 0)
libc.setns(home, 0)
assert os.system("ip link add out0 type veth peer name in0") == 0
assert os.system("ip link set out0 up master br0") == 0
pid = os.getpid()
libc.setns(inside, 0)
child = os.fork()
if not child:
    libc.setns(home, 0)
    os._exit(os.system("ip link set in0 netns %d" % pid))
assert os.waitpid(child, 0)[1] == 0
assert os.system("ip link set in0 up && ip addr add 10.3.0.2/24 dev in0") == 0
os.close(home)
os.close(inside)
ready(pid)
"""


# Whoever refuses it is there.
REACH = "import socket; socket.create_connection(('10.3.0.2', 9), 30)"


def test_a_veth_that_leads_out_comes_back_with_its_other_end(outside, tmp_path):
    (tmp_path / "tree.py").write_text(TREE)
    (tmp_path / "images").mkdir()
    out = outside("sh", "-c", f"{sys.executable} {tmp_path}/tree.py </dev/null >{tmp_path}/said "
                              f"2>&1 & while ! grep . {tmp_path}/said; do sleep 0.1; done")
    pid = int(out.stdout.split()[0])

    def cr_outside(verb, *options):
        done = outside(str(CR), verb, "-D", str(tmp_path / "images"), "-v4", *options)
        return done.returncode, done.stdout + done.stderr
    try:
        code, text = cr_outside("dump", "-t", str(pid))
        assert code == 1 and "in0 of its network namespace is a veth whose other end is outside" \
            in text, text
        code, text = cr_outside("dump", "-t", str(pid), "--external", "veth[in0]:ext0@br0")
        assert code == 0, text
        while os.path.exists(f"/proc/{pid}"):
            reap_orphans()
            time.sleep(0.01)
        code, text = cr_outside("restore", "-d")
        assert code == 1 and "veth[in0]" in text, text
        code, text = cr_outside("restore", "-d", "--external", "veth[in0]:ext0@br1")
        assert code == 1 and "ext0, the other end of in0, on bridge br1: No such device" in text, text
        # The kernel takes the namespace of the failed one down when it has time.
        wait_for(lambda: outside("ip", "link", "show", "ext0").returncode, 20, "ext0 is gone")
        code, text = cr_outside("restore", "-d", "--external", "veth[in0]:ext0@br0")
        assert code == 0, text
        link = outside("ip", "link", "show", "ext0").stdout
        assert "master br0" in link and "UP" in link, link
        inside = subprocess.run(["nsenter", "-n", "-t", str(pid), "ip", "addr", "show", "in0"],
                                capture_output=True, text=True, check=True).stdout
        assert "10.3.0.2/24" in inside and "UP" in inside, inside
        assert "Connection refused" in outside(sys.executable, "-c", REACH).stderr
    finally:
        os.kill(pid, 9)


def test_an_address_of_lo_with_a_peer_can_be_used_as_soon_as_others(run, tmp_path):
    p, _ = run("""
unshare(NEWNET)
assert os.system("ip link set lo up && ip -6 addr add fd00::5 peer fd00::6 dev lo") == 0
ready(1)
""")
    p.stdout.close()
    done = cr("dump", tmp_path, "-t", str(p.pid))
    assert done.returncode == 0, done.log
    p.wait()
    done = cr("restore", tmp_path, "-d")
    assert done.returncode == 0, done.log
    try:
        assert "cannot be used yet" not in done.log, done.log
        addresses = subprocess.run(["nsenter", "-n", "-t", str(p.pid), "ip", "-6", "addr", "show", "lo"],
                                   capture_output=True, text=True, check=True).stdout
        assert "fd00::5 peer fd00::6/128" in addresses
    finally:
        os.kill(p.pid, signal.SIGKILL)
        wait_for(lambda: proc_state(p.pid) in (None, "Z"), 10, "it does not end")
        reap_orphans()


def test_an_nft_that_does_not_read_its_rules_fails_the_restore_by_name(run, tmp_path):
    p, _ = run("""
unshare(NEWNET)
assert os.system("nft add table ip t") == 0
ready(1)
""")
    nft = tmp_path / "bin/nft"
    nft.parent.mkdir()
    nft.write_text("#!/bin/sh\nexit 1\n")
    nft.chmod(0o755)
    done = subprocess.run([CR, "dump", "-t", str(p.pid), "-D", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    p.wait()
    with open(next(tmp_path.glob("nftables-*.img")), "a") as rules:
        rules.write("# more than a pipe takes\n" * 10000)
    done = subprocess.run([CR, "restore", "-d", "-D", tmp_path], capture_output=True, text=True, check=False,
                          env={**os.environ, "PATH": f"{nft.parent}:{os.environ['PATH']}"})
    assert done.returncode == 1 and "nft does not take the rules of nftables-" in done.stderr, done
    assert not os.path.exists(f"/proc/{p.pid}")


def test_a_socket_of_a_third_network_namespace_is_refused(run):
    p, _ = run("""
import socket
home = os.open("/proc/self/ns/net", 0)
unshare(NEWNET)
s = socket.socket()
libc.setns(home, 0)
ready(1)
""")
    code, text = cr_check(p.pid)
    assert code == 1
    assert "a socket of a network namespace that no process of the tree is in" in text, text


FORKS = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if not os.fork():
        time.sleep(0.06)
        os._exit(0)
    time.sleep(0.001)
"""


def test_thread_ids_that_others_are_faster_to_take_are_waited_for(tmp_path):
    """Inside a user namespace none can be chosen: the next one given is ours, if nobody forks."""
    forkers = [subprocess.Popen([sys.executable, "-c", FORKS]) for _ in range(2)]
    m = Maker("ns_sandbox", tmp_path)
    try:
        m.start()
        m.dump()
        m.reap()
        for again in reversed(range(4)):
            m.restore()
            if again:
                with open(f"/proc/{m.pid}/task/{m.pid}/children") as f:
                    tree = [m.pid, *map(int, f.read().split())]
                os.kill(m.pid, 9)
                wait_for(lambda: reap_orphans() or all(proc_state(p) is None for p in tree), 10, "its end")
        m.verify()
    finally:
        m.end()
        for p in forkers:
            p.kill()
            p.wait()


@pytest.fixture
def covered(tmp_path):
    """A mount of the host that one above its place hides, and one that lies on that."""
    top = tmp_path / "top"
    mounts = [top / "in", top, top / "on", top]
    try:
        for at in mounts:
            at.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "crk-covered", at], check=True)
            (at / "file").write_text(at.name)
        yield top
    finally:
        subprocess.run(["umount", *reversed(mounts)], check=True)


def test_mounts_that_the_host_covers_are_found_in_any_depth(run, covered, tmp_path):
    p, _ = run(f"""
unshare(NEWNS)
libc.mount(b"", b"/", None, 0x44000, None)
ready(1)""")
    (tmp_path / "images").mkdir()
    done = cr("dump", tmp_path / "images", "-t", str(p.pid))
    assert done.returncode == 0, done.log[-2000:]
    p.wait()
    done = cr("restore", tmp_path / "images", "-d")
    try:
        assert done.returncode == 0, done.log[-2000:]
        inside = ["nsenter", "-m", "-t", str(p.pid)]
        for at in (covered, covered / "on", covered, covered / "in"):
            text = subprocess.run([*inside, "cat", at / "file"], capture_output=True, text=True, check=True)
            assert text.stdout == at.name
            subprocess.run([*inside, "umount", at], check=True)
    finally:
        if done.returncode == 0:
            os.kill(p.pid, signal.SIGKILL)
        reap_orphans()


def test_a_root_that_was_given_at_the_dump_is_given_at_the_restore(tmp_path):
    """As in CRIU, whose restore takes no other: the images do not say where it is."""
    m = Maker("ns_sandbox", tmp_path)
    try:
        m.start()
        m.dump("--root", "/")
        m.reap()
        with pytest.raises(Failure, match="give its directory by --root"):
            m.restore()
        m.restore("--root", "/")
        m.verify()
    finally:
        m.end()


@pytest.mark.may_lack
def test_ipsec_of_a_network_namespace_is_refused_by_name(run):
    p, _ = run("unshare(NEWNET)\nready('there')")
    done = subprocess.run(["nsenter", "-n", "-t", str(p.pid), "ip", "xfrm", "policy", "add", "dst", "192.0.2.0/24",
                           "dir", "out", "tmpl", "dst", "192.0.2.1", "proto", "esp", "mode", "tunnel"],
                          capture_output=True, text=True)
    if "Protocol not supported" in done.stderr:
        pytest.skip("the kernel has no IPsec (CONFIG_XFRM_USER)")
    assert not done.returncode, done.stderr
    code, said = cr_check(p.pid)
    assert code == 1 and "1 IPsec policies" in said


def test_open_namespaces_are_the_same_ones_again(run, tmp_path):
    """The host's and the process's own, which it enters only when its files are there; one of a child."""
    types = ["uts", "cgroup", "mnt", "ipc", "net", "user"]
    p, said = run(f"""
names = {types}
kept = [os.open(f"/proc/self/ns/{{n}}", os.O_RDONLY | os.O_NONBLOCK) for n in names]
unshare(NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWNET)
libc.mount(None, b"/", None, 0x4000 | 0x80000, None)
r, w = os.pipe()
child = os.fork()
if not child:
    unshare(NEWUTS | NEWNS)
    libc.mount(None, b"/", None, 0x4000 | 0x80000, None)
    os.write(w, b"x")
    os.close(w)
    time.sleep(1e6)
os.close(w)
os.read(r, 1)
kept += [os.open(f"/proc/self/ns/{{n}}", os.O_RDONLY) for n in names[:-1]]
kept += [os.open(f"/proc/{{child}}/ns/{{n}}", os.O_RDONLY) for n in ("uts", "mnt")]
ready(child, *kept)
""")
    child, *kept = map(int, said)
    p.stdout.close()
    whose = ["self"] * len(types) + [p.pid] * (len(types) - 1) + [child] * 2
    files = [f"/proc/{who}/ns/{n}" for who, n in zip(whose, types + types[:-1] + ["uts", "mnt"])]

    def opened():
        return [os.stat(f"/proc/{p.pid}/fd/{fd}").st_ino for fd in kept]
    try:
        assert opened() == [os.stat(name).st_ino for name in files]
        done = cr("dump", tmp_path, "-t", str(p.pid))
        assert done.returncode == 0, done.log
        p.wait()
        done = cr("restore", tmp_path, "-d")
        assert done.returncode == 0, done.log
        assert opened() == [os.stat(name).st_ino for name in files]
        assert len(set(opened())) == len(kept)
        flags = [int(open(f"/proc/{p.pid}/fdinfo/{fd}", encoding="ascii").read().split()[3], 8) for fd in kept]
        assert [bool(f & os.O_NONBLOCK) for f in flags] == [who == "self" for who in whose]
    finally:
        for pid in child, p.pid:
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: proc_state(pid) in (None, "Z"), 10, "it does not end")
        reap_orphans()

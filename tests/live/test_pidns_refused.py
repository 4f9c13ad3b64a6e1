"""PID namespaces in a part of a tree, and who is in them: what cannot come back is named beforehand."""
import os
import signal

from live import Maker, children, cr, cr_check, proc_state, reap_orphans, wait_for
from namespaces_common import run  # noqa: F401 (fixtures)


def test_a_pid_namespace_without_its_first_process_is_refused(run):
    _, (child,) = run("""
unshare(NEWPID)
first = os.fork()
if not first:
    time.sleep(1e6)
second = os.fork()
if not second:
    time.sleep(1e6)
ready(second)
""")
    code, text = cr_check(int(child))
    assert code == 1
    assert "it is process 2 of a PID namespace of its own, not the first" in text, text


def test_a_pid_namespace_whose_first_process_has_ended_is_refused(run):
    p, _ = run("""
unshare(NEWPID)
first = os.fork()
if not first:
    os._exit(0)
os.wait()
ready(0)
""")
    code, text = cr_check(p.pid)
    assert code == 1
    assert "get another PID namespace than it has itself, whose first process is not in the tree, or has" in text, text


def test_threads_that_bear_into_different_pid_namespaces_are_refused(run):
    p, (tid,) = run("""
import threading
said = []
def other():
    unshare(NEWPID)
    if not os.fork():
        time.sleep(1e6)
    said.append(threading.get_native_id())
    time.sleep(1e6)
threading.Thread(target=other).start()
while not said:
    time.sleep(0.01)
ready(said[0])
""")
    code, text = cr_check(p.pid)
    assert code == 1
    assert f"children of its thread {tid} get another PID namespace than it has itself, and those" in text, text


def test_a_pid_namespace_nested_in_one_of_others_is_refused(run):
    _, (outer, inner) = run("""
unshare(NEWPID)
r, w = os.pipe()
first = os.fork()
if not first:
    unshare(NEWPID)
    nested = os.fork()
    if not nested:
        time.sleep(1e6)
    os.write(w, b".")
    time.sleep(1e6)
os.read(r, 1)
ready(first, open(f"/proc/{first}/task/{first}/children").read())
""")
    code, text = cr_check(int(outer))
    assert code == 0, text
    code, text = cr_check(int(inner))
    assert code == 1
    assert "its PID namespace is nested in another one" in text, text


def test_a_terminal_beside_a_nested_pid_namespace_is_refused(run):
    p, _ = run("""
import fcntl, termios
master, slave = os.openpty()
fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
unshare(NEWPID)
if not os.fork():
    time.sleep(1e6)
ready(0)
""")
    code, text = cr_check(p.pid)
    assert code == 1
    assert "has a terminal, and the tree has a PID namespace in a part of it only" in text, text


def test_a_group_from_outside_of_a_nested_pid_namespace_is_refused_unless_it_is_the_sessions(run):
    p, (first,) = run("""
r, w = os.pipe()
middle = os.fork()
if not middle:
    os.setpgid(0, 0)
    unshare(NEWPID)
    first = os.fork()
    if not first:
        time.sleep(1e6)
    os.write(w, b"%d" % first)
    time.sleep(1e6)
ready(os.read(r, 20).decode())
""")
    code, text = cr_check(p.pid)
    assert code == 1
    assert f"process {first} (" in text and "the leader of its group is outside of its PID namespace" in text, text


NAMESPACE = """
unshare(NEWPID | NEWNS)
libc.mount(None, b"/", None, 0x84000, None)
r, w = os.pipe()
first = os.fork()
if not first:
    os.setsid()
    libc.mount(b"proc", b"/proc", b"proc", 0, None)
    %s
    os.write(w, b".")
    time.sleep(1e6)
os.read(r, 1)
ready(first)
"""


def numbers(pid):
    """What it, its group and its session are in all PID namespaces."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return {line.split(":")[0]: line.split()[1:] for line in f if line.startswith("NS")}


GUEST = """
libc.setns(os.open("/proc/%s/ns/pid", 0), 0)
r, w = os.pipe()
guest = os.fork()
if not guest:
    os.setsid()
    os.write(w, b".")
    time.sleep(1e6)
os.read(r, 1)
ready(guest)
"""


def test_who_has_entered_a_pid_namespace_is_saved_with_it_only(run, tmp_path):
    p, (first,) = run(NAMESPACE % "")
    other, (guest,) = run(GUEST % first)
    code, text = cr_check(int(first))
    assert code == 1
    assert f"process {guest} (" in text and "outside of the tree is in its pid namespace" in text, text
    code, text = cr_check(other.pid)
    assert code == 1
    assert "the first process of its PID namespace is not in the tree" in text, text
    before = numbers(first), numbers(guest)
    images = tmp_path / "images"
    images.mkdir()
    # They fall to us, who reap them.
    for parent in (p, other):
        parent.kill()
        parent.wait()
    done = cr("dump", images, "-t", first, "-t", guest)
    assert done.returncode == 0, done.log
    done = cr("restore", images, "-d", "--keep-outer-pids")
    assert done.returncode == 0, done.log
    try:
        assert (numbers(first), numbers(guest)) == before
        assert os.readlink(f"/proc/{first}/ns/pid") == os.readlink(f"/proc/{guest}/ns/pid")
    finally:
        os.kill(int(first), signal.SIGKILL)
        wait_for(lambda: proc_state(int(guest)) in (None, "Z"), 10, "the guest does not end")
        reap_orphans()


def test_who_entered_a_pid_namespace_before_it_can_be_made_again_is_refused(run):
    p, (guest,) = run("""
r, w = os.pipe()
go, started = os.pipe()
early = os.fork()
if not early:
    libc.setns(os.open("/proc/%d/ns/pid" % int(os.read(go, 20)), 0), 0)
    guest = os.fork()
    if not guest:
        time.sleep(1e6)
    os.write(w, b"%d" % guest)
    time.sleep(1e6)
unshare(NEWPID)
first = os.fork()
if not first:
    time.sleep(1e6)
os.write(started, b"%d" % first)
ready(os.read(r, 20).decode())
""")
    code, text = cr_check(p.pid)
    assert code == 1
    assert f"process {guest} (" in text and "is not in the tree, or was found after it" in text, text


def test_outer_numbers_in_a_pid_namespace_are_refused(run):
    _, (first,) = run("""
outer = os.open("/proc", os.O_RDONLY)
""" + NAMESPACE % """
    me = os.readlink("self", dir_fd=outer)
    fd = os.open(f"{me}/status", os.O_RDONLY, dir_fd=outer)
    os.close(outer)
""")
    code, text = cr_check(int(first))
    assert code == 1
    assert "of /proc of the outer PID namespace" in text, text


def test_a_session_with_a_terminal_goes_on_in_a_pid_namespace_only_as_a_job(run):
    _, (first,) = run("""
import fcntl, termios
master, slave = os.openpty()
fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
unshare(NEWPID)
first = os.fork()
if not first:
    os.close(master)
    os.close(slave)
    time.sleep(1e6)
ready(first)
""")
    code, text = cr_check(int(first))
    assert code == 1
    assert "the terminal of its session, whose leader is outside the tree and its PID namespace" in text, text


def test_a_failed_restore_of_a_pid_namespace_leaves_nobody(tmp_path):
    m = Maker("ns_pid", tmp_path)
    m.start()
    m.dump()
    m.reap()
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-setup-namespaces ]\n')
    script.chmod(0o755)
    before = children()
    done = cr("restore", m.images, "-d", "--action-script", str(script), timeout=20)
    assert done.returncode == 1, done.log
    assert "step: files and state" in done.log and "step: release" not in done.log
    reap_orphans()
    assert children() <= before

"""POSIX message queues: as in a new kernel, where they are gone; what cannot be kept is named."""

import base64
import ctypes
import errno
import json
import os
import struct
import subprocess

import pytest

from live import CR, Maker, cr, cr_check, start_python, stop_python
from test_failed_restore import fail_to_restore

libc = ctypes.CDLL(None, use_errno=True)
RDWR_CREAT = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK


def queue_open(name, flags=os.O_RDWR | os.O_NONBLOCK):
    return libc.mq_open(name.encode(), flags, 0o600, None)


def saved(images):
    """Names of the queues in the images that have one."""
    done = subprocess.run([CR, "show", "--json", images / "files.img"], capture_output=True,
                          text=True, check=True)
    return {base64.b64decode(state["name"]).decode() for e in json.loads(done.stdout)["entries"]
            if (state := e.get("ext", {}).get("mqueue", {}).get("state")) and not state["unlinked"]}


def remove(images):
    for name in saved(images):
        libc.mq_unlink(f"/{name}".encode())


@pytest.fixture
def maker(tmp_path):
    m = Maker("mqueues", tmp_path)
    m.start()
    yield m
    m.end()
    # Those of a maker that was killed stay, and count against the limit of all tests' user.
    for i in range(4):
        libc.mq_unlink(f"/crk-test-{m.pid}-{i}".encode())


SLEEP = "\nprint(flush=True)\ntime.sleep(1e6)"


def test_queues_come_back_with_what_was_in_them(maker):
    for _ in range(2):
        maker.dump()
        maker.reap()
        assert len(saved(maker.images)) == 3
        remove(maker.images)
        maker.restore()
    maker.verify()


def test_a_failed_restore_leaves_no_queue(maker):
    maker.dump()
    maker.reap()
    remove(maker.images)
    name = f"/crk-test-{maker.pid}-2"
    other = queue_open(name, RDWR_CREAT)
    try:
        os.close(other)
        done = cr("restore", maker.images, "-d")
        assert done.returncode == 1 and "another queue has its name" in done.log, done.log[-500:]
    finally:
        libc.mq_unlink(name.encode())
    assert all(queue_open(f"/crk-test-{maker.pid}-{i}") < 0 for i in range(4))
    maker.restore()
    maker.verify()


def test_a_queue_that_was_used_since_is_not_taken_over(maker):
    maker.dump()
    maker.reap()
    q = queue_open(f"/crk-test-{maker.pid}-2")
    assert libc.mq_send(q, b"new", 3, 0) == 0
    done = cr("restore", maker.images, "-d")
    assert done.returncode == 1 and f"process {os.getpid()} has it open" in done.log, done.log[-500:]
    os.close(q)
    done = cr("restore", maker.images, "-d")
    assert done.returncode == 1 and "used since the dump" in done.log, done.log[-500:]
    q = queue_open(f"/crk-test-{maker.pid}-2")
    room = ctypes.create_string_buffer(8192)
    assert libc.mq_receive(q, room, 8192, None) == 3
    os.close(q)
    maker.restore()
    maker.verify()


def test_a_queue_that_others_have_open_is_refused(maker):
    name = f"/crk-test-{maker.pid}-0"
    q = queue_open(name)
    code, text = cr_check(maker.pid)
    assert code == 1 and f"{name}: POSIX message queue that process {os.getpid()}, outside" in text, text
    os.close(q)
    code, text = cr_check(maker.pid)
    assert code == 0, text
    maker.verify()


def test_a_registered_notification_is_refused():
    name = f"/crk-notify-{os.getpid()}"
    p, _ = start_python(f"q = libc.mq_open(b'{name}', {RDWR_CREAT}, 0o600, None)\n"
                        "event = (ctypes.c_int * 16)(0, 0, 12, 0)\nlibc.mq_notify(q, event)" + SLEEP)
    try:
        code, text = cr_check(p.pid)
        assert code == 1 and f"{name}: POSIX message queue that notifies process {p.pid}" in text, text
    finally:
        stop_python(p)
        libc.mq_unlink(name.encode())


def test_a_queue_that_nobody_has_open_is_named():
    name = f"/crk-loose-{os.getpid()}"
    p, _ = start_python("os.setuid(65531)\n"
                        f"os.close(libc.mq_open(b'{name}', {RDWR_CREAT}, 0o600, None))" + SLEEP)
    try:
        code, text = cr_check(p.pid)
        assert code == 0 and f"{name} of user 65531 is open in no process" in text, text
    finally:
        stop_python(p)
        libc.mq_unlink(name.encode())


def test_a_restore_that_fails_at_its_very_end_leaves_no_queue(maker):
    maker.dump()
    maker.reap()
    remove(maker.images)
    fail_to_restore(maker)
    assert all(queue_open(f"/crk-test-{maker.pid}-{i}") < 0 for i in range(4))


def without_fsopen():
    """As under a container runtime's filter."""
    code = struct.pack("=" + "HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 430,       # the call's number: fsopen(2)?
                       0x06, 0, 0, 0x50000 | errno.EPERM, 0x06, 0, 0, 0x7fff0000)
    room = ctypes.create_string_buffer(code, len(code))
    prog = struct.pack("@HP", 4, ctypes.addressof(room))
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, prog, 0, 0) == 0   # no_new_privs, filter


def test_a_kernel_that_does_not_show_the_queues_is_told_from_queues_of_others(maker):
    done = subprocess.run([CR, "check", "-t", str(maker.pid)], capture_output=True, text=True, check=False,
                          preexec_fn=without_fsopen)
    assert done.returncode == 1
    assert "cannot look at the message queues of the tree: Operation not permitted" in done.stderr, done.stderr

"""System V IPC: objects as in a new kernel, where they are gone; what cannot be kept is named."""

import ctypes
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from live import (CR, HugePages, Maker, cr, cr_check, maker_options, proc_state, reap_orphans,
                  start_python, stop_python, wait_for)

libc = ctypes.CDLL(None, use_errno=True)
IPC_CREAT, IPC_RMID, SETVAL, GETPID, GETVAL = 0o1000, 0, 16, 11, 12
REMOVE = {"shm": lambda i: libc.shmctl(i, IPC_RMID, None),
          "sem": lambda i: libc.semctl(i, 0, IPC_RMID),
          "msg": lambda i: libc.msgctl(i, IPC_RMID, None)}


def objects(what):
    lines = Path(f"/proc/sysvipc/{what}").read_text().splitlines()[1:]
    return {int(line.split()[1]) for line in lines}


def saved(images, what):
    """Ids in the images."""
    found = set()
    for image in Path(images).glob(f"ipcns-{what}-*.img"):
        done = subprocess.run([CR, "show", "--json", image], capture_output=True, text=True,
                              check=True)
        found |= {e["desc"]["id"] for e in json.loads(done.stdout)["entries"]}
    return found


def remove_saved(images):
    for what, remove in REMOVE.items():
        for i in saved(images, what):
            remove(i)


@pytest.fixture
def maker(request, tmp_path):
    m = Maker(getattr(request, "param", "sysv_shm"), tmp_path)
    with HugePages(sum(map(int, maker_options(m.name, "huge-pages")))):
        m.start()
        yield m
        m.end()
        reap_orphans()
        remove_saved(m.images)


def dump_and_lose(m):
    """The tree and its objects are gone; their ids."""
    m.dump()
    m.reap()
    made = {what: saved(m.images, what) for what in REMOVE}
    remove_saved(m.images)
    assert any(made.values()) and not any(objects(w) & made[w] for w in REMOVE)
    return made


KINDS = pytest.mark.parametrize("maker", ["sysv_shm", "sysv_shm_huge", "sysv_sem", "sysv_msg"],
                                indirect=True)


@KINDS
def test_objects_come_back_under_their_ids(maker):
    dump_and_lose(maker)
    maker.restore()
    maker.verify()


@KINDS
def test_the_next_upgrade_knows_whose_they_are(maker):
    made = dump_and_lose(maker)
    maker.restore()
    assert dump_and_lose(maker) == made
    maker.restore()
    maker.verify()


@pytest.mark.parametrize("maker", ["sysv_shm_huge"], indirect=True)
def test_huge_pages_of_a_user_who_may_not_have_any_are_made(maker):
    dump_and_lose(maker)
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, before[1]))
    try:
        maker.restore()
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
    maker.verify()


@pytest.mark.parametrize("maker", ["sysv_shm_huge"], indirect=True)
def test_a_segment_of_small_pages_is_not_taken_for_one_of_huge_pages(maker):
    made = dump_and_lose(maker)
    key = 0x43600000 + maker.pid
    Path("/proc/sys/kernel/shm_next_id").write_text(str(min(made["shm"])))
    other = libc.shmget(key, 2 * (2 << 20) + 123, IPC_CREAT | 0o640)
    try:
        assert other == min(made["shm"])
        done = cr("restore", maker.images, "-d")
        assert done.returncode == 1 and f"System V segment {other}: " in done.log, done.log[-500:]
        assert objects("shm") & made["shm"] == {other}
    finally:
        libc.shmctl(other, IPC_RMID, None)


def key_of(maker):
    return 0x43500000 + maker.pid


def test_a_failed_restore_leaves_no_segment(maker):
    dump_and_lose(maker)
    before = objects("shm")
    other = libc.shmget(key_of(maker), 4096, IPC_CREAT | 0o600)
    try:
        done = cr("restore", maker.images, "-d")
        assert done.returncode == 1 and f"{key_of(maker):#x}" in done.log, done.log[-500:]
        assert objects("shm") - before == {other}
        libc.shmctl(other, IPC_RMID, None)
        pagemap = maker.images / f"pagemap-{maker.pid}.img"
        pagemap.write_bytes(pagemap.read_bytes()[:-1])
        done = cr("restore", maker.images, "-d")
        assert done.returncode == 1 and "step: tasks and memory" in done.log, done.log[-500:]
        assert not objects("shm") - before
    finally:
        libc.shmctl(other, IPC_RMID, None)


def test_a_segment_that_others_have_attached_is_refused(maker):
    libc.shmat.restype = ctypes.c_void_p
    key = libc.shmget(key_of(maker), 0, 0)
    at = libc.shmat(key, None, 0)
    try:
        code, text = cr_check(maker.pid)
        assert code == 1
        assert f"segment {key} (key {key_of(maker):#x}) is attached 3 times by this tree and 4" in text
    finally:
        libc.shmdt(ctypes.c_void_p(at))
    maker.verify()


@pytest.mark.parametrize("maker", ["sysv_msg"], indirect=True)
def test_a_signal_that_comes_before_the_wait_is_repeated_ends_it(maker):
    dump_and_lose(maker)
    maker.restore("--leave-stopped")
    group = [int(p) for p in Path(f"/proc/{maker.pid}/task/{maker.pid}/children").read_text().split()]
    catching = [p for p in group for line in Path(f"/proc/{p}/status").read_text().splitlines()
                if line.startswith("SigCgt:") and int(line.split()[1], 16) & 1 << 11]
    os.kill(catching[0], 12)    # SIGUSR2
    for pid in [maker.pid, *group]:
        os.kill(pid, 18)        # SIGCONT
    wait_for(lambda: proc_state(catching[0]) == "Z", 20, "msgrcv goes on")
    maker.verify()


SEM_AND_QUEUE = """
sem = libc.semget(0, 2, 0o1666)
libc.semctl(sem, 1, 16, 5)
queue = libc.msgget(0, 0o1666)
libc.msgsnd(queue, b"\\1" + b"\\0" * 7 + b"text", 4, 0)
print(sem, queue, flush=True)
"""
SLEEP = "\ntime.sleep(1e6)"


def test_a_segment_of_the_tree_that_nobody_has_attached_is_refused():
    p, (shm,) = start_python("print(libc.shmget(0, 4096, 0o1600), flush=True)" + SLEEP)
    try:
        code, text = cr_check(p.pid)
        assert code == 1 and f"System V segment {shm} " in text and str(p.pid) in text, text
    finally:
        stop_python(p)
        REMOVE["shm"](shm)


def test_a_segment_that_the_tree_was_the_last_to_detach_is_refused():
    shm = libc.shmget(0, 4096, 0o1600)
    p, _ = start_python(f"libc.shmat.restype = ctypes.c_void_p\nat = libc.shmat({shm}, None, 0)\n"
                 "libc.shmdt(ctypes.c_void_p(at))\nprint(flush=True)" + SLEEP)
    try:
        code, text = cr_check(p.pid)
        assert code == 1 and f"System V segment {shm} " in text and str(p.pid) in text, text
    finally:
        stop_python(p)
        REMOVE["shm"](shm)


def test_what_others_use_too_is_refused_with_their_name():
    p, (sem, queue) = start_python(SEM_AND_QUEUE + "libc.msgrcv(queue, b'1' * 12, 4, 0, 0)" + SLEEP)
    try:
        wait_for(lambda: not cr_check(p.pid)[0], 20, "it is refused")
        libc.semctl(sem, 0, SETVAL, 1)
        libc.msgsnd(queue, b"\1" + b"\0" * 7 + b"more", 4, 0)
        code, text = cr_check(p.pid)
        assert code == 1
        for words in (f"System V semaphores {sem} (", f"System V message queue {queue} (",
                      f"used by process {os.getpid()} ("):
            assert words in text, text
    finally:
        stop_python(p)
        REMOVE["sem"](sem)
        REMOVE["msg"](queue)


def test_a_stranger_that_waits_for_a_semaphore_is_refused():
    p, (sem, queue) = start_python(SEM_AND_QUEUE + SLEEP)
    waiter, _ = start_python(f"print(flush=True)\nlibc.semop({sem}, b'\\0\\0\\xff\\xff\\0\\0', 1)")
    try:
        wait_for(lambda: libc.semctl(sem, 0, 14) == 1, 20, "it does not wait")
        code, text = cr_check(p.pid)
        assert code == 1 and f"System V semaphores {sem} " in text, text
        assert "outside the tree waits" in text, text
    finally:
        stop_python(waiter)
        stop_python(p)
        REMOVE["sem"](sem)
        REMOVE["msg"](queue)


def test_a_member_of_the_namespace_that_the_tree_never_used_is_left_alone(tmp_path):
    p, _ = start_python("print(flush=True)" + SLEEP)
    other, (sem, queue) = start_python(SEM_AND_QUEUE + SLEEP)
    try:
        done = cr("dump", tmp_path, "-t", str(p.pid), "--leave-running")
        assert done.returncode == 0, done.log[-500:]
        assert sem not in saved(tmp_path, "sem") and queue not in saved(tmp_path, "msg")
    finally:
        stop_python(p)
        stop_python(other)
        REMOVE["sem"](sem)
        REMOVE["msg"](queue)


UNDO = """
sem = libc.semget(0, 1, 0o1666)
libc.semop(sem, b"\\0\\0\\5\\0\\0\\x10", 1)     # +5, SEM_UNDO
print(sem, flush=True)
"""


def test_an_adjustment_alone_makes_a_set_the_trees():
    p, (sem,) = start_python(UNDO + SLEEP)
    try:
        libc.semctl(sem, 0, SETVAL, 9)          # forgets all adjustments, and was the last
        assert cr_check(p.pid)[0] == 0
        stop_python(p)
        p, (again,) = start_python(f"libc.semop({sem}, b'\\0\\0\\5\\0\\0\\x10', 1)\nprint({sem}, flush=True)"
                            + SLEEP)
        libc.semop(sem, b"\0\0\1\0\0\0", 1)     # ours is the last pid
        assert libc.semctl(sem, 0, GETPID) == os.getpid()
        code, text = cr_check(p.pid)
        assert code == 1 and f"semaphores {again} " in text and str(os.getpid()) in text, text
        assert libc.semctl(sem, 0, GETVAL) == 15 and libc.semctl(sem, 0, GETPID) == os.getpid()
    finally:
        stop_python(p)
        assert libc.semctl(sem, 0, GETVAL) == 10
        REMOVE["sem"](sem)


def test_adjustments_that_nobody_can_ask_for_are_refused():
    p, (sem,) = start_python(UNDO.replace("0o1666", "0o1600") + "os.setuid(65534)\nos.setuid(65534)" + SLEEP)
    try:
        # It speaks before that.
        wait_for(lambda: "Uid:\t65534" in Path(f"/proc/{p.pid}/status").read_text(), 10, "setuid")
        code, text = cr_check(p.pid)
        assert code == 1 and f"System V semaphores {sem} " in text, text
        assert "nothing shows its adjustments" in text, text
    finally:
        stop_python(p)
        REMOVE["sem"](sem)


def test_objects_whose_last_user_is_dead_go_with_their_owner(tmp_path):
    p, (sem, queue) = start_python("os.setuid(65533)\nif not os.fork():\n"
                            + "\n".join(" " + line for line in SEM_AND_QUEUE.splitlines())
                            + "\n os._exit(0)\nos.wait()" + SLEEP)
    try:
        wait_for(lambda: not Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text(), 20, "its child is dead")
        done = cr("dump", tmp_path, "-t", str(p.pid))
        assert done.returncode == 0, done.log[-500:]
        stop_python(p)
        assert saved(tmp_path, "sem") == {sem} and saved(tmp_path, "msg") == {queue}
        for gone in (False, True):
            if gone:
                remove_saved(tmp_path)
            done = cr("restore", tmp_path, "-d")
            assert done.returncode == 0, done.log[-500:]
            assert libc.semctl(sem, 1, GETVAL) == 5 and libc.semctl(sem, 0, GETPID) == 0
            os.kill(p.pid, 9)
            wait_for(lambda: reap_orphans() or not Path(f"/proc/{p.pid}").exists(), 20, "it lives")
            buf = ctypes.create_string_buffer(16)
            assert libc.msgrcv(queue, buf, 8, 0, 0o44000) == 4 and buf.raw[8:12] == b"text"
    finally:
        remove_saved(tmp_path)


def test_an_object_that_only_its_owner_ties_to_the_tree_never_fails_a_restore(tmp_path):
    key = 0x43800000 + os.getpid()
    p, (sem,) = start_python("os.setuid(65533)\nif not os.fork():\n"
                      f" sem = libc.semget({key}, 1, 0o1600)\n libc.semctl(sem, 0, 16, 5)\n"
                      " print(sem, flush=True)\n os._exit(0)\nos.wait()" + SLEEP)
    try:
        wait_for(lambda: not Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text(), 20, "its child")
        done = cr("dump", tmp_path, "-t", str(p.pid))
        assert done.returncode == 0, done.log[-500:]
        stop_python(p)
        assert saved(tmp_path, "sem") == {sem}
        remove_saved(tmp_path)
        other = libc.semget(key, 3, IPC_CREAT | 0o600)
        done = cr("restore", tmp_path, "-d")
        assert done.returncode == 0 and "it is left out" in done.log, done.log[-500:]
        assert libc.semctl(sem, 0, GETVAL) == -1
        REMOVE["sem"](other)
    finally:
        try:
            os.kill(p.pid, 9)
        except ProcessLookupError:
            pass
        remove_saved(tmp_path)


def test_a_queue_that_was_used_since_is_not_taken_over(tmp_path):
    p, (sem, queue) = start_python(SEM_AND_QUEUE + SLEEP)
    try:
        assert cr("dump", tmp_path, "-t", str(p.pid)).returncode == 0
        stop_python(p)
        buf = ctypes.create_string_buffer(16)
        assert libc.msgrcv(queue, buf, 8, 0, 0) == 4
        done = cr("restore", tmp_path, "-d")
        assert done.returncode == 1 and f"process {os.getpid()} (" in done.log, done.log[-500:]
        subprocess.run([sys.executable, "-c", "import ctypes; ctypes.CDLL(None).msgsnd("
                        f"{queue}, b'1' * 12, 4, 0); ctypes.CDLL(None).msgrcv({queue}, b'1' * 12, 4, 0, 0)"],
                       check=True)
        done = cr("restore", tmp_path, "-d")
        assert done.returncode == 1 and f"ipcrm -q {queue}" in done.log, done.log[-500:]
        assert "used since the dump" in done.log
    finally:
        remove_saved(tmp_path)


def test_a_set_that_somebody_uses_is_not_taken_over(tmp_path):
    p, (sem, _) = start_python(SEM_AND_QUEUE + SLEEP)
    try:
        assert cr("dump", tmp_path, "-t", str(p.pid)).returncode == 0
        stop_python(p)
        libc.semctl(sem, 0, SETVAL, 3)
        done = cr("restore", tmp_path, "-d")
        assert done.returncode == 1 and f"ipcrm -s {sem}" in done.log, done.log[-500:]
        assert libc.semctl(sem, 0, GETVAL) == 3 and libc.semctl(sem, 1, GETVAL) == 5
    finally:
        remove_saved(tmp_path)


@pytest.mark.parametrize("maker", ["sysv_sem", "sysv_msg"], indirect=True)
def test_a_failed_restore_leaves_nothing(maker):
    made = dump_and_lose(maker)
    other = libc.semget(0x43000000 + maker.pid, 1, IPC_CREAT | 0o600) \
        if made["sem"] else libc.msgget(0x43000000 + maker.pid, IPC_CREAT | 0o600)
    try:
        done = cr("restore", maker.images, "-d")
        assert done.returncode == 1 and "belongs to another one" in done.log, done.log[-500:]
        # Or the next object of anybody would get the number.
        assert {int(Path(f"/proc/sys/kernel/{what}_next_id").read_text()) for what in REMOVE} == {-1}
    finally:
        REMOVE["sem" if made["sem"] else "msg"](other)
    assert not any(objects(w) & made[w] for w in REMOVE)
    pagemap = maker.images / f"pagemap-{maker.pid}.img"
    whole = pagemap.read_bytes()
    # Seen when the objects have been made.
    pagemap.write_bytes(whole[:-1])
    done = cr("restore", maker.images, "-d")
    assert done.returncode == 1 and "step: tasks and memory" in done.log, done.log[-500:]
    assert not any(objects(w) & made[w] for w in REMOVE)
    pagemap.write_bytes(whole)
    maker.restore()
    maker.verify()


# Limits are the namespace's: this runs in one of its own, which cr and the tree share.
LARGE = """
import ctypes, os, subprocess, sys
cr, images = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(36, 1, 0, 0, 0)      # PR_SET_CHILD_SUBREAPER

def limit(name, value=None):
    with open("/proc/sys/kernel/" + name, "r+") as f:
        if value:
            f.write(str(value))
        return int(f.read()) if not value else value

def message(size):
    return b"\\1" + b"\\0" * 7 + bytes(i * 7 % 251 for i in range(size))

limit("msgmax", 1000000)
limit("msgmnb", 1000000)
queue = libc.msgget(0, 0o1600)
r, w = os.pipe()
pid = os.fork()
if not pid:
    os.setsid()
    libc.msgsnd(queue, message(int(os.environ["SIZE"])), int(os.environ["SIZE"]), 0)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.closerange(3, w)
    os.closerange(w + 1, 100)
    os.close(w)     # the last one
    while True:
        libc.pause()
os.close(w)
os.read(r, 1)
done = subprocess.run([cr, "dump", "-t", str(pid), "-D", images], capture_output=True, text=True)
print(done.returncode, done.stderr, flush=True)
if done.returncode:
    os.kill(pid, 9)
    sys.exit()
os.waitpid(pid, 0)
libc.msgctl(queue, 0, None)
limit("msgmax", 8192)
done = subprocess.run([cr, "restore", "-d", "-D", images], capture_output=True, text=True)
print(done.returncode, done.stderr, limit("msgmax"), flush=True)
buf = ctypes.create_string_buffer(1000000)
size = libc.msgrcv(queue, buf, 900000, 0, 0)
print(size, buf.raw[:8 + size] == message(size))
os.kill(pid, 9)
"""


def large(tmp_path, size):
    done = subprocess.run(["unshare", "--ipc", sys.executable, "-c", LARGE, CR, tmp_path],
                          capture_output=True, text=True, check=False, timeout=60,
                          env={**os.environ, "SIZE": str(size)})
    return done.stdout.splitlines(), done.stderr


def test_a_message_beyond_the_new_kernels_limit_is_restored(tmp_path):
    lines, errors = large(tmp_path, 20000)
    assert lines == ["0 ", "0  8192", "20000 True"], errors


def test_a_message_that_is_too_large_is_refused(tmp_path):
    lines, errors = large(tmp_path, (256 << 10) + 1)
    assert lines[0].startswith("1 ") and "a message is larger than 262144 bytes" in lines[0], errors
    lines, errors = large(tmp_path, 256 << 10)
    assert lines == ["0 ", "0  8192", "262144 True"], errors

"""What threads have for themselves, and processes with others, cannot all come back: it is named before anything has changed."""
import ctypes
import subprocess

import pytest

from live import BEGIN, CR, check, cr, cr_check, proc_state, start_python, stop_python

# The engine makes threads by their leader: they would be in its namespaces, with its files.
THREAD = """
import threading
pid = os.getpid()
def work():
    {work}
    print(pid, libc.syscall(186), flush=True)
    time.sleep(1e6)
NEWUTS, NEWIPC, NEWNET, NEWTIME, NEWPID = 0x4000000, 0x8000000, 0x40000000, 0x80, 0x20000000
FILES, FS = 0x400, 0x200
t = threading.Thread(target=work)
t.start()
time.sleep(1e6)
"""


@pytest.fixture
def run():
    """Runs a Python text; gives its process and the numbers that it said first."""
    started = []

    def start(code):
        p, said = start_python(code)
        started.append(p)
        assert said, "it ended early"
        return p, said
    yield start
    for p in started:
        stop_python(p)


@pytest.mark.parametrize("work, words", [
    ("libc.unshare(NEWNET)", "has namespaces that are not its process's: net ("),
    ("libc.unshare(NEWUTS | NEWIPC)", "has namespaces that are not its process's: uts ipc ("),
    ("libc.unshare(NEWTIME)", "has namespaces that are not its process's: time_for_children ("),
    ("libc.unshare(NEWPID)", "and those of its other threads do not"),
    ("libc.unshare(FILES)", "has a descriptor table of its own"),
    ("libc.unshare(FS); threading.Thread(target=time.sleep, args=(1e6,)).start()",
     "share a working directory that is not their process's"),
], ids=["net", "two", "time", "pid", "files", "fs"])
def test_what_a_thread_has_for_itself_is_named_with_both_ids(run, work, words):
    p, (pid, tid) = run(THREAD.format(work=work))
    status, text = cr_check(pid)
    assert status == 1 and words in text
    assert f"process {pid} " in text and f"{tid} " in text
    assert p.poll() is None


def test_a_thread_whose_new_namespaces_are_the_old_ones_is_no_obstacle(run):
    _, (pid, _) = run(THREAD.format(work="fd = os.open('/proc/self/ns/uts', 0); libc.unshare(NEWUTS); "
                                         "libc.setns(fd, 0); os.close(fd)"))
    status, text = cr_check(pid)
    assert status == 0, text


# What clone(2) lets processes share; without CLONE_VM it returns twice, as fork().
CLONES = """
VM, FS, FILES, SIGHAND, PARENT, SYSVSEM, IO = 0x100, 0x200, 0x400, 0x800, 0x8000, 0x40000, 0x80000000
pause = ctypes.cast(libc.pause, ctypes.c_void_p)
stack = ctypes.create_string_buffer(65536)
def clone(flags):
    if not flags & VM:
        return libc.syscall(56, ctypes.c_ulong(flags | 17), 0, 0, 0, 0)
    return libc.clone(pause, ctypes.c_void_p(ctypes.addressof(stack) + 65520 & ~15), flags | 17, None)
r, w = os.pipe()
def tell(*numbers):
    os.write(w, (" ".join(map(str, numbers)) + "\\n").encode())
    time.sleep(1e6)
def told():
    return os.read(r, 100).decode().strip()
def ready(*numbers):
    print(*numbers, flush=True)
    time.sleep(1e6)
"""
SIBLINGS = CLONES + """
first = os.fork()
if not first:
    second = clone(PARENT | %s)
    if second:
        tell(second)
    time.sleep(1e6)
ready(os.getpid(), first, told())
"""
WHAT = [("VM", "memory", "VM"), ("VM | SIGHAND", "memory", "VM"), ("FILES", "descriptors", "FILES"),
        ("FS", "working directory, root and umask", "FS")]


@pytest.mark.parametrize("flag, what, name", WHAT)
def test_what_siblings_share_is_named(run, flag, what, name):
    p, (pid, first, second) = run(SIBLINGS % flag)
    status, text = cr_check(pid)
    assert status == 1 and f"process {second} (" in text
    other = ", which is not its parent" if flag == "FILES" else ""
    assert f"it shares its {what} with process {first} (python3){other} (clone(CLONE_{name}))" in text, text
    assert text.count("remedy:") == 1, text
    assert p.poll() is None


@pytest.mark.parametrize("flag, what, name", WHAT)
def test_what_is_shared_with_a_process_outside_of_the_tree_is_named(run, flag, what, name):
    _, (pid, child) = run(CLONES + f"child = clone({flag})\nif child: ready(os.getpid(), child)\ntime.sleep(1e6)")
    status, text = cr_check(child)
    assert status == 1
    assert f"it shares its {what} with process {pid} (python3) outside of the tree (clone(CLONE_{name}))" in text, text
    # As it is found, and among all.
    assert text.count("it shares") == 2, text


def test_a_pre_dump_tells_it_as_well(run, tmp_path):
    """Two trackings of one memory would be in each other's way."""
    p, (_, first, second) = run(SIBLINGS % "VM")
    done = cr("pre-dump", tmp_path, "-t", str(p.pid))
    assert done.returncode == 1
    assert f"process {second} (python3): it shares its memory with process {first} (python3)" in done.log
    assert p.poll() is None


def test_descriptors_that_a_program_between_does_not_share_any_more_are_named(run):
    _, (pid, middle, last) = run(CLONES + """
middle = clone(FILES)
if not middle:
    last = clone(FILES)
    if not last:
        time.sleep(1e6)
    os.write(w, str(last).encode())
    os.execlp("sleep", "sleep", "1000")
last = told()
while open(f"/proc/{middle}/comm").read() != "sleep\\n":
    time.sleep(0.01)
ready(os.getpid(), middle, last)
""")
    status, text = cr_check(pid)
    assert status == 1 and f"process {last} (python3): it shares its descriptors with process {pid} (python3), " \
        "which is not its parent" in text, text
    assert f"process {middle} (" not in text


def test_descriptors_of_three_generations_come_back_as_one_table(run, tmp_path):
    p, (pid, *others) = run(CLONES + """
child = clone(FILES)
if not child:
    last = clone(FILES)
    if last:
        tell(last)
    time.sleep(1e6)
ready(os.getpid(), child, told())
""")
    p.stdout.close()
    check(cr("dump", tmp_path, "-t", str(pid)), "dump")
    p.wait()
    check(cr("restore", tmp_path, "-d"), "restore")
    for other in others:
        assert ctypes.CDLL(None).syscall(312, pid, other, 2, 0, 0) == 0     # kcmp(2), KCMP_FILES


def test_a_working_directory_shared_with_the_parent_is_named(run):
    _, (pid, child) = run(CLONES + "child = clone(FS)\nif child: ready(os.getpid(), child)\ntime.sleep(1e6)")
    status, text = cr_check(pid)
    assert status == 1 and f"process {child} " in text
    assert f"it shares its working directory, root and umask with process {pid}" in text


def test_a_working_directory_that_a_thread_shares_with_a_process_is_named(run):
    _, (pid, tid, child) = run(CLONES + """
import threading
def work():
    libc.unshare(FS)
    child = clone(FS)
    if not child:
        time.sleep(1e6)
    ready(os.getpid(), threading.get_native_id(), child)
threading.Thread(target=work).start()
time.sleep(1e6)
""")
    status, text = cr_check(pid)
    assert status == 1
    assert f"process {child} (python3): it shares its working directory, root and umask with process {pid} " in text, text


def test_a_shared_io_context_is_lost_with_a_warning(run):
    _, (pid, child) = run(CLONES + "libc.syscall(251, 1, 0, 2 << 13 | 5)\nchild = clone(IO)\n"
                          "if child: ready(os.getpid(), child)\ntime.sleep(1e6)")
    status, text = cr_check(pid)
    assert status == 0, text
    assert f"tasks {child} and {pid} share an I/O context" in text


UNDO = CLONES + """
s = libc.semget(0, 1, 0o600)
def op(by):
    assert not libc.semop(s, (ctypes.c_short * 3)(0, by, 0x1000), 1)
op(2)
%s
child = clone(SYSVSEM)
if child:
    ready(os.getpid(), child, s)
time.sleep(1e6)
"""


@pytest.fixture
def semaphores(run):
    made = []

    def start(text):
        p, (pid, child, sem) = run(text)
        made.append(sem)
        return p, pid, child
    yield start
    for sem in made:
        ctypes.CDLL(None).semctl(sem, 0, 0)     # IPC_RMID


@pytest.mark.parametrize("root", ["parent", "child"])
def test_adjustments_of_semaphores_that_processes_share_are_refused(semaphores, root):
    _, pid, child = semaphores(UNDO % "")
    status, text = cr_check(pid if root == "parent" else child)
    assert status == 1
    words = f"with process {pid}" + ("" if root == "parent" else " outside of the tree")
    assert f"it shares its adjustments of semaphores (SEM_UNDO) {words}" in text, text


def test_a_shared_list_of_no_adjustments_is_lost_with_a_warning(semaphores):
    _, pid, child = semaphores(UNDO % "op(-2)")
    status, text = cr_check(pid)
    assert status == 0, text
    assert f"it shares with process {pid} what semaphores get back (SEM_UNDO)" in text


INSIDE = """
import subprocess, sys
p = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
print(p.stdout.readline(), flush=True)
sys.exit(subprocess.run([sys.argv[2], "check", "-t", str(p.pid)], stderr=subprocess.STDOUT).returncode)
"""
COMPARED = [(SIBLINGS % flag, f"it shares its {what} with process 3 (python3)") for flag, what, _ in WHAT] + [
    (THREAD.format(work="libc.unshare(FILES)"), "thread 3 (python3) has a descriptor table of its own"),
    (THREAD.format(work="libc.unshare(FS); threading.Thread(target=time.sleep, args=(1e6,)).start()"),
     "threads 3 and 4 share a working directory that is not their process's"),
    (THREAD.format(work="libc.unshare(NEWUTS)"), "thread 3 (python3) has namespaces that are not its process's: uts"),
]


@pytest.mark.parametrize("program, words", COMPARED, ids=[
    "vm", "sighand", "files", "fs", "a thread's files", "threads' fs", "a thread's namespaces"])
def test_where_the_kernel_cannot_be_looked_into_tasks_are_compared(program, words):
    """Its programs know tasks by their numbers in the initial PID namespace."""
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "/usr/bin/python3", "-c", INSIDE,
                           BEGIN + program, CR], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert words in done.stdout and done.stdout.count("remedy:") == 1, done.stdout


@pytest.mark.parametrize("field, words", [
    (1, "it shares its memory with process {} (both have vm_id 2)"),
    (3, "it shares its working directory, root and umask with process {} (both have fs_id 2)"),
    (4, "it shares its signal handlers with process {} (both have sighand_id 2)"),
])
def test_images_of_others_whose_processes_share_more_than_descriptors_are_refused(run, tmp_path, field, words):
    p, (pid, child) = run("child = os.fork()\nif child: print(os.getpid(), child, flush=True)\ntime.sleep(1e6)")
    p.stdout.close()
    check(cr("dump", tmp_path, "-t", str(pid)), "dump")
    p.wait()
    ids = tmp_path / f"ids-{child}.img"
    whole = ids.read_bytes()
    assert whole.count(bytes([field << 3, 3])) == 1
    ids.write_bytes(whole.replace(bytes([field << 3, 3]), bytes([field << 3, 2])))
    done = cr("restore", tmp_path, "-d")
    assert done.returncode == 1 and f"process {child}: {words.format(pid)}" in done.log, done.log
    assert proc_state(pid) is None

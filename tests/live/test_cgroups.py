"""cgroup v1, alone or beside v2: groups that come back, where they come back, its freezer."""
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from live import Maker, check, cr, cr_check, proc_state, reap_orphans, wait_for

# A kernel may be without v1, or somebody else may have its controllers.
pytestmark = pytest.mark.may_lack
SELF = Path("/proc/self/cgroup")


def is_there(name):
    return any(line.split(":")[1] == name for line in SELF.read_text().splitlines())


def mount(directory, name):
    options = f"none,{name}" if name.startswith("name=") else name
    directory.mkdir(exist_ok=True)
    return subprocess.run(["mount", "-t", "cgroup", "-o", options, "crk", directory],
                          capture_output=True, text=True)


def umount(directory):
    wait_for(lambda: not subprocess.run(["umount", directory]).returncode, 10, f"{directory} is idle")
    directory.rmdir()


def unmake(directory, name):
    """It goes with its last mount, if its groups are really gone by then. Both takes the kernel a moment, in
    which another mount would keep it; so would zombies that were in them."""
    def is_gone():
        reap_orphans()
        for _ in range(20):
            if not is_there(name):
                return True
            time.sleep(0.05)
        if not mount(directory, name).returncode:
            umount(directory)
        return False
    wait_for(is_gone, 60, f"the hierarchy {name} is gone")


@contextmanager
def hierarchy(directory, name):
    """Mounted here meanwhile; one that was not there before is gone afterwards."""
    new = not is_there(name)
    done = mount(directory, name)
    if done.returncode:
        pytest.skip(f"no cgroup v1 hierarchy {name}: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        umount(directory)
        if new:
            unmake(directory, name)


@contextmanager
def groups(root, *names):
    made = [root / name for name in names]
    try:
        for group in made:
            group.mkdir()
        yield made
    finally:
        for group in sorted(root.glob(f"{names[0]}/**/"), reverse=True):
            wait_for(lambda: remove(group), 10, f"{group} is empty")


def remove(group):
    try:
        group.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def remove_everywhere(tmp_path, name):
    """A new root for all hierarchies is made in all of them."""
    for line in open("/proc/self/mountinfo"):
        if " - cgroup2 " in line:
            remove(Path(line.split()[4]) / name)
    for line in SELF.read_text().splitlines():
        if v1 := line.split(":")[1]:
            with hierarchy(tmp_path / "any", v1) as root:
                remove(root / name)


@pytest.fixture
def freezer(tmp_path):
    """A group of the v1 freezer, and one below it."""
    with hierarchy(tmp_path / "freezer", "freezer") as root:
        with groups(root, f"crk-live-{os.getpid()}", f"crk-live-{os.getpid()}/inner") as (group, _):
            yield group
            (group / "freezer.state").write_text("THAWED")
            for pid in map(int, (group / "inner/cgroup.procs").read_text().split()
                           + (group / "cgroup.procs").read_text().split()):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def process(code="time.sleep(1000)", group=None, stdin=subprocess.DEVNULL):
    """One that sleeps, or runs this code, in that group."""
    p = subprocess.Popen([sys.executable, "-c", "import os, time\nos.setsid()\nprint('ready', flush=True)\n"
                          + code], stdin=stdin, stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == "ready\n"
        if group:
            (group / "cgroup.procs").write_text(str(p.pid))
        yield p
    finally:
        if group and (group / "freezer.state").exists():
            (group / "freezer.state").write_text("THAWED")
        p.kill()
        p.wait(20)
        p.stdout.close()
        if p.stdin:
            p.stdin.close()


def images(tmp_path, name="img"):
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_groups_that_are_gone_come_back_with_their_settings(tmp_path):
    """In every hierarchy; the named one of the maker goes as well, with its last group."""
    with ExitStack() as held:
        # What the maker would make goes with its last group, too, and only a named one is made anew by a restore.
        for controllers in ("freezer", "devices", "net_cls,net_prio"):
            held.enter_context(hierarchy(tmp_path / controllers, controllers))
        maker = Maker("ns_cgroup_v1", tmp_path)
        try:
            maker.start()
            maker.dump()
            maker.reap()
            for name, path in reversed(re.findall(r"^group (\S+) (\S+)$", maker.read(), re.M)):
                with hierarchy(tmp_path / "any", name) as root:
                    wait_for(lambda: remove(root / path[1:]), 10, f"{path} is empty")
            unmake(tmp_path / "any", f"name=crk-v1-{maker.number}")
            maker.restore()
            maker.verify()
        finally:
            maker.end()


# Groups as its own, in a loop: most of a frozen tree's tasks are on their way somewhere.
FORKS = """
import threading
threading.Thread(target=lambda: [os.waitpid(os.fork() or os._exit(0), 0) for _ in iter(int, 1)]).start()
while True:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
"""


def test_a_tree_that_forks_is_frozen_by_v1_and_goes_on(freezer, tmp_path):
    with process(FORKS, freezer) as p:
        for n in range(30):
            done = cr("dump", tmp_path, "-R", "-t", str(p.pid), "--freeze-cgroup", str(freezer))
            assert done.returncode == 0, f"dump {n}: {done.stderr}\n{done.log[-1500:]}"
            assert (freezer / "freezer.state").read_text() == "THAWED\n"
        check(cr("pre-dump", images(tmp_path), "-t", str(p.pid), "--freeze-cgroup", str(freezer)), "pre-dump")
        assert (freezer / "freezer.state").read_text() == "THAWED\n" and p.poll() is None


def spawns(fifo, argv):
    """Code that stays in vfork() until somebody opens the FIFO: its child does so before it executes argv."""
    return (f"os.posix_spawn({argv[0]!r}, {argv!r}, {{}}, file_actions=[(os.POSIX_SPAWN_OPEN, 9, {str(fifo)!r}, "
            "os.O_RDONLY, 0)]); time.sleep(1000)\n")


def tracer(pid):
    return int(re.search(r"TracerPid:\t(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def test_a_child_found_after_the_thaw_may_be_in_vfork_too(freezer, tmp_path):
    """It is waited for; its group is not frozen once more, where what has stopped could not run our calls."""
    fifos = [tmp_path / f"fifo{n}" for n in range(3)]
    for fifo in fifos:
        os.mkfifo(fifo)
    child = "import os, time\n" + spawns(fifos[1], ["/bin/sleep", "1000"])
    # Not before they are in the group.
    code = ("os.read(0, 1)\nif not os.fork(): " + spawns(fifos[0], [sys.executable, "-c", child])
            + "if not os.fork(): " + spawns(fifos[2], ["/bin/sleep", "1000"]) + "time.sleep(1000)")
    with process(code, freezer, subprocess.PIPE) as p, ThreadPoolExecutor() as pool:
        p.stdin.write("x")
        p.stdin.flush()
        wait_for(lambda: len(family(p.pid)) == 5, 10, "both spawn")
        first, last = family(p.pid)[1:3]
        done = pool.submit(cr, "dump", tmp_path, "-R", "-t", str(p.pid), "--freeze-cgroup", str(freezer))
        wait_for(lambda: tracer(last) and (freezer / "freezer.state").read_text() == "THAWED\n", 10, "the thaw")
        fifos[0].write_text("")
        wait_for(lambda: len(family(first)) == 3, 10, "the child spawns")
        # It is looked for when the last one has stopped.
        fifos[2].write_text("")
        wait_for(lambda: tracer(family(first)[1]), 10, "the child is to stop")
        time.sleep(0.1)     # more patience than there is in a frozen group, which would be thawed for its sake
        fifos[1].write_text("")
        check(done.result(), "dump")
        assert (freezer / "freezer.state").read_text() == "THAWED\n" and len(family(p.pid)) == 6


def family(pid):
    """The process and all below it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


@pytest.mark.parametrize("name", ["threads", "stopped", "main_ended", "waits", "lineage"])
def test_makers_state_survives_with_the_freezer_of_v1(freezer, tmp_path, name):
    maker = Maker(name, tmp_path)
    try:
        maker.start()
        for pid in family(maker.pid):
            (freezer / "inner/cgroup.procs").write_text(str(pid))
        maker.dump("--freeze-cgroup", str(freezer))
        maker.reap()
        maker.restore()
        assert f":freezer:/{freezer.name}/inner" in Path(f"/proc/{maker.pid}/cgroup").read_text()
        maker.verify()
    finally:
        maker.end()


def test_a_group_that_stood_still_does_so_afterwards_and_when_it_is_made_again(freezer, tmp_path):
    img = images(tmp_path)
    with process(group=freezer) as p:
        (freezer / "freezer.state").write_text("FROZEN")
        wait_for(lambda: (freezer / "freezer.state").read_text() == "FROZEN\n", 10, "frozen")
        check(cr("dump", img, "-R", "-t", str(p.pid), "--freeze-cgroup", str(freezer)), "dump")
        assert (freezer / "freezer.state").read_text() == "FROZEN\n"
        check(cr("dump", img, "-t", str(p.pid), "--freeze-cgroup", str(freezer)), "dump")
        p.wait(20)
        wait_for(lambda: remove(freezer / "inner") and remove(freezer), 10, "the group is empty")
        check(cr("restore", img, "-d", "--inherit-fd", f"fd[1]:{os.readlink('/proc/self/fd/1')}"), "restore")
        wait_for(lambda: (freezer / "freezer.state").read_text() == "FROZEN\n", 10, "frozen again")
        (freezer / "inner").mkdir()
        (freezer / "freezer.state").write_text("THAWED")


def test_a_group_that_is_frozen_now_is_named_by_restore(freezer, tmp_path):
    with process(group=freezer) as p:
        check(cr("dump", tmp_path, "-t", str(p.pid)), "dump")
        p.wait(20)
        (freezer / "freezer.state").write_text("FROZEN")
        done = cr("restore", tmp_path, "-d", timeout=20)
        assert done.returncode == 1 and "is frozen: nobody can be restored in it" in done.stderr
        assert not (freezer / "cgroup.procs").read_text()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_frozen_tree_whose_group_is_not_given_is_named(freezer, tmp_path, stopped):
    """One that is stopped by a signal as well cannot even be seized."""
    with process(group=freezer) as p:
        if stopped:
            p.send_signal(signal.SIGSTOP)
            wait_for(lambda: proc_state(p.pid) == "T", 10, "stopped")
        (freezer / "freezer.state").write_text("FROZEN")
        wait_for(lambda: (freezer / "freezer.state").read_text() == "FROZEN\n", 10, "frozen")
        done = cr("dump", tmp_path, "-t", str(p.pid), "--timeout", "1")
        assert done.returncode == 1 and "frozen (freezer of cgroup v1)" in done.stderr
        assert (freezer / "freezer.state").read_text() == "FROZEN\n"


# Its main thread ends, and the other one stops it.
MAIN_ENDS = """
import ctypes, signal, threading
def stop():
    while open(f"/proc/{os.getpid()}/stat").read().split()[2] != "Z":
        pass
    os.kill(os.getpid(), signal.SIGSTOP)
os.read(0, 1)
threading.Thread(target=stop).start()
ctypes.CDLL(None).syscall(60, 0)
"""


def test_a_stopped_process_whose_main_thread_has_ended_is_named_with_v1_too(freezer, tmp_path):
    """Who is frozen does not tell that it is stopped before the thaw."""
    with process(MAIN_ENDS, freezer, subprocess.PIPE) as p:
        p.stdin.write("x")
        p.stdin.flush()
        os.waitpid(p.pid, os.WUNTRACED)
        done = cr("dump", tmp_path, "-t", str(p.pid), "--freeze-cgroup", str(freezer))
        assert done.returncode == 1 and "is stopped, and its main thread has ended" in done.log, done.log[-1500:]
        assert p.poll() is None


def test_a_group_that_cannot_be_thawed_is_named(freezer, tmp_path):
    inner = freezer / "inner"
    with process(group=inner) as p:
        (freezer / "freezer.state").write_text("FROZEN")
        done = cr("dump", tmp_path, "-t", str(p.pid), "--freeze-cgroup", str(inner))
        assert done.returncode == 1 and "above it is frozen" in done.stderr
        (freezer / "freezer.state").write_text("THAWED")


def test_a_directory_without_freezer_is_named(tmp_path):
    with process() as p:
        done = cr("dump", tmp_path, "-t", str(p.pid), "--freeze-cgroup", str(tmp_path))
        assert done.returncode == 1 and "no control group with a freezer" in done.stderr and p.poll() is None
        code, text = cr_check(p.pid)
        assert code == 0, text


def dumped(tmp_path, p, *options):
    img = images(tmp_path)
    p.stdout.close()
    check(cr("dump", img, "-t", str(p.pid), "--external", "file[1]:x", *options), "dump")
    p.wait(20)
    return img


SILENT = "os.dup2(os.open('/dev/null', 2), 1)\ntime.sleep(1000)"


def restored(img, *options):
    """Restores; the process's groups by hierarchy. It is ended then."""
    done = cr("restore", img, "-d", "--pidfile", str(img / "pid"), *options)
    if done.returncode:
        return done.stderr
    pid = int((img / "pid").read_text())
    (img / "pid").unlink()
    found = dict(line.split(":")[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return found


def quiet(p):
    wait_for(lambda: os.readlink(f"/proc/{p.pid}/fd/1") == "/dev/null", 10, "nothing to say")


@pytest.mark.parametrize("mode, value", [("none", "88"), ("props", "77"), ("soft", "88"), ("full", "77"),
                                         ("strict", None)])
def test_settings_of_a_group_that_is_there_are_written_as_the_mode_says(tmp_path, mode, value):
    name = f"crk-mode-{os.getpid()}"
    with hierarchy(tmp_path / "net", "net_cls,net_prio") as root, groups(root, name) as (group,):
        setting = group / "net_cls.classid"
        setting.write_text("77")
        with process(SILENT, group) as p:
            quiet(p)
            img = dumped(tmp_path, p)
            setting.write_text("88")
            found = restored(img, f"--manage-cgroups={mode}")
        if value:
            assert found["net_cls,net_prio"] == f"/{name}" and setting.read_text() == value + "\n"
        else:
            assert "exists already" in found
        remove(group)
        assert ("does not exist" in restored(img, "--manage-cgroups=none")) == (not group.exists())


@pytest.mark.parametrize("controller", ["net_cls", "net_prio", "net_cls,net_prio", ""])
def test_a_new_root_is_for_the_hierarchy_of_its_controller(tmp_path, controller):
    """Also where several controllers share one."""
    name, other = f"crk-root-{os.getpid()}", f"crk-other-{os.getpid()}"
    option = f"{controller}:/{other}" if controller else f"/{other}"
    with hierarchy(tmp_path / "net", "net_cls,net_prio") as net, \
            hierarchy(tmp_path / "named", f"name={name}") as named, \
            groups(net, name), groups(named, name), groups(net, other), groups(named, other):
        with process(SILENT) as p:
            quiet(p)
            for root in net, named:
                (root / name / "cgroup.procs").write_text(str(p.pid))
            img = dumped(tmp_path, p)
            found = restored(img, "--cgroup-root", option)
            assert found["net_cls,net_prio"] == f"/{other}"
            assert found[f"name={name}"] == f"/{name if controller else other}"
            found = restored(img, "--cgroup-root", f"{name}:/{other}")
            assert found["net_cls,net_prio"] == f"/{name}" and found[f"name={name}"] == f"/{other}"
            remove_everywhere(tmp_path, other)


def test_a_controller_that_is_not_there_is_named_and_not_taken(tmp_path):
    """As v1 it would be missing in v2, whose it may be."""
    name = f"crk-gone-{os.getpid()}"
    # A hierarchy that others look at outlives its mount.
    free = next((c for c in ("net_cls,net_prio", "perf_event", "hugetlb") if not is_there(c)), None)
    if not free:
        pytest.skip("all controllers that v2 can do without are in hierarchies of v1")
    with process(SILENT) as p:
        quiet(p)
        with hierarchy(tmp_path / "v1", free) as root, groups(root, name) as (group,):
            (group / "cgroup.procs").write_text(str(p.pid))
            img = dumped(tmp_path, p)
        assert f"cgroup /{name}: there is no hierarchy '{free}' here" in restored(img)
        assert not is_there(free)
        assert restored(img, "--manage-cgroups=ignore")

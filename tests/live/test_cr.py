"""The `cr` command: exit codes, messages, files it leaves, what a failed dump leaves behind."""
import errno
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from live import CR, cgroup_root, check, cr, kill, reap_orphans, wait_for, wait_gone, wait_in_call
from cr_common import NANOSLEEP, run, sleeper, snapshot  # noqa: F401 (fixtures)


@pytest.mark.parametrize("argv, words", [
    ([], "no command"),
    (["nonsense"], "not a command"),
    (["dump"], "-t"),
    (["dump", "-t", "0"], "not a valid value"),
    (["dump", "-t", "12x"], "not a valid value"),
    (["dump", "-t", "1", "-D", "/does/not/exist"], "images directory"),
    (["dump", "--no-such-option"], "unrecognized option"),
    (["dump", "-t", "1", "--ghost-limit", "5Q"], "not a valid value"),
    (["dump", "-t", "1", "--network-lock", "prayer"], "not a valid value"),
    (["dump", "-t", "1", "--lazy-pages"], "not supported"),
    (["dump", "-t", "1", "--external", "foo"], "--external foo: not a resource"),
    (["dump", "-t", "1", "--ext-unix-sk=12,x"], '--ext-unix-sk: "12,x" is not a valid value'),
    (["dump", "-t", "1", "-x77,"], "--ext-unix-sk"),
    (["dedup"], "there are no images with pages"),
    (["restore", "-S"], "restore-detached"),
    (["dump", "-t"], 'option "-t" needs a value'),
    (["dump", "--images-dir"], 'option "--images-dir" needs a value'),
    (["dump", "--leave"], 'option "--leave" could be --leave-running or --leave-stopped'),
    (["dump", "--leave-running=3"], 'no value goes with option "--leave-running=3"'),
    (["dump", "--log-file=x", "-qR"], 'unrecognized option "-q"'),
    (["page-server", "--address", "::1"], "page-server is not supported: pages are written to a directory"),
    (["lazy-pages"], "lazy-pages is not supported"),
    (["-v4", "show", "x.img"], "show must be the first word"),
    (["dump", "-t", "1", "extra"], "unexpected argument"),
])
def test_wrong_usage_ends_with_1_and_names_what_is_wrong(argv, words, tmp_path):
    done = run(*argv, cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_and_version_end_with_0():
    assert "Usage: cr dump" in run("--help").stdout
    assert re.match(r"Version: \d+\.\d+", run("--version").stdout)
    assert run("--help").returncode == run("-V").returncode == 0


def test_check_says_what_the_kernel_lacks_and_features_by_name():
    done = run("check")
    assert done.stdout.strip().splitlines()[-1] in ("Looks good.", "Does not look good.")
    assert (done.returncode == 0) == ("Looks good." in done.stdout)
    assert run("check", "--feature", "kcmp").stdout == "kcmp is supported\n"
    unknown = run("check", "--feature", "perpetual_motion")
    assert unknown.returncode == 1 and "not a known feature" in unknown.stdout


# As scripts ask for them (CRIU's list); what is not here is an answer of the kernel's.
YES = "net_diag_raw overlayfs_maps newifindex external_net_ns kcmp mnt_id timerfd fdinfo_lock sk_ns ns_pid"
NO = "tun tun_ns autofs compat_cr uffd-noncoop nsid link_nsid has_ipt_legacy pidfd_store apparmor_stacking breakpoints"
OTHERS = """mem_dirty_track aio_remap userns seccomp_suspend seccomp_filters loginuid cgroupns tcp_half_closed uffd
    can_map_vdso sk_unix_file kcmp_epoll timens clone3_set_tid nftables network_lock_nftables sockopt_buf_lock
    memfd_hugetlb move_mount_set_group openat2 get_rseq_conf ipv6_freebind pagemap_scan timer_cr_ids
    pagemap_scan_guard_pages"""


def test_features_are_known_by_all_of_their_names():
    for name in f"{YES} {NO} {OTHERS}".split():
        done = run("check", "--feature", name)
        assert done.stdout == f"{name} is {'not ' * done.returncode}supported\n"
        assert done.returncode == (name in NO.split()) or name in OTHERS.split()


def test_a_process_that_is_not_there_is_named(tmp_path):
    done = run("dump", "-t", "4194000", "-D", tmp_path, "-o", "log")
    assert done.returncode == 1
    assert "4194000" in done.stderr and "log" in done.stderr


@pytest.mark.parametrize("verb", ["dump", "pre-dump", "check"])
@pytest.mark.parametrize("root", ["1", "$$"])
def test_a_tree_that_cr_itself_is_in_is_refused_by_saying_so(verb, root, tmp_path):
    done = subprocess.run(["sh", "-c", f"{CR} {verb} -t {root} -D {tmp_path} -o {tmp_path}/log; exit $?"],
                          capture_output=True, text=True, check=False, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "cr itself is in the tree of process" in said and "systemd-run" in said


@pytest.mark.parametrize("absolute", [True, False])
def test_the_log_that_is_named_exists(absolute, tmp_path):
    log = f"{tmp_path}/x.log" if absolute else "x.log"
    done = run("dump", "-t", "4194000", "-D", tmp_path, "-o", log)
    assert f"(log: {tmp_path}/x.log)" in done.stderr and (tmp_path / "x.log").exists()


def test_restore_from_an_empty_directory_says_so(tmp_path):
    done = run("restore", "-d", "-D", tmp_path)
    assert done.returncode == 1
    assert "inventory" in done.stderr


@pytest.mark.may_lack
def test_restore_from_a_pre_dump_says_what_it_is(sleeper, tmp_path):
    if run("check", "--feature", "mem_dirty_track").returncode:
        pytest.skip("memory cannot be tracked (CONFIG_MEM_SOFT_DIRTY, or Linux 6.7 with CONFIG_USERFAULTFD)")
    check(cr("pre-dump", tmp_path, "-t", str(sleeper.pid)), "pre-dump")
    done = run("restore", "-d", "-D", tmp_path)
    assert done.returncode == 1 and "are a pre-dump's" in done.stderr


def test_a_taken_pid_is_refused_with_its_owner_and_the_owner_lives(sleeper, tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    check(cr("dump", images, "-t", str(sleeper.pid), "-R"), "dump")
    done = run("restore", "-d", "-D", images)
    assert done.returncode == 1
    assert f"pid {sleeper.pid} is in use (sleep)" in done.stderr
    assert sleeper.poll() is None


@pytest.mark.parametrize("verb", ["dump", "pre-dump"])
@pytest.mark.parametrize("options, words", [
    (["-t", "4194000"], "there is no process 4194000"), (["-t", "PID", "-t", "4194000"], "there is no process"),
    (["-t", str(os.getpid())], "cr itself"), (["-t", "PID", "--prev-images-dir", "../nowhere"], "../nowhere"),
    (["-t", "PID", "--prev-images-dir", "."], "previous images"),
])
def test_what_is_mistyped_does_not_cost_the_images_that_are_there(sleeper, tmp_path, verb, options, words):
    images = tmp_path / "img"
    images.mkdir()
    check(cr("dump", images, "-t", str(sleeper.pid)), "dump")
    sleeper.wait()
    before = {p.name: p.read_bytes() for p in images.glob("*.img")}
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as other:
        done = run(verb, "-D", images, *[str(other.pid) if o == "PID" else o for o in options])
        other.kill()
    assert done.returncode == 1 and words in done.stderr
    assert {p.name: p.read_bytes() for p in images.glob("*.img")} == before
    assert not (images / "parent").is_symlink()
    check(cr("restore", images, "-d"), "restore")


def test_images_are_readable_by_root_only(sleeper, tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    check(cr("dump", images, "-t", str(sleeper.pid), "-R"), "dump")
    for f in images.iterdir():
        assert f.stat().st_mode & 0o077 == 0, f


def test_a_dump_with_leave_running_changes_nothing_in_proc(sleeper, tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    before = snapshot(sleeper.pid)
    check(cr("dump", images, "-t", str(sleeper.pid), "-R"), "dump")
    assert snapshot(sleeper.pid) == before


FAMILY = """
import os, time
for _ in range(30):
    if not os.fork():
        time.sleep(1000)
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("verb", [["dump", "-R"], ["pre-dump"]])
def test_a_tree_may_have_more_processes_than_the_soft_limit_of_open_files(verb, tmp_path):
    p = subprocess.Popen([sys.executable, "-c", FAMILY], start_new_session=True,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        p.stdout.readline()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        done = run(*verb, "-t", str(p.pid), "-D", tmp_path,
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (48, hard)))
        assert done.returncode == 0, done.stderr
    finally:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()


def test_a_caller_that_ignores_its_children_gets_its_answer(tmp_path):
    """As some daemons do; cr inherits that, and has children of its own to wait for."""
    def ask(*argv):
        done = run(*argv, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        assert done.returncode == 0, done.stderr
    wrapper = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "sleep", "1000"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)
    children = pathlib.Path(f"/proc/{wrapper.pid}/task/{wrapper.pid}/children")
    try:
        wait_for(children.read_text, 10, "its child")
        pid = children.read_text().strip()
        wait_in_call(pid, NANOSLEEP)
        ask("check", "-t", pid)
        ask("dump", "-t", pid, "-D", tmp_path)
        wrapper.wait(20)
        ask("restore", "-d", "-D", tmp_path, "--pidfile", tmp_path / "pid")
        kill(int((tmp_path / "pid").read_text()))
    finally:
        wrapper.kill()
        wrapper.wait(20)


def test_leave_stopped_stops_and_sigcont_goes_on(sleeper, tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    check(cr("dump", images, "-t", str(sleeper.pid), "-s"), "dump")
    state = lambda: open(f"/proc/{sleeper.pid}/stat").read().rpartition(")")[2].split()[0]
    wait_for(lambda: state() == "T", 5, "stopped")
    os.kill(sleeper.pid, signal.SIGCONT)
    wait_for(lambda: state() == "S", 5, "goes on")


OBSTACLES = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
uffd = libc.syscall(323, 1)          # userfaultfd(UFFD_USER_MODE_ONLY)
os.write(1, b"ready %d\\n" % (uffd if uffd >= 0 else -ctypes.get_errno()))
time.sleep(1000)
"""


@pytest.mark.may_lack
def test_all_obstacles_are_named_and_a_refused_dump_leaves_the_tree_as_it_was(tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    with open(tmp_path / "out", "wb") as out:
        p = subprocess.Popen([sys.executable, "-c", OBSTACLES], stdin=subprocess.DEVNULL, stdout=out,
                             stderr=out, start_new_session=True)
    try:
        wait_for(lambda: b"ready" in (tmp_path / "out").read_bytes(), 10, "ready")
        uffd = int((tmp_path / "out").read_text().split()[1])
        if uffd == -errno.ENOSYS:
            pytest.skip("the kernel has no userfaultfd (CONFIG_USERFAULTFD)")
        assert uffd >= 0, os.strerror(-uffd)
        wait_in_call(p.pid, NANOSLEEP)
        before = snapshot(p.pid)
        done = run("check", "-t", str(p.pid))
        assert done.returncode == 1
        assert "userfaultfd" in done.stdout and "remedy:" in done.stdout and str(p.pid) in done.stdout
        done = cr("dump", images, "-t", str(p.pid))
        assert done.returncode == 1 and "userfaultfd" in done.log
        assert not (images / "inventory.img").exists()
        assert snapshot(p.pid) == before
        assert p.poll() is None
    finally:
        p.kill()
        p.wait()


TRACER = """
import ctypes, sys, time
assert ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0   # PTRACE_SEIZE
time.sleep(1000)
"""


def test_a_traced_process_is_refused_by_naming_its_tracer(sleeper, tmp_path):
    tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(sleeper.pid)])
    try:
        wait_for(lambda: f"TracerPid:\t{tracer.pid}" in open(f"/proc/{sleeper.pid}/status").read(), 5,
                 "traced")
        done = run("dump", "-t", str(sleeper.pid), "-D", tmp_path)
        assert done.returncode == 1
        assert f"traced by process {tracer.pid}" in done.stderr
        done = run("check", "-t", str(sleeper.pid))
        text = done.stdout + done.stderr
        assert done.returncode == 1 and f"traced by process {tracer.pid}" in text
        assert "No such process" not in text and sleeper.poll() is None
    finally:
        tracer.kill()
        tracer.wait()


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_cr_killed_at_any_moment_leaves_the_tree_running(sig, tmp_path):
    """After more and more milliseconds; cr's tracing half rolls back when the other is gone."""
    with open(tmp_path / "out", "wb") as out:
        p = subprocess.Popen([sys.executable, "-c",
                              "import time,sys\nb=bytearray(b'x')*(64<<20)\n"
                              "while True:\n print(1,flush=True); time.sleep(0.01)"],
                             stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_for(lambda: (tmp_path / "out").stat().st_size > 10, 10, "running")
        maps = lambda: open(f"/proc/{p.pid}/maps").read()
        before, stopped = maps(), 0
        # Once with each, and again while we are not scheduled in time.
        for n, msec in enumerate((0.5, 1, 2, 3, 5, 8, 12, 20, 30) * 10):
            if n >= 9 and stopped >= 3:
                break
            images = tmp_path / f"img{n}"
            images.mkdir()
            d = subprocess.Popen([CR, "dump", "-R", "-t", str(p.pid), "-D", images],
                                 stderr=subprocess.DEVNULL)
            time.sleep(msec / 1000)
            d.send_signal(sig)
            d.wait()
            stopped += d.returncode != 0
            size = (tmp_path / "out").stat().st_size
            wait_for(lambda: p.poll() is not None or (tmp_path / "out").stat().st_size > size + 4, 10,
                     f"runs on after cr was killed at {msec} ms")
            assert p.poll() is None
        assert stopped >= 3, "cr was faster than every signal"
        # The tracing half may still be rolling back; then the memory map is as it was.
        wait_for(lambda: maps() == before, 5, "the call zone is gone")
    finally:
        p.kill()
        p.wait()


def test_a_reader_of_the_log_that_goes_away_ends_nothing(sleeper, tmp_path):
    def without_reader(*argv):
        r, w = os.pipe()
        os.close(r)
        try:
            assert subprocess.run([CR, *argv, "-v4", "-D", tmp_path], stderr=w, timeout=60).returncode == 0
        finally:
            os.close(w)
    without_reader("dump", "-t", str(sleeper.pid))
    sleeper.wait()
    without_reader("restore", "-d")
    os.kill(sleeper.pid, 0)
    # It is ours alone: scripts and what comes by --exec-cmd have it as usual.
    mask = "grep SigIgn /proc/self/status"
    usual = subprocess.run(mask.split(), capture_output=True, text=True, check=True).stdout
    os.kill(sleeper.pid, signal.SIGKILL)
    wait_gone(sleeper.pid)
    done = run("restore", "-D", tmp_path, "--exec-cmd", "--", *mask.split())
    assert done.stdout == usual, done.stderr


def test_a_limit_of_file_sizes_is_an_error_like_others(sleeper, tmp_path):
    done = run("dump", "-t", str(sleeper.pid), "-D", tmp_path, "-o", "log",
               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)))
    assert done.returncode == 1 and "File too large" in done.stderr
    assert not list(tmp_path.glob("*.img")) and sleeper.poll() is None


def test_statistics_that_cannot_be_written_are_no_failure(sleeper, tmp_path):
    images, work = tmp_path / "img", tmp_path / "work"
    images.mkdir()
    for name in ("stats-dump", "stats-restore"):
        (work / name).mkdir(parents=True)
    check(cr("dump", images, "-t", str(sleeper.pid), "-W", work), "dump")
    sleeper.wait()
    check(cr("restore", images, "-d", "-W", work), "restore")
    os.kill(sleeper.pid, signal.SIGKILL)


def shown_stats(path):
    """As cr show has them, but as text."""
    entry = json.loads(run("show", "--json", path).stdout)["entries"][0]
    return {name: str(value) for name, value in (entry.get("dump") or entry.get("restore")).items()}


def test_statistics_are_printed_as_they_are_written(sleeper, tmp_path):
    for verb, options in (("dump", ("-t", str(sleeper.pid))), ("restore", ("-d",))):
        done = cr(verb, tmp_path, "--display-stats", *options)
        check(done, verb)
        sleeper.wait()
        title, *lines = done.stdout.splitlines()
        assert verb in title and "microseconds" in title
        printed = dict(line.strip().split(": ") for line in lines)
        assert printed == shown_stats(tmp_path / f"stats-{verb}") and int(printed.get("pages_written", 1))
    os.kill(sleeper.pid, signal.SIGKILL)
    reap_orphans()


def test_a_failed_restore_removes_the_control_groups_it_made(sleeper, tmp_path):
    group = cgroup_root() / f"crk-failed-{os.getpid()}"
    groups = [group, group / "below"]
    images = tmp_path / "img"
    images.mkdir()
    try:
        for g in groups:
            g.mkdir()
        (groups[1] / "cgroup.procs").write_text(str(sleeper.pid))
        check(cr("dump", images, "-t", str(sleeper.pid)), "dump")
        sleeper.wait()
        for g in reversed(groups):
            g.rmdir()
        script = tmp_path / "late"
        script.write_text("#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != post-restore ] || [ ! -d %s ]" % groups[1])
        script.chmod(0o755)
        done = cr("restore", images, "-d", "--action-script", script)
        assert done.returncode == 1 and "post-restore" in done.stderr
        assert not groups[0].exists()
    finally:
        for g in reversed(groups):
            if g.exists():
                g.rmdir()


def test_a_frozen_group_is_named_instead_of_waited_for(sleeper, tmp_path):
    group = cgroup_root() / f"crk-frozen-{os.getpid()}"
    below = group / "below"
    try:
        below.mkdir(parents=True)
        (below / "cgroup.procs").write_text(str(sleeper.pid))
        (group / "cgroup.freeze").write_text("1")
        for verb in ["dump", "-R"], ["pre-dump"], ["check"]:
            done = run(*verb, "-t", str(sleeper.pid), "-D", tmp_path)
            assert done.returncode == 1 and f"control group of process {sleeper.pid} is frozen" in done.stderr
        check(cr("dump", tmp_path, "-R", "-t", str(sleeper.pid), "--freeze-cgroup", group), "dump")
        assert (group / "cgroup.freeze").read_text() == "1\n"
    finally:
        (group / "cgroup.freeze").write_text("0")
        sleeper.kill()
        sleeper.wait()
        for g in below, group:
            g.rmdir()


def test_exec_cmd_becomes_the_command_as_the_roots_parent(sleeper, tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    check(cr("dump", images, "-t", str(sleeper.pid)), "dump")
    sleeper.wait()
    done = run("restore", "-D", images, "--exec-cmd", "--", "sh", "-c",
               f"ps -o ppid= -p {sleeper.pid}; echo $$; kill -9 {sleeper.pid}")
    ppid, shell = done.stdout.split()
    assert done.returncode == 0 and ppid == shell
    for argv in [["-d", "--exec-cmd", "--", "true"], ["--exec-cmd"]]:
        done = run("restore", "-D", images, *argv)
        assert done.returncode == 1 and "--exec-cmd needs" in done.stderr


def test_a_files_mode_is_compared_unless_told_otherwise(tmp_path):
    images, script = tmp_path / "img", tmp_path / "file"
    images.mkdir()
    script.write_text("")
    script.chmod(0o644)
    with open(script) as f:
        p = subprocess.Popen(["sleep", "1000"], stdin=f, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
    check(cr("dump", images, "-t", str(p.pid)), "dump")
    p.wait()
    script.chmod(0o600)
    done = cr("restore", images, "-d")
    assert done.returncode == 1 and "has mode" in done.stderr
    check(cr("restore", images, "-d", "--skip-file-rwx-check"), "restore")
    os.kill(p.pid, signal.SIGKILL)


def test_options_come_from_files_and_the_command_line_wins(sleeper, tmp_path):
    home = tmp_path / "home"
    (home / ".criu").mkdir(parents=True)
    (home / ".criu/default.conf").write_text("leave-stopped\n")
    (tmp_path / "more").write_text(f"images-dir {tmp_path}\nno-leave-stopped\nleave-running\n")
    env = {**os.environ, "HOME": str(home), "CRIU_CONFIG_FILE": str(tmp_path / "more")}
    done = run("dump", "-t", str(sleeper.pid), "-o", "log", env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").exists() and sleeper.poll() is None
    (tmp_path / "more").write_text("stream\n")
    done = run("check", env=env)
    assert done.returncode == 1 and "more: --stream is not supported" in done.stderr
    (home / ".criu/default.conf").write_text("nonsense\n")
    (tmp_path / "more").write_text("")
    assert run("-V", env=env).returncode == 1
    assert run("-V", "--no-default-config", env=env).returncode == 0
    assert run("-V", "--config", tmp_path / "more", env=env).returncode == 0


def test_a_home_of_another_user_has_no_options_for_us(tmp_path):
    """As with su and sudo, which may keep HOME."""
    (tmp_path / ".criu").mkdir()
    (tmp_path / ".criu/default.conf").write_text("nonsense\n")
    tmp_path.chmod(0o700)
    env = {**os.environ, "HOME": str(tmp_path)}
    done = run("-V", env=env, user=65534, group=65534, extra_groups=[])
    assert done.returncode == 0 and "default.conf: cannot read it, it is ignored" in done.stderr
    done = run("-V", env={**env, "CRIU_CONFIG_FILE": f"{tmp_path}/x"}, user=65534, group=65534, extra_groups=[])
    assert done.returncode == 1 and f"{tmp_path}/x: cannot read it" in done.stderr
    assert run("-V", env=env).returncode == 1


MAIN_ENDS = """
import ctypes, os, signal, threading, time
os.setsid()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
threading.Thread(target=time.sleep, args=(1000,)).start()
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
ctypes.CDLL(None).syscall(60, 0)    # exit(2): of this thread
"""


def test_a_main_thread_that_ends_while_it_is_to_be_stopped_is_no_obstacle(tmp_path):
    p = subprocess.Popen([sys.executable, "-c", MAIN_ENDS], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    (tmp_path / "img").mkdir()
    argv = ["strace", "-f", "-qq", "-o", tmp_path / "trace", "-e", "trace=ptrace", "-e",
            "inject=ptrace:delay_enter=1000000:when=1", CR, "dump", "-R", "-t", str(p.pid), "-D", tmp_path / "img"]
    try:
        assert p.stdout.readline() == b"ready\n"
        for _ in range(20):     # until we are there within its second
            dump = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
            wait_for(lambda: is_in_ptrace(p.pid) or dump.poll() is not None, 20, "cr's first call")
            met = dump.poll() is None
            if met:
                os.kill(p.pid, signal.SIGUSR1)
            _, text = dump.communicate(timeout=60)
            assert dump.returncode == 0, text
            if met:
                break
        else:
            raise AssertionError("cr's first call was missed every time")
        wait_for(lambda: open(f"/proc/{p.pid}/stat").read().rpartition(")")[2].split()[0] == "Z", 5, "its end")
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


ENDS_SOON = """
import os, time
os.setsid()
while True:
    pid = os.fork()
    if not pid:
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_a_child_that_is_let_out_of_the_vdso_and_ends_is_no_obstacle(tmp_path):
    p = subprocess.Popen([sys.executable, "-c", ENDS_SOON], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    # Long enough to get to the end.
    argv = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=clock_nanosleep", "-e",
            "inject=clock_nanosleep:delay_enter=50000", CR, "dump", "-R", "-t", str(p.pid), "-D", tmp_path, "-v4", "-o",
            "log"]
    try:
        wait_for(lambda: os.getsid(p.pid) == p.pid, 10, "its session")
        for _ in range(500):    # until one is met in there
            done = subprocess.run(argv, stderr=subprocess.PIPE, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            if "ended as it left the vDSO" in (tmp_path / "log").read_text():
                break
        else:
            raise AssertionError("no child was met in the vDSO")
    finally:
        p.kill()
        p.wait()


def is_in_ptrace(target):
    """Somebody calls PTRACE_SEIZE for this process."""
    def text(path):
        try:
            return path.read_text()
        except OSError:
            return ""
    return any(text(path).startswith(f"101 0x4206 {target:#x} ") for path in pathlib.Path("/proc").glob("[0-9]*/syscall"))

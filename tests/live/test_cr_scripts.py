"""Action scripts of the `cr` command, and what is left of a dump or restore that one of them ends."""
import os

import pytest

from live import check, cr, reap_orphans
from cr_common import run, sleeper, snapshot  # noqa: F401 (fixtures)


def test_scripts_run_in_order_with_their_environment(sleeper, tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION $CRTOOLS_INIT_PID >>{tmp_path}/events\n")
    script.chmod(0o755)
    check(cr("dump", images, "-t", str(sleeper.pid), "--action-script", script), "dump")
    sleeper.wait()
    check(cr("restore", images, "-d", "--action-script", script, "--pidfile", tmp_path / "pid"),
          "restore")
    events = (tmp_path / "events").read_text().splitlines()
    assert events[:2] == [f"pre-dump {sleeper.pid}", f"post-dump {sleeper.pid}"]
    assert "pre-restore" in events and f"post-restore {sleeper.pid}" in events
    assert events.index("pre-restore") < events.index(f"post-restore {sleeper.pid}")
    assert (tmp_path / "pid").read_text() == str(sleeper.pid)


def test_a_failing_script_fails_the_dump_and_the_tree_goes_on(sleeper, tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    before = snapshot(sleeper.pid)
    done = cr("dump", images, "-t", str(sleeper.pid), "--action-script", "/bin/false")
    assert done.returncode == 1
    assert snapshot(sleeper.pid) == before


def test_scripts_are_found_by_path_and_have_the_log_and_nothing_of_the_callers(sleeper, tmp_path):
    for name in "first", "second":
        script = tmp_path / f"crk-{name}"
        script.write_text(f"#!/bin/bash\necho {name} $CRTOOLS_SCRIPT_ACTION $# ${{CRTOOLS_INIT_PID-none}} "
                          "open: `for n in /proc/$$/fd/*; do readlink $n; done`\n")
        script.chmod(0o755)
    (tmp_path / "img").mkdir()
    done = run("dump", "-t", str(sleeper.pid), "-D", tmp_path / "img", "-o", "log", "--action-script", "crk-first",
               "--action-script", "crk-second", env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode == 0 and done.stdout == done.stderr == ""
    sleeper.wait()
    lines = (tmp_path / "img/log").read_text().splitlines()
    assert [" ".join(line.split()[:4]) for line in lines] == [
        f"{name} {event} 0 {sleeper.pid}" for event in ("pre-dump", "post-dump") for name in ("second", "first")]
    with open(tmp_path / "crk-first") as f:
        done = run("restore", "-d", "-D", tmp_path / "img", "--action-script", tmp_path / "crk-second",
                   pass_fds=[f.fileno()], env={**os.environ, "CRTOOLS_INIT_PID": "99"})
    # Without a log file it is standard error.
    assert done.returncode == 0 and done.stdout == ""
    assert "second pre-restore 0 none" in done.stderr and f"second post-restore 0 {sleeper.pid}" in done.stderr
    assert "crk-first" not in done.stderr
    done = run("restore", "-d", "-D", tmp_path / "img", "--action-script", "crk-nowhere")
    assert done.returncode == 1 and "cannot run crk-nowhere: No such file or directory" in done.stderr


@pytest.mark.parametrize("how", [[], ["-R"]])
def test_of_a_dump_that_fails_at_its_end_no_images_stay(sleeper, tmp_path, how):
    """The tree goes on: images that could be restored would make a second one."""
    images = tmp_path / "img"
    images.mkdir()
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != post-dump ] || "
                      f"{{ ls {images} >{tmp_path}/seen; exit 1; }}\n")
    script.chmod(0o755)
    (images / "disk.img").write_text("an operator's")
    before = snapshot(sleeper.pid)
    done = cr("dump", images, "-t", str(sleeper.pid), "--action-script", script, *how)
    assert done.returncode == 255 and "post-dump" in done.log
    assert snapshot(sleeper.pid) == before
    assert "inventory.img" in (tmp_path / "seen").read_text().split()
    assert [p.name for p in images.iterdir() if p.name.endswith(".img")] == ["disk.img"]
    assert not (images / "shared").exists()
    check(cr("dump", images, "-t", str(sleeper.pid)), "dump")


def test_scripts_take_signals_as_usual(sleeper, tmp_path):
    images = tmp_path / "img"
    images.mkdir()
    script = tmp_path / "script"
    script.write_text(f"#!/bin/bash\ngrep SigBlk /proc/self/status >>{tmp_path}/masks\n")
    script.chmod(0o755)
    check(cr("dump", images, "-R", "-t", str(sleeper.pid), "--action-script", script), "dump")
    assert set((tmp_path / "masks").read_text().split("\n")) == {"SigBlk:\t0000000000000000", ""}


@pytest.mark.parametrize("script, pidfile", [("/bin/true", "is there already"), ("/bin/false", None)])
def test_a_restore_that_fails_at_its_end_leaves_no_process_and_no_pid_file(sleeper, tmp_path, script, pidfile):
    images, pid = tmp_path / "img", tmp_path / "pid"
    images.mkdir()
    check(cr("dump", images, "-t", str(sleeper.pid)), "dump")
    sleeper.wait()
    (tmp_path / "second").write_text("#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != post-restore ] || exec " + script)
    (tmp_path / "second").chmod(0o755)
    if pidfile:
        pid.write_text(pidfile)
    done = cr("restore", images, "-d", "--pidfile", pid, "--action-script", tmp_path / "second")
    assert done.returncode == 1
    reap_orphans()
    assert not os.path.exists(f"/proc/{sleeper.pid}")
    assert (pid.read_text() if pid.exists() else None) == pidfile

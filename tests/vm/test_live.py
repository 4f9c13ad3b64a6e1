"""The live tests of what the kernel of the machine may lack (marked may_lack), on the guest's kernels, which lack
nothing. The makers are run there by test_makers.py."""

import shlex
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from test_makers import NAMES, PLACE, make_payload, processor
import vm_image
from vm import VM

ROOT = vm_image.ROOT
IN_PIDNS = "test_pidns.py::test_state_in_a_pid_namespace_survives_dump_and_restore"
FAILED = "test_failed_dump.py::test_a_dump_that_fails_changes_nothing"
REFUSED = "test_files_refused.py::test_it_is_refused_by_name_and_nothing_changes"
# What depends on more than the kernel, and where it runs.
ELSEWHERE = {f"{IN_PIDNS}[many]", f"{FAILED}[many]",     # take minutes here; test_makers.py
             "test_many.py",
             # Want more of a processor than this guest has; test_makers.py.
             *(f"{test}[{name}]" for test in (IN_PIDNS, FAILED) for name in NAMES if processor(name))}
SELECTED = ["-p", "no:cacheprovider", "--rootdir=.", "-m", "may_lack", "--ignore=tests/live/test_makers.py",
            # There is no tree of sources in the guest.
            "--ignore=tests/live/test_docs.py",
            *(f"--deselect=tests/live/{name}" for name in sorted(ELSEWHERE)), "tests/live"]
SECONDS = 800
# README's limits: before Linux 6.14 nobody can tell what a ring has in flight, and all are refused for that.
UNTOLD = "this kernel does not tell what is in flight"
# Marks on mount namespaces came with 6.14.
LACKED = "the kernel lacks it: SKIP system call 300"
# A group knows its user namespace since 6.16: before, there is nothing to refuse.
SAVED = "assert done.returncode != 0"
# Before 6.6 an inotify watch does not tell which file of an overlay it is on; before 6.5 no file there was without a
# name, and before 6.8 there were no marks there, nor on btrfs.
THERE = "test_filesystems.py::test_what_a_maker_has_there_comes_back"
UNMARKED = "cannot mark other with flags 0, mask 20"
UNFOUND = "whose path cannot be found"
MAIN_ENDED = "its main thread has ended, and this kernel (before Linux 6.9) does not give the files of others"
# What they end with, on both of the older kernels: built without, or not there yet.
OLDER = {
    f"{IN_PIDNS}[uclamp]": "CONFIG_UCLAMP_TASK",
    f"{FAILED}[uclamp]": "CONFIG_UCLAMP_TASK",
    "test_sockets.py::test_what_cannot_be_saved_is_refused_by_name_and_lives_on[authentication option keys]":
        "CONFIG_TCP_AO",
    "test_io_uring.py::test_many_rings_of_many_threads_are_looked_at_once": UNTOLD,
    "test_io_uring.py::test_a_ring_that_its_only_user_has_closed_is_refused": UNTOLD,
    f"{IN_PIDNS}[io_urings]": UNTOLD,
    f"{FAILED}[io_urings]": UNTOLD,
    f"{REFUSED}[io_uring with a thread]": UNTOLD,
    f"{REFUSED}[io_uring with a request]": UNTOLD,
    f"{REFUSED}[io_uring with personalities]": UNTOLD,
    f"{REFUSED}[fanotify on a mount namespace]": LACKED,
    f"{REFUSED}[fanotify of a user namespace]": SAVED,
}
OTHERWISE = {
    "6.1": OLDER | {
        "test_cgroups.py::test_makers_state_survives_with_the_freezer_of_v1[main_ended]": MAIN_ENDED,
        "test_cgroups.py::test_a_stopped_process_whose_main_thread_has_ended_is_named_with_v1_too": MAIN_ENDED,
        f"{REFUSED}[secretmem]": "the kernel lacks it: SKIP system call 447",
        f"{THERE}[overlay-files_unlinked]": "O_TMPFILE",
        f"{THERE}[overlay-inotifies]": UNFOUND,
        f"{THERE}[overlay-fanotifies]": UNMARKED,
        f"{THERE}[btrfs-fanotifies]": UNMARKED,
        "test_filesystems.py::test_watches_come_back_though_the_kernel_has_forgotten_the_names[fanotifies-btrfs]":
            UNMARKED,
        "test_filesystems.py::test_a_file_of_overlays_lower_layer_stays_open_and_watched[overlay]": UNFOUND,
        f"{IN_PIDNS}[dispatch]": "it takes Linux 6.4",
        f"{FAILED}[epolls_busy]": "no busy polling by epoll (Linux 6.9",
        f"{IN_PIDNS}[epolls_busy]": "no busy polling by epoll (Linux 6.9",
        # SO_PASSPIDFD came with 6.5.
        "test_sockets.py::test_what_cannot_be_saved_is_refused_by_name_and_lives_on"
        "[credentials in a queue, without the option that shows them]": "Protocol not available",
    },
    "6.12": OLDER,
    "7.2": {f"test_memory_refused.py::test_it_is_refused_by_name_and_nothing_changes[{verb}-AIO ring of the parent]":
            "a child does not get its parent's ring" for verb in ("dump", "check")},
}


def collected():
    """FILE::TEST of each."""
    done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", *SELECTED], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    names = [line.removeprefix("tests/live/") for line in done.stdout.splitlines() if "::" in line]
    assert done.returncode == 0 and names, done.stdout + done.stderr
    return names


def outcomes(xml):
    """What went wrong, by FILE::TEST."""
    found = {}
    for case in ElementTree.fromstring(xml).iter("testcase"):
        name = f"{case.get('classname').rpartition('.')[2]}.py::{case.get('name')}"
        found[name] = found.get(name, "") + "".join(f"{e.tag}: {e.get('message')}\n{e.text}" for e in case
                                                   if e.tag in ("failure", "error", "skipped"))
    return found


@pytest.fixture(scope="module", params=["6.1", "6.12", "7.2"])
def guest(request, tmp_path_factory, payload):
    dest = tmp_path_factory.mktemp("live") / "payload"
    shutil.copytree(payload, dest, symlinks=True)
    make_payload(dest)
    for path in [*(ROOT / "tests/live").glob("*.py"), ROOT / "cr/image/proto/rpc.proto"]:
        to = dest / PLACE / path.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    with VM(f"test_live/{request.param}", image=vm_image.build(), destdir=dest, memory="3G",
            kernel=request.param) as vm:
        vm.wait_idle()
        done = vm.run(f"cd /{PLACE} && CRK_LACKS_NOTHING=1 CRK_TIMEOUT_SCALE=4 "
                      "python3 -m pytest -q -rf --tb=short --timeout=600 "
                      f"--basetemp=/var/tmp/live --junitxml=/run/live.xml {shlex.join(SELECTED)}", timeout=SECONDS,
                      check=False)
        (vm.log_dir / "pytest.txt").write_text(done.out + done.err)
        vm.outcomes = outcomes(vm.fetch("/run/live.xml"))
        yield vm


@pytest.mark.parametrize("name", collected())
def test_it_holds_on_the_guests_kernel(guest, name):
    otherwise = OTHERWISE[guest.kernel].get(name)
    if otherwise:
        assert otherwise in guest.outcomes[name]
    else:
        assert guest.outcomes[name] == ""

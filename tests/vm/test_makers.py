"""Every maker of the live tests on the guest's kernels: what the engine saves and restores is the same on
the kernel that an upgrade leaves, on the one it goes to, and on the machine of the tests.

A maker with a line "processor: MODEL" in its head needs more of a processor than the guests' usual one has (nor
does the machine of the tests need to have it): it runs in guests with that one.
"""

import json
import re
import shutil

import pytest

import vm_image
from vm import VM

ROOT = vm_image.ROOT
PLACE = "usr/lib/crkexec-live"
# ns_cgroupns leaves its cgroup namespace to tidy up, which systemd's mount does not allow (nsdelegate).
NAMES = sorted({p.stem for p in (ROOT / "tests/live/make").glob("*.c")} - {"ns_cgroupns"},
               key=lambda n: (n in ("ns_sandbox", "ns_tree"), n))
KERNELS = ["6.1", "6.12", "7.2"]
# What an older one lacks is not about processors.
EMULATED = ["6.12", "7.2"]
PROGRAM = (ROOT / "tests/vm/guest_makers.py").read_bytes()
SECONDS = 500
# What README's limits say: before Linux 6.14 nobody can tell what a ring has in flight.
UNTOLD = "io_uring: this kernel does not tell what is in flight"
REFUSED = {("6.1", "io_urings"): UNTOLD, ("6.12", "io_urings"): UNTOLD,
           ("6.1", "main_ended"): "this kernel (before Linux 6.9) does not give the files of others",
           ("6.1", "dispatch"): "cannot set syscall user dispatch"}


def processor(name):
    found = re.search(r"processor:\s*(\S+)", (ROOT / f"tests/live/make/{name}.c").read_text())
    return found and found.group(1)


# Guests, and what runs in them. pytest knows a guest again by its being the same object.
GUESTS = [(kernel, model) for model in sorted({processor(name) for name in NAMES}, key=str)
          for kernel in (EMULATED if model else KERNELS)]
CASES = [(case, name) for case in GUESTS for name in NAMES if processor(name) == case[1]]
# By maker the guests that have not what it needs: one of them must.
lacking = {}


def make_payload(dest):
    """The makers, their sources (which say with what options they are dumped), and the runner's parts."""
    place = dest / PLACE
    shutil.copytree(ROOT / "tests/live/make", place / "tests/live/make")
    shutil.copy(ROOT / "tests/live/live.py", place / "tests/live")
    shutil.copy(ROOT / "tests/procs.py", place / "tests")
    (place / "build/make").mkdir(parents=True)
    for name in NAMES:
        shutil.copy(ROOT / "build/make" / name, place / "build/make")
    shutil.copy(ROOT / "build/cr", place / "build")


@pytest.fixture(scope="module")
def guest(request, tmp_path_factory, payload):
    kernel, model = request.param
    names = [item.callspec.params["name"] for item in request.session.items
             if item.parent == request.node and item.callspec.params["guest"] == request.param]
    dest = tmp_path_factory.mktemp("makers") / "payload"
    shutil.copytree(payload, dest, symlinks=True)
    make_payload(dest)
    with VM(f"test_makers/{kernel}{'-' + model if model else ''}", image=vm_image.build(),
            destdir=dest, memory="3G", kernel=kernel, cpu=model) as vm:
        vm.wait_idle()
        vm.put(PROGRAM, "/run/guest-makers", 0o755)
        vm.run("systemd-run -q --unit=makers -p Delegate=yes -E CRK_TIMEOUT_SCALE=4 "
               f"/run/guest-makers /run/makers {' '.join(names)}")
        yield vm
        (vm.log_dir / "journal.txt").write_text(vm.run("journalctl -u makers -o cat", check=False).out)


@pytest.mark.parametrize("guest, name", CASES, indirect=["guest"], scope="module",
                         ids=[f"{kernel}-{name}" for (kernel, _), name in CASES])
def test_state_survives_on_the_guests_kernel(guest, name):
    path = f"/run/makers/{name}.json"
    guest.run(f"until [ -e {path} ]; do systemctl -q is-active makers || [ -e {path} ] || exit 1; "
              "sleep 0.3; done", timeout=SECONDS)
    result = json.loads(guest.fetch(path))
    if result["outcome"] == "lacks":
        lacking.setdefault(name, set()).add(guest.kernel)
        assert not processor(name) and lacking[name] != set(KERNELS), f"nothing runs it: {result['why']}"
        pytest.skip(f"kernel {guest.kernel}: {result['why']}")
    if (guest.kernel, name) in REFUSED:
        assert result["outcome"] == "failed" and REFUSED[guest.kernel, name] in result["why"]
        return
    assert result["outcome"] == "ok", f"{result['why']}\n{result['log']}"

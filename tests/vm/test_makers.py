"""Every maker of the live tests on the guest's kernels: what the engine saves and restores is the same on
the kernel that an upgrade leaves, on the one it goes to, and on the machine of the tests."""

import json
import shutil

import pytest

import vm_image
from vm import VM

ROOT = vm_image.ROOT
PLACE = "usr/lib/crkexec-live"
# ns_cgroupns leaves its cgroup namespace to tidy up, which systemd's mount does not allow (nsdelegate).
NAMES = sorted({p.stem for p in (ROOT / "tests/live/make").glob("*.c")} - {"ns_cgroupns"},
               key=lambda n: (n in ("ns_sandbox", "ns_tree"), n))
PROGRAM = (ROOT / "tests/vm/guest_makers.py").read_bytes()
SECONDS = 500
# What README's limits say: before Linux 6.14 nobody can tell what a ring has in flight.
REFUSED = {("6.12", "io_urings"): "io_uring: this kernel does not tell what is in flight"}


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


@pytest.fixture(scope="module", params=["6.12", "7.2"])
def guest(request, tmp_path_factory, payload):
    dest = tmp_path_factory.mktemp("makers") / "payload"
    shutil.copytree(payload, dest, symlinks=True)
    make_payload(dest)
    with VM(f"test_makers/{request.param}", image=vm_image.build(), destdir=dest, memory="3G",
            kernel=request.param) as vm:
        vm.wait_idle()
        vm.put(PROGRAM, "/run/guest-makers", 0o755)
        vm.run("systemd-run -q --unit=makers -p Delegate=yes /run/guest-makers /run/makers "
               + " ".join(NAMES))
        yield vm
        (vm.log_dir / "journal.txt").write_text(vm.run("journalctl -u makers -o cat", check=False).out)


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_on_the_guests_kernel(guest, name):
    path = f"/run/makers/{name}.json"
    guest.run(f"until [ -e {path} ]; do systemctl -q is-active makers || [ -e {path} ] || exit 1; "
              "sleep 0.3; done", timeout=SECONDS)
    result = json.loads(guest.fetch(path))
    if result["outcome"] == "lacks":
        pytest.skip(f"kernel {guest.kernel}: {result['why']}")
    if (guest.kernel, name) in REFUSED:
        assert result["outcome"] == "failed" and REFUSED[guest.kernel, name] in result["why"]
        return
    assert result["outcome"] == "ok", f"{result['why']}\n{result['log']}"

"""Guests that have booted already: QEMU's snapshots, memory and disk in one file.

A boot costs an emulated processor half a minute, and all VMs of one description boot alike. The first leaves a
snapshot beside the image of its disk, from before it got what is tested; each VM goes on from a copy of it.

The traps: a VM finds its devices as they were, so the disk with the payload has one size, whatever is on it, and what
the guest has read of it before must not count. Its clock stands where it stood. And where processors are real (KVM), a
boot is quick, and another one's memory may not fit.
"""

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import time

import vm_image

NAME = "booted"
PAYLOAD_BYTES = 192 << 20
UNUSED_SECONDS = 7 * 24 * 3600


class BootedError(Exception):
    pass


def is_worth_it(vm):
    return vm.may_go_on and (vm.cpu or not vm_image.kvm_works(vm.image))


def _key(vm):
    what = [vm.image.dir.name, vm_image.qemu_version(), vm.memory, vm.smp, vm.cpu, vm.kernel, vm.append,
            vm_image.accel_args(vm.image, vm.cpu), PAYLOAD_BYTES]
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def copy_to(vm, path):
    """Makes a disk from which this VM goes on (-loadvm NAME)."""
    kept = vm.image.dir / f"booted-{_key(vm)}.qcow2"
    with open(kept.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _remove_unused(vm.image.dir)
            _make(vm, kept)
        os.utime(kept)
    shutil.copyfile(kept, path)


def _make(vm, kept):
    # One name, so that what is left by a run that was killed is written over by the next.
    new = kept.with_suffix(".new")
    try:
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", vm.image.disk, new], check=True)
        with vm.twin(kept.stem, new) as twin:
            twin.wait_idle()
            twin.run("sync")
            save(twin.monitor, 300 * vm_image.TIMEOUT_SCALE)
        new.rename(kept)
    except FileNotFoundError as e:
        if e.filename != "qemu-img":
            raise
        raise BootedError("qemu-img is not installed, run scripts/deps") from None
    finally:
        new.unlink(missing_ok=True)


def _remove_unused(directory):
    """Those of descriptions that no VM has any more, of some 250 MB each."""
    for path in [*directory.glob("booted-*.qcow2"), *directory.glob("booted-*.new")]:
        if path.stat().st_mtime < time.time() - UNUSED_SECONDS:
            path.unlink(missing_ok=True)


def make_one_size(path):
    with open(path, "ab") as f:
        if f.tell() > PAYLOAD_BYTES:
            raise BootedError(f"a payload of {f.tell()} bytes is too large: PAYLOAD_BYTES")
        f.truncate(PAYLOAD_BYTES)


def save(monitor, seconds):
    """Saves the VM behind QEMU's monitor (HMP), which says nothing for so many seconds at most."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(seconds)
        s.connect(monitor)
        _answer(s)
        s.sendall(f"savevm {NAME}\n".encode())
        said = _answer(s)
        if b"Error" in said:
            raise BootedError(f"QEMU cannot save the VM: {said.decode(errors='replace')}")


def _answer(s):
    said = b""
    while not said.endswith(b"(qemu) "):
        data = s.recv(1 << 16)
        if not data:
            raise BootedError("QEMU ended while it saved the VM")
        said += data
    return said

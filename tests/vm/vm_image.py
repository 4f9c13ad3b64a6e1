"""The guest image, and how this machine can run it: with KVM, or with TCG.

/dev/kvm is no proof: on some virtual machines the device exists and guests stop at their first
instructions.  So a kernel is booted under it once per boot of this machine.
"""

import ctypes
import hashlib
import mmap
import os
import re
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QEMU = "qemu-system-x86_64"
BIG_FILE_BYTES = 64 << 20
# Guests are five to twenty times slower without KVM, more when the machine is busy.
TIMEOUT_SCALE = float(os.environ.get("CRK_VM_TIMEOUT_SCALE", "1"))


class ImageError(Exception):
    pass


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "crkexec"


class Image:
    """The files that scripts/guest-image made."""

    def __init__(self, directory):
        self.dir = Path(directory)
        self.disk = self.dir / "disk.img"
        self.versions = dict(line.split() for line in
                             (self.dir / "kernels").read_text().splitlines())
        self.root_uuid = (self.dir / "root-uuid").read_text().strip()

    def kernel(self, series):
        if series not in self.versions:
            raise ImageError(f"the guest has no kernel {series}, only {', '.join(self.versions)}")
        return self.dir / f"vmlinuz-{series}", self.dir / f"initrd-{series}"


def build(*variant):
    """Build the guest image, or find it in the cache; variant: a name that guest-image knows."""
    done = subprocess.run([ROOT / "scripts" / "guest-image", *variant], stdout=subprocess.PIPE,
                          text=True, check=False)
    if done.returncode:
        raise ImageError(f"scripts/guest-image failed with status {done.returncode}")
    return Image(done.stdout.strip())


@dataclass
class CriuTesting:
    """The criu of Debian testing: what scripts/criu-testing made, or why apt has none."""
    directory: Path | None
    reason: str = ""


def criu_testing():
    done = subprocess.run([ROOT / "scripts" / "criu-testing"], capture_output=True, text=True,
                          check=False)
    if done.returncode == os.EX_UNAVAILABLE:
        return CriuTesting(None, done.stderr.strip().rpartition("\n")[2])
    if done.returncode:
        raise ImageError(f"scripts/criu-testing failed with status {done.returncode}:\n{done.stderr}")
    return CriuTesting(Path(done.stdout.strip()))


def big_file():
    """What nginx serves as /big.bin (see scripts/guest/customize)."""
    return b"".join(hashlib.shake_128(b"crkexec %d" % i).digest(1 << 20)
                    for i in range(BIG_FILE_BYTES >> 20))


def _boots_under_kvm(image):
    vmlinuz, _ = image.kernel("6.12")
    argv = [QEMU, "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-display", "none",
            "-no-reboot", "-serial", "stdio", "-kernel", str(vmlinuz), "-append",
            "console=ttyS0 panic=-1"]
    proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)
    seen, deadline = b"", time.monotonic() + 8
    try:
        # It panics for want of a root filesystem; that is the end we look for.
        while b"Kernel panic" not in seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([proc.stdout], [], [], left)[0]:
                return False
            data = os.read(proc.stdout.fileno(), 1 << 16)
            if not data:
                return False
            seen += data
        return True
    finally:
        proc.kill()
        proc.wait()
        proc.stdout.close()


def _once_a_boot(name, probe):
    """probe()'s answer, a word, asked for once as long as this machine runs."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memo = cache_dir() / name
    try:
        known, answer = memo.read_text().split()
        if known == boot_id:
            return answer
    except (FileNotFoundError, ValueError):
        pass
    answer = probe()
    new = memo.with_suffix(f".{os.getpid()}")
    new.write_text(f"{boot_id} {answer}\n")
    new.rename(memo)
    return answer


def kvm_works(image):
    if os.environ.get("CRK_VM_ACCEL") in ("tcg", "kvm"):
        return os.environ["CRK_VM_ACCEL"] == "kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    return _once_a_boot("kvm-probe", lambda: "yes" if _boots_under_kvm(image) else "no") == "yes"


def _tsc_mhz():
    """How fast the processor's time stamp counter runs, which an emulated one's is; "unknown"."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    if not flags or "constant_tsc" not in flags[1].split():
        return "unknown"
    # rdtsc; shl $32, %rdx; or %rdx, %rax; ret
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("0f3148c1e2204809d0c3"))
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def both():
        """The counter and the clock at one moment, as near as ten tries bring them."""
        tries = []
        for _ in range(10):
            before, ticks = time.monotonic_ns(), rdtsc()
            after = time.monotonic_ns()
            tries.append((after - before, ticks, (before + after) / 2))
        return min(tries)[1:]
    ticks, nsec = both()
    time.sleep(0.5)
    ticks_after, nsec_after = both()
    return str(round((ticks_after - ticks) * 1000 / (nsec_after - nsec)))


def clock_append(image, cpu=None):
    """Kernel arguments: how fast the TSC runs. A kernel finds that out by itself, but where it is emulated on a busy
    machine by 5 % wrong, and once by twelve times."""
    mhz = "unknown" if not cpu and kvm_works(image) else _once_a_boot("tsc-probe", _tsc_mhz)
    return "" if mhz == "unknown" else f"tsc_early_khz={mhz}000"


def qemu_version():
    try:
        text = subprocess.run([QEMU, "--version"], stdout=subprocess.PIPE, text=True,
                              check=True).stdout
    except FileNotFoundError:
        raise ImageError(f"{QEMU} is not installed, run scripts/deps") from None
    return tuple(int(n) for n in re.search(r"version (\d+)\.(\d+)", text).groups())


def accel_args(image, cpu=None):
    """cpu: a model that the test needs, whatever this machine has: it is emulated."""
    if not cpu and kvm_works(image):
        return ["-accel", "kvm", "-cpu", "host"]
    if qemu_version() < (10, 0):
        raise ImageError("QEMU before 10 crashes guests under TCG, run scripts/deps")
    # The cheapest model to emulate, without XSAVE; "max", with all there is, costs 15 % more. Without what makes
    # every boot load KVM's modules.
    return ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", cpu or "qemu64,-svm"]

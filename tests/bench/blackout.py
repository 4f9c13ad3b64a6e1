"""The blackout of redis and nginx, seen by a client outside the VM, for five ways to another
kernel, one after the other in the same VM:

    crkexec, images in the initramfs    6.12 -> 7.2
    crkexec, images kept in memory      7.2 -> 7.2
    systemctl kexec                     7.2 -> 7.2
    reboot                              7.2 -> 6.12
    the floor: a kexec into an initramfs that only says that it is up

The client tries a new connection twenty times a second; the blackout is the longest time
between two answers.
"""

import time

import upgrade
import vm_image
from clients import Load, Prober
from engine import MAKERS, build_makers
from table import median, seconds, table
from vm import VM

SERVICES = ["redis-server", "nginx"]
FLOOR_LINE = r"crk-bench: floor is up"


def newc(entries):
    """A cpio archive for an initramfs: [(name, mode, data, (major, minor))]."""
    out = b""
    for number, (name, mode, data, device) in enumerate(
            [*entries, ("TRAILER!!!", 0, b"", (0, 0))], 1):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4)
        out += data
        out += b"\0" * (-len(out) % 4)
    return out


class Watch:
    """Probers of both services, and the console's marks."""

    def __init__(self, vm):
        self.vm = vm
        self.probers = {"redis-server": Prober(vm, "probe redis", "redis"),
                        "nginx": Prober(vm, "probe nginx", "nginx")}
        for prober in self.probers.values():
            prober.begin()

    def begin(self):
        for prober in self.probers.values():
            prober.forget()
        self.mark = self.vm.console.mark()
        self.at = time.monotonic()

    def mark_time(self, pattern):
        for when, text in self.vm.console.lines[self.mark:]:
            if pattern in text:
                return when
        return None

    def end(self):
        """Seconds: the blackouts, and how the way was divided; each may be None."""
        self.vm.wait_idle()
        for prober in self.probers.values():
            upgrade.wait_for(lambda p=prober: p.answers_since(time.monotonic() - 1), 120,
                             f"{prober.name} gets answers again")
        row = {name: p.result.gap for name, p in self.probers.items()}
        jump, kernel = self.mark_time("Starting new kernel"), self.mark_time("Linux version")
        last = max(p.result.gap_end for p in self.probers.values())
        row["before"] = jump - self.at if jump else None
        row["jump"] = kernel - jump if jump and kernel else None
        row["boot"] = last - kernel if kernel else None
        return row

    def close(self):
        for prober in self.probers.values():
            prober.abandon()


def by_crkexec(vm, watch, store):
    """With a connection to each service, too: its pause is one more figure. No more of them: the
    machine that emulates the guest has no load of clients in the other ways either."""
    # The clients count from zero.
    vm.run("redis-cli flushall")
    load = Load(vm, SERVICES, only=("redis counter", "nginx download"))
    up = upgrade.Upgrade(vm, SERVICES, store=store, load=load)
    watch.begin()
    up.run()
    row = watch.end()
    results = {r.name: r for r in up.results}
    row["kept redis"] = results["redis counter"].gap
    row["kept nginx"] = results["nginx download"].gap
    row["phases"] = up.phases()
    row["troubles"] = up.troubles()
    return row


def by_kexec(vm, watch):
    watch.begin()
    vm.kexec("7.2")
    return watch.end()


def by_reboot(vm, watch):
    watch.begin()
    vm.reboot()
    return watch.end()


def to_the_floor(vm, watch):
    """The way back is longer than this VM lives."""
    program = (MAKERS / "floor").read_bytes()
    vm.put(newc([("dev", 0o040755, b"", (0, 0)), ("dev/console", 0o020600, b"", (5, 1)),
                 ("init", 0o100755, program, (0, 0))]), "/run/crk-floor.cpio")
    version = vm.image.versions["7.2"]
    vm.run(f"kexec -s -l /boot/vmlinuz-{version} --initrd=/run/crk-floor.cpio --reuse-cmdline")
    vm.run("sync")
    watch.begin()
    # No agent tells that the kernel has gone: not waited for.
    vm.run("systemd-run --quiet --no-block kexec -e")
    up, _ = vm.wait_console(FLOOR_LINE, since=watch.mark)
    jump, kernel = watch.mark_time("Starting new kernel"), watch.mark_time("Linux version")
    row = {name: up - p._last for name, p in watch.probers.items()}
    row["before"] = jump - watch.at if jump else None
    row["jump"] = kernel - jump if jump and kernel else None
    row["boot"] = up - kernel if kernel else None
    return row


WAYS = [
    ("crkexec, tmpfs", lambda vm, watch: by_crkexec(vm, watch, "tmpfs")),
    ("crkexec, pmem", lambda vm, watch: by_crkexec(vm, watch, "pmem")),
    ("systemctl kexec", by_kexec),
    ("reboot", by_reboot),
    ("floor", to_the_floor),
]


def one_vm(image, payload, run):
    """{way: figures}; a way that failed has none, and the next one is tried."""
    rows = {}
    with VM(f"bench/{run}", image=image, destdir=payload, memory=upgrade.MEMORY) as vm:
        vm.wait_idle()
        watch = None
        for name, go in WAYS:
            print(f"  {name} ...", flush=True)
            watch = Watch(vm)
            try:
                rows[name] = go(vm, watch)
            except Exception as e:      # figures only: the others still count
                print(f"  {name}: {e}")
            finally:
                watch.close()
            for text in rows.get(name, {}).get("troubles", []):
                print(f"    not as it should be: {text}")
    return rows


def medians(runs, name):
    rows = [r[name] for r in runs if name in r]
    keys = {key for row in rows for key in row} - {"phases", "troubles"}
    return {key: median([row.get(key) for row in rows]) for key in keys}


def print_phases(runs, name):
    all_phases = [r[name]["phases"] for r in runs if name in r and r[name].get("phases")]
    if not all_phases:
        return
    names = [phase for phase, _ in all_phases[0]]
    rows = [[phase, seconds(median([dict(p).get(phase) for p in all_phases]))] for phase in names]
    print(f"\n{name}: by phase, from crkexec's report\n")
    print(table(["phase", "time"], rows))


def main(count):
    image = vm_image.build()
    build_makers()
    payload = upgrade.make_payload()
    print(f"\nblackout, {'KVM' if vm_image.kvm_works(image) else 'no KVM (TCG)'}, "
          f"median of {count}\n", flush=True)
    runs = [one_vm(image, payload, run) for run in range(1, count + 1)]
    rows = []
    for name, _ in WAYS:
        m = medians(runs, name)
        rows.append([name, *(seconds(m.get(key), 2) for key in
                             ("redis-server", "nginx", "kept redis", "kept nginx", "before", "jump",
                              "boot"))])
    print()
    print(table(["way", "redis", "nginx", "redis kept", "nginx kept", "command to jump",
                 "jump to kernel", "kernel to answer"], rows))
    print("\n  redis, nginx: for new connections; kept: on connections that lived through it, with"
          "\n  the pause of the peer's retransmission timer")
    for name in ("crkexec, tmpfs", "crkexec, pmem"):
        print_phases(runs, name)

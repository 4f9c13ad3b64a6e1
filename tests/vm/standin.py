"""An upgrade without the engine, for tests of the new kernel's side alone: a manifest made by
hand, an initramfs from initramfs_build(), and an early program whose cr_restore() starts a
counting program with the pid, control group and output that a restored tree would have."""

import json
import subprocess
import tempfile
from pathlib import Path

import vm_image
from vm import AgentLost

BUILD = vm_image.ROOT / "build"
TEST = BUILD / "test"
SERVICE = "/usr/local/sbin/standin-service"
UPGRADE_ID = "00c0ffee00c0ffee"


def build():
    subprocess.run(["make", "-s", "-C", vm_image.ROOT, "standins", "build/crkexec-adopt",
                    "build/crkexec-generator", "build/crkexec-early"], check=True)


def make_payload(dest):
    """What the hand-over needs of "make install", and the stand-in service."""
    files = {
        BUILD / "crkexec-adopt": "usr/lib/crkexec/crkexec-adopt",
        TEST / "crkexec-early-standin": "usr/lib/crkexec/crkexec-early",
        BUILD / "crkexec-generator": "usr/lib/systemd/system-generators/crkexec-generator",
        TEST / "standin-service": SERVICE[1:],
    }
    for unit in (vm_image.ROOT / "systemd-units").glob("*.service"):
        files[unit] = f"usr/lib/systemd/system/{unit.name}"
    for part in (vm_image.ROOT / "dracut-module" / "90crkexec").iterdir():
        files[part] = f"usr/lib/dracut/modules.d/90crkexec/{part.name}"
    for source, target in files.items():
        path = Path(dest) / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
        path.chmod(0o644 if source.suffix == ".service" else 0o755)
    return dest


class Unit:
    """A unit and what becomes of it. program: the path, or "fail", "crash", "end"."""

    def __init__(self, name, pid, unit_type="notify", program=SERVICE, settings="", damage=False,
                 extra="", run_dir=None):
        self.name, self.pid, self.type = name, pid, unit_type
        self.program, self.settings, self.damage, self.extra = program, settings, damage, extra
        self.run_dir = run_dir

    def text(self):
        return (f"[Unit]\nDescription={self.name}\n{self.extra}\n[Service]\nType={self.type}\n"
                f"ExecStart={SERVICE}\nExecReload=/bin/kill -HUP $MAINPID\n"
                f"SyslogIdentifier=standin\nTimeoutStopSec=10\n"
                f"{self.settings}\n[Install]\nWantedBy=multi-user.target\n")


def hash_of(path):
    return subprocess.run([TEST / "standin-pack", "hash", path], check=True,
                          stdout=subprocess.PIPE, text=True).stdout.strip()


def unit_manifest(unit, images):
    directory = images / unit.name / "0"
    directory.mkdir(parents=True)
    image = directory / "standin.img"
    image.write_text(unit.program + "\n")
    entry = {"name": image.name, "bytes": image.stat().st_size, "hash": hash_of(image)}
    if unit.damage:
        image.write_text(unit.program[:-1] + "X\n")
    carries = []
    entries = [entry]
    if unit.run_dir:
        archive = directory / "carry-0.tar.gz.img"
        subprocess.run(["tar", "-c", "-z", "--format=pax", "-f", archive, "-C", unit.run_dir, "."],
                       check=True)
        entries.append({"name": archive.name, "bytes": archive.stat().st_size,
                        "hash": hash_of(archive)})
        carries = [{"path": f"/run/{unit.name}", "archive": archive.name, "only_dir": False,
                    "single": False}]
    return {
        "name": unit.name, "cgroup": f"/system.slice/{unit.name}", "type": unit.type,
        "identifier": "standin", "main_pid": unit.pid, "control_pid": 0,
        "trees": [{"root_pid": unit.pid, "dir": f"{unit.name}/0", "bundle_off": 0,
                   "bundle_bytes": 0, "bundle_hash": "0", "images": entries}],
        "carries": carries,
        "streams": [{"socket_ino": 1}], "n_connections": 0, "n_unaccepted": 0, "n_tasks": 1,
        "image_bytes": 1, "dump_usec": 0, "outcome": "pending", "frozen_at_usec": 0,
        "restored_at_usec": 0,
    }


def manifest(units, images, vm, modules, links, routes, clock, root):
    return {
        "id": UPGRADE_ID, "kernel_from": vm.image.versions["6.12"],
        "kernel_to": vm.image.versions["7.2"], "store": "tmpfs", "ranges": [], "clock": clock,
        "units": [unit_manifest(u, images) for u in units],
        "mounts": [{"source": root, "target": "/", "fstype": "ext4",
                    "options": "", "flags": 1 << 10}],
        "links": links, "routes": routes,
        # Each process loads all of them, as with modules that disks and network share.
        "network_modules": modules, "modules": modules,
        "sysctls": ["net.ipv4.tcp_timestamps=1", "kernel.no.such.thing=1"], "phases": [],
        "warnings": [],
    }


def network(vm):
    """The guest's network, as the orchestrator would write it."""
    interfaces = json.loads(vm.run("ip -j -d address show").out)
    links = []
    for i in interfaces:
        if i.get("link_type") != "ether":
            continue
        links.append({"name": i["ifname"], "mac": i["address"], "mtu": i["mtu"], "addresses": [
            {"address": f"{a['local']}/{a['prefixlen']}", "family": 2 if a["family"] == "inet"
             else 10, "flags": 128, "scope": 253 if a["scope"] == "link" else 0}
            for a in i["addr_info"]]})
    routes = []
    for family, option in ((2, "-4"), (10, "-6")):
        for r in json.loads(vm.run(f"ip -j {option} route show").out):
            if r.get("protocol") == "kernel":
                continue
            routes.append({"dst": r["dst"], "via": r.get("gateway"), "dev": r["dev"],
                           "src": r.get("prefsrc"), "family": family, "table": 254,
                           "metric": r.get("metric", 0), "scope": 0 if "gateway" in r else 253,
                           "protocol": 4, "type": 1})
    return links, [{k: v for k, v in r.items() if v is not None} for r in routes]


def fetch_modules(vm, directory):
    version = vm.image.versions["7.2"]
    listed = vm.run(f"for m in virtio_blk virtio_net; do modprobe -S {version} --show-depends $m;"
                    " done").out
    files = []
    for line in listed.splitlines():
        if line.startswith("insmod"):
            path = Path(line.split()[1])
            if path.name not in [f.name for f in files]:
                local = directory / path.name
                local.write_bytes(vm.fetch(str(path)))
                files.append(local)
    return files


def make_dracut_initrd(vm):
    """The distribution's initramfs for the target kernel with our module in it."""
    vm.run(f"dracut --force --add crkexec /var/tmp/initrd.dracut {vm.image.versions['7.2']} 2>&1",
           timeout=300)
    return vm.fetch("/var/tmp/initrd.dracut")


def pack(vm, units, *, base=None, root=None):
    """The initramfs, as bytes: our own, or behind the distribution's (bytes too)."""
    early = TEST / "crkexec-early-standin"
    with tempfile.TemporaryDirectory(prefix="crk-standin-") as tmp:
        tmp = Path(tmp)
        images, modules_dir = tmp / "images", tmp / "modules"
        images.mkdir()
        modules_dir.mkdir()
        modules = fetch_modules(vm, modules_dir) if base is None else []
        links, routes = network(vm)
        seconds = int(vm.run("date +%s").out)
        clock = {"realtime_nsec": seconds * 10**9, "monotonic_nsec": 10**9, "boottime_nsec": 10**9,
                 "tsc": 0, "tsc_khz": 0}
        text = manifest(units, images, vm, [m.name for m in modules], links, routes, clock,
                        root or f"UUID={vm.image.root_uuid}")
        (tmp / "manifest").write_text(json.dumps(text, indent=1))
        if base is not None:
            (tmp / "base").write_bytes(base)
            base = tmp / "base"
        out = tmp / "initramfs"
        subprocess.run([TEST / "standin-pack", "build", out, early if base is None else "-",
                        base or "-", tmp / "manifest", images, *modules], check=True)
        return out.read_bytes()


def jump(vm, initramfs, append="", upgrade_id=UPGRADE_ID, timeout=240):
    """Load the target kernel with this initramfs and go there; waits for the agent."""
    version = vm.image.versions["7.2"]
    vm.put(initramfs, "/var/tmp/standin.initramfs")
    vm.run(f"kexec -s -l /boot/vmlinuz-{version} --initrd=/var/tmp/standin.initramfs"
           f" --append=\"$(cat /proc/cmdline) crkexec={upgrade_id} {append}\"", timeout=60)
    old = vm.boot_id()
    try:
        vm.run("systemctl kexec", timeout=timeout)
    except AgentLost:
        pass
    return vm.wait_agent(not_boot_id=old, timeout=timeout)

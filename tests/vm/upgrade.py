"""A whole upgrade in a VM: clients start, crkexec runs, clients end, and what was found.

    with VM("name", destdir=payload, memory=upgrade.MEMORY) as vm:
        up = Upgrade(vm, ["redis-server", "nginx"], store="pmem")
        up.run()
        for trouble in up.troubles(): …         # empty: all of it held

Used by the tests, `make demo` and `make bench`.
"""

import json
import shlex
import subprocess
import time
from pathlib import Path

import vm_image
from clients import Load
from vm import CommandError

MEMORY = "2G"
SERIES_TO = "7.2"
STATE_PROGRAM = Path(__file__).with_name("upgrade_state.py").read_bytes()
# As a boot leaves it: whatever else is there afterwards was left behind by the upgrade.
LEFT_OVER_AT_MOST = {"zombies": [], "nft": "", "xdp": [], "frozen": [], "run": [], "tmpfiles": [],
                     "kexec_loaded": "0", "crkexec_processes": "", "crkexec_units": [],
                     "failed": []}


def make_payload():
    """What "make install" installs, as a tree for VM(destdir=…); the tests have a fixture."""
    payload = vm_image.ROOT / "build" / "vm-payload"
    subprocess.run(["rm", "-rf", payload], check=True)
    subprocess.run(["make", "-s", "-C", vm_image.ROOT, "install", f"DESTDIR={payload}",
                    "PREFIX=/usr"], check=True, stdout=subprocess.DEVNULL)
    return payload


def guest_state(vm, services=()):
    """What upgrade_state.py says, as a dictionary."""
    done = vm.run("python3 - " + " ".join(services), stdin=STATE_PROGRAM, timeout=90)
    return json.loads(done.out)


def wait_for(condition, timeout, what, period=0.25):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(period)


def left_over(state):
    """What is there that should not be, as texts."""
    return [f"left over, {key}: {state[key]}" for key, empty in LEFT_OVER_AT_MOST.items()
            if state[key] != empty]


def command(vm, services, *options, series=SERIES_TO, kernel=None):
    """crkexec's command line."""
    version = kernel or vm.image.versions[series]
    return " ".join(["crkexec", "--services", ",".join(services), "--kernel", version,
                     *map(shlex.quote, options)])


def on_console(line):
    """A shell command whose output goes to the serial console too, where it gets the host's
    time; its exit status stays."""
    return ("bash -c " + shlex.quote(f"set -o pipefail; TERM=dumb {line} 2>&1 </dev/null"
                                     " | tee -a /dev/ttyS0"))


class NoClients:
    """In the place of clients.Load, for services that have none."""
    clients = ()

    def start(self):
        pass

    touch = abandon = start

    def finish(self):
        return []


class Upgrade:
    """One upgrade of one VM. After run(): before, after (guest_state), results (of the clients),
    report (crkexec's), marks (host times of console lines)."""

    def __init__(self, vm, services=("redis-server", "nginx"), options=(), series=SERIES_TO,
                 store=None, load=None, named=None, say=lambda text: None):
        """named: what the command line says instead of the units' own names."""
        self.named = named or services
        self.vm, self.services, self.series, self.say = vm, list(services), series, say
        self.options = ([f"--store={store}"] if store else []) + list(options)
        self.load = load if load is not None else Load(vm, self.services)
        self.before = self.after = self.report = None
        self.results = []
        self.marks = {}

    def jump(self):
        """From a running command to the new kernel's agent."""
        raise_later = None
        mark = self.vm.console.mark()
        self.marks["command"] = time.monotonic()
        try:
            self.vm.run_until_restart(on_console(command(
                self.vm, self.named, *self.options, series=self.series)), timeout=300)
        except CommandError as e:
            raise_later = e
        if raise_later:
            raise raise_later
        self._note("jump", r"Starting new kernel", mark)
        self._note("kernel", r"Linux version", mark)
        self.marks["agent"] = time.monotonic()

    def _note(self, name, pattern, mark):
        try:
            self.marks[name] = self.vm.wait_console(pattern, timeout=5, since=mark)[0]
        except Exception:       # a mark is for the figures only
            self.marks[name] = None

    def run(self):
        vm = self.vm
        self.say("waiting until the guest is idle")
        vm.wait_idle()
        self._wait_ready()
        self.say("starting the clients")
        self.load.start()
        try:
            self.before = guest_state(vm, self.services)
            self.load.touch()
            self.say("upgrading")
            self.jump()
            self.say("the new kernel is up, waiting until systemd has finished")
            vm.wait_idle()
            self._wait_adopted()
            self._wait_network()
            self.after = guest_state(vm, self.services)
            self.report = self.after["status"]["report"]
            self.say("ending the clients, reading back what they wrote")
            self.results = self.load.finish()
        except BaseException:
            self.load.abandon()
            raise
        return self

    def _wait_ready(self):
        ports = {"redis-server": 6379, "nginx": 80, "postgresql@17-main": 5432}
        for service in self.services:
            if service in ports:
                self.vm.connect(ports[service], retry=60).close()

    def _wait_adopted(self):
        """crkexec-finish runs after the last unit was adopted."""
        def finished():
            done = self.vm.run("crkexec status --json", check=False)
            try:
                return json.loads(done.out)["state"] != "adopting"
            except (ValueError, KeyError):
                return True     # the state that follows shows it
        try:
            wait_for(finished, 60, "crkexec status says that all units are handed over")
        except TimeoutError:
            pass                # likewise

    def _wait_network(self):
        """Link-local addresses and their routes come when links have their carrier, after all else."""
        def settled():
            now = guest_state(self.vm)
            return all(now[key] == self.before[key] for key in ("addresses", "routes"))
        try:
            wait_for(settled, 30, "addresses and routes are as they were")
        except TimeoutError:
            pass                # the state that follows shows it

    # --- judging ------------------------------------------------------------------------------

    def troubles(self):
        """Everything that is not as it should be, as texts; empty: the upgrade held."""
        return (self.kernel_troubles() + self.unit_troubles() + self.host_troubles()
                + left_over(self.after) + self.report_troubles() + self.client_troubles())

    def kernel_troubles(self):
        wanted = self.vm.image.versions[self.series]
        got = self.after["kernel"]
        return [] if got == wanted else [f"the kernel is {got}, not {wanted}"]

    def unit_troubles(self):
        troubles = []
        for name in self.services:
            before, after = self.before["units"][name], self.after["units"][name]
            for key in sorted(set(before) - {"processes", "memory"}):
                if before[key] != after.get(key):
                    troubles.append(f"{name}: {key} was {before[key]!r}, is {after.get(key)!r}")
            troubles += process_troubles(name, before["processes"], after["processes"])
        if self.before.get("redis_run_id") != self.after.get("redis_run_id"):
            troubles.append("redis was started anew: its run_id changed")
        return troubles

    def host_troubles(self):
        """What belongs to the machine and not to a unit."""
        troubles = []
        if self.after["system"] != self.before["system"]:
            troubles.append(f"the system is {self.after['system']}: {self.after['failed']}")
        for key in ("listening", "addresses", "routes"):
            if self.before[key] != self.after[key]:
                troubles.append(f"{key}: was {self.before[key]}, is {self.after[key]}")
        missing = [s for s in self.before["services"] if s not in self.after["services"]
                   and not s.startswith(("user@", "crkexec"))]
        if missing:
            troubles.append(f"services that do not run any more: {missing}")
        more = [m for m in self.after["mounts"] if m not in self.before["mounts"]
                or self.after["mounts"].count(m) > self.before["mounts"].count(m)]
        if more:
            troubles.append(f"mounts that were not there before: {more}")
        return troubles

    def report_troubles(self):
        status = self.after["status"]
        if not self.report or "units" not in self.report:
            return [f"crkexec status --json gives no report: {status}"]
        troubles = []
        for unit in self.report["units"]:
            if unit["outcome"] != "adopted":
                troubles.append(f"report: {unit['name']} is {unit['outcome']}: {unit['reason']}")
            if not unit.get("blackout_usec"):
                troubles.append(f"report: no blackout is given for {unit['name']}")
        if status["exit"] != 0:
            troubles.append(f"crkexec status ends with {status['exit']}")
        if self.report["kernel_to"] != self.after["kernel"]:
            troubles.append(f"report: kernel_to is {self.report['kernel_to']}")
        return troubles

    def client_troubles(self):
        return [f"client {r.name}: {text}" for r in self.results if not r.ok
                for text in (r.errors or [f"{r.lost} of {r.sent} requests lost"])]

    # --- figures --------------------------------------------------------------------------------

    def phases(self):
        """[(name, seconds)] of the blackout, in order, with what lies between the kernels."""
        dark = [u["frozen_at_usec"] for u in self.report["units"] if u["frozen_at_usec"]]
        back = [u["restored_at_usec"] for u in self.report["units"] if u["restored_at_usec"]]
        if not dark or not back:
            return []
        begin, end = min(dark), max(back)
        rows, at = [], begin
        for p in sorted(self.report["phases"], key=lambda p: p["begin_usec"]):
            if p["end_usec"] <= begin or p["begin_usec"] >= end:
                continue
            if p["begin_usec"] - at > 50_000:
                rows.append(("kernel to kernel" if at > begin else "(freezing)",
                             (p["begin_usec"] - at) / 1e6))
            # What runs beside another counts only where it is longer.
            rows.append((p["name"], max(0, min(p["end_usec"], end) - max(p["begin_usec"], at)) / 1e6))
            at = max(at, p["end_usec"])
        if end - at > 50_000:
            rows.append(("(until the last tree runs)", (end - at) / 1e6))
        rows.append(("blackout", (end - begin) / 1e6))
        return rows


def process_troubles(name, before, after):
    """PIDs are the same, and what the kernel says about each process."""
    # A shell's children come and go, and so do redis' when it saves.
    before, after = ({pid: p for pid, p in ps.items() if p["comm"] != "sleep" and "-bgsave" not in p["cmdline"]}
                     for ps in (before, after))
    if set(before) != set(after):
        return [f"{name}: processes were {sorted(before)}, are {sorted(after)}"]
    troubles = []
    for pid, old in before.items():
        for key, value in old.items():
            # R or S is chance.
            if key != "state" and value != after[pid][key]:
                troubles.append(f"{name}: pid {pid} {key}: was {value}, is {after[pid][key]}")
        if after[pid]["state"] not in "RSD":
            troubles.append(f"{name}: pid {pid} is in state {after[pid]['state']}")
    return troubles

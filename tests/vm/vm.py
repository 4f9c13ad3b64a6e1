"""A virtual machine for tests: class VM, a context manager.

    with VM("a name for the logs", destdir="build/dest") as vm:
        print(vm.run("uname -r").out)

One VM is one QEMU process, one network namespace with the host's end of its network, one
control channel (vm_agent.py) and one console (vm_console.py).  The disk is a snapshot: every VM
starts from the same image, as a rule where one like it had booted (vm_booted.py), and what the guest
writes lasts until QEMU ends, over kexec and reboot.  The trap: QEMU dies with the thread that started
it (PR_SET_PDEATHSIG), so a VM is started from the test's main thread.
"""

import base64
import ctypes
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import vm_booted
import vm_image
from vm_image import TIMEOUT_SCALE
from vm_agent import Agent, AgentError, AgentLost, AgentTimeout
from vm_console import Console, ConsoleError
from vm_net import GUEST_V4, GUEST_V6, HOST_V4, HOST_V6, TAP, NetNs, remove_stale

__all__ = ["VM", "VMError", "CommandError", "Result", "AgentError", "AgentLost", "AgentTimeout",
           "ConsoleError", "GUEST_V4", "GUEST_V6", "HOST_V4", "HOST_V6"]

LOGS = Path(os.environ.get("CRK_VM_LOGS") or vm_image.ROOT / "build" / "vm-logs")
# An eighth of an emulated processor's time is measures against what it does not have, and clearing of memory, and each
# of the usual four serial lines costs udev a moment at every boot. On a busy machine the kernel suspects the TSC.
BASE_APPEND = ("root=/dev/vda rw console=ttyS0 loglevel=6 systemd.show_status=error 8250.nr_uarts=1"
               " mitigations=off init_on_alloc=0 tsc=reliable")
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


class VMError(Exception):
    pass


@dataclass
class Result:
    """What a command in the guest left: exit status (negative: signal), output, errors."""
    rc: int
    out: str
    err: str


class CommandError(VMError):
    def __init__(self, command, result, why):
        super().__init__(f"in the guest: {command}\n  {why}\n"
                         f"--- stdout\n{result.out}--- stderr\n{result.err}")
        self.result = result


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def pack(directory, out_path):
    """Pack a tree (as "make install DESTDIR=" makes it) as a tar owned by root."""
    def as_root(info):
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        # A newer /usr means "first boot" to systemd, which has a lot to do then.
        if info.isdir():
            info.mtime = 0
        return info

    with tarfile.open(out_path, "w", format=tarfile.GNU_FORMAT) as tar:
        for entry in sorted(Path(directory).iterdir()):
            tar.add(entry, arcname=entry.name, filter=as_root)


class Slot:
    """A place among the VMs of this machine, of which there are as many as processors: an emulated guest keeps
    one busy most of the time, and two when it boots.  One process takes one place for all its VMs (a
    test's own beside a module's, which is idle meanwhile) and for the harnesses it starts; the
    kernel frees it with the process."""
    INHERITED = "CRK_VM_SLOT_TAKEN"
    _file = None
    _users = 0

    @classmethod
    def take(cls):
        if not cls._users and cls.INHERITED not in os.environ:
            cls._file = cls._wait()
            os.environ[cls.INHERITED] = "1"
        cls._users += 1

    @classmethod
    def give_back(cls):
        cls._users -= 1
        if not cls._users and cls._file:
            del os.environ[cls.INHERITED]
            cls._file.close()
            cls._file = None

    @staticmethod
    def _wait():
        places = os.cpu_count() or 1
        said = False
        while True:
            for n in range(places):
                path = os.path.join(tempfile.gettempdir(), f"crk-vm-slot-{n}")
                slot = open(path, "a")
                try:
                    fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return slot
                except BlockingIOError:
                    slot.close()
            if not said:
                print(f"waiting for another run's VM to end ({path})", file=sys.stderr, flush=True)
                said = True
            time.sleep(0.5)


class VM:
    def __init__(self, name, *, image=None, destdir=None, memory="2G", smp=2, cpu=None,
                 kernel="6.12", append="", qemu_args=(), getty=False, tee=None, disk=None,
                 boot=False):
        """Describe a VM; entering the context (or start()) lets it run, booted.

        name      directory below build/vm-logs for console.log, journal.txt, …
        destdir   payload, unpacked over the guest's / (when it boots: before its services start)
        cpu       QEMU's name of a processor model ("max"), which is then emulated
        kernel    series of the kernel that QEMU boots
        append    more kernel arguments, after ours (a later root= wins)
        getty     log root in on the serial console
        tee       called with the console's raw bytes
        disk      a qcow2 over the image, to boot from and to write to
        boot      boot it, with its payload, instead of going on where another one had booted
        """
        self.image = image or vm_image.build()
        self.log_dir = LOGS / re.sub(r"[^\w./+-]+", "-", name).strip("-/")
        self.memory, self.smp, self.cpu, self.kernel = memory, smp, cpu, kernel
        self._append = append
        self.append = " ".join(filter(None, [BASE_APPEND, vm_image.clock_append(self.image, cpu),
                                             "" if getty else "systemd.getty_auto=0", append]))
        self.qemu_args = list(qemu_args)
        self.destdir = destdir
        self.net = self.agent = self.console = self.qemu = None
        self.panic_is_failure = True
        self.disk = disk
        # What a VM without arguments of its own has in common with others.
        self.may_go_on = not (boot or disk or self.qemu_args or getty)
        self._tee = tee
        self._tmp = None
        self._has_slot = False

    # --- life ---------------------------------------------------------------------------

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.close()

    def start(self, wait=True):
        """Start QEMU, and wait for the guest's agent unless told otherwise."""
        shutil.rmtree(self.log_dir, ignore_errors=True)
        self.log_dir.mkdir(parents=True)
        remove_stale()
        try:
            Slot.take()
            self._has_slot = True
            self._tmp = tempfile.mkdtemp(prefix=f"crk-vm-{os.getpid()}-")
            self.net = NetNs()
            if wait and vm_booted.is_worth_it(self):
                self._go_on()
            else:
                self._start_qemu()
            if wait:
                self.wait_agent()
                self._check_payload()
        except BaseException:
            self.close()
            raise

    def twin(self, name, disk):
        """A VM that boots as this one does, without its payload."""
        return VM(name, image=self.image, memory=self.memory, smp=self.smp, cpu=self.cpu, kernel=self.kernel,
                  append=self._append, disk=disk)

    def _go_on(self):
        """From where a guest like this one had booted. The payload comes later than at a boot."""
        self.disk = os.path.join(self._tmp, "disk.qcow2")
        vm_booted.copy_to(self, self.disk)
        self._start_qemu("-loadvm", vm_booted.NAME)
        self.agent.ask_hello(60 * TIMEOUT_SCALE)
        unpack = " && rm /var/lib/crk-payload.done && crk-payload" if self.destdir else ""
        self.run(f"date -s @{time.time():.3f} >/dev/null{unpack}", timeout=120)

    def install(self, destdir):
        """Unpack a tree over the guest's root: at boot (before start()), or at once."""
        if self.qemu is None:
            self.destdir = destdir
            return
        local = os.path.join(self._tmp, "install.tar")
        pack(destdir, local)
        self.put(local, "/run/crk-install.tar")
        os.unlink(local)
        self.run("tar -x -f /run/crk-install.tar -C / --no-overwrite-dir --no-same-owner"
                 " --same-permissions && rm /run/crk-install.tar && systemctl daemon-reload",
                 timeout=120)

    @property
    def monitor(self):
        """QEMU's, a socket."""
        return os.path.join(self._tmp, "monitor")

    def _check_payload(self):
        if self.run("test -e /var/lib/crk-payload.done", check=False).rc != 0:
            raise VMError("the payload was not unpacked:\n" + self.run(
                "journalctl --no-pager -u crk-payload", check=False).out)

    def _start_qemu(self, *args):
        with open(self.log_dir / "qemu.log", "wb") as err:
            self.qemu = self.net.popen([*self._qemu_argv(), *args], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=err,
                                       # Ctrl-C is for the tests, which then fetch the logs.
                                       start_new_session=True,
                                       preexec_fn=_die_with_parent)
        self.console = Console(self.qemu.stdout.fileno(), self.log_dir / "console.log", self._tee)
        path = os.path.join(self._tmp, "agent")
        for _ in range(200):
            try:
                self.agent = Agent(path, self._check_alive)
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if self.qemu.poll() is not None:
                    break
                time.sleep(0.05)
        raise VMError("QEMU did not start:\n" + (self.log_dir / "qemu.log").read_text())

    def _root_drive(self):
        if self.disk:
            return f"file={self.disk},format=qcow2"
        return f"file={self.image.disk},format=raw,snapshot=on"

    def _payload_file(self):
        path = os.path.join(self._tmp, "payload.tar")
        if self.destdir is not None:
            pack(self.destdir, path)
        if self.disk:
            vm_booted.make_one_size(path)
        return path

    def _qemu_argv(self):
        vmlinuz, initrd = self.image.kernel(self.kernel)
        argv = [
            vm_image.QEMU, "-machine", "pc", *vm_image.accel_args(self.image, self.cpu),
            "-smp", str(self.smp), "-m", self.memory, "-nodefaults", "-display", "none",
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-chardev", f"socket,id=agent,path={self._tmp}/agent,server=on,wait=off",
            "-chardev", f"socket,id=monitor,path={self.monitor},server=on,wait=off", "-mon", "chardev=monitor",
            "-device", "virtio-serial-pci,addr=0x5",
            "-device", "virtserialport,chardev=agent,name=crkexec.agent",
            "-drive", f"if=none,id=root,{self._root_drive()},cache=unsafe",
            "-device", "virtio-blk-pci,drive=root,serial=crk-root,addr=0x3",
            "-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no",
            # A speed: 802.3ad takes no port of unknown speed.
            "-device", "virtio-net-pci,netdev=net,mac=52:54:00:77:00:02,romfile=,addr=0x6,speed=1000,duplex=full",
            "-device", "virtio-rng-pci,addr=0x7",
            "-kernel", str(vmlinuz), "-initrd", str(initrd), "-append", self.append,
        ]
        if self.destdir is not None or self.disk:
            argv += ["-drive", f"if=none,id=payload,file={self._payload_file()},format=raw,readonly=on",
                     "-device", "virtio-blk-pci,drive=payload,serial=crk-payload,addr=0x4"]
        return argv + self.qemu_args

    def close(self):
        """Collect the guest's logs and remove everything; never raises for a dead guest."""
        try:
            if self._is_reachable():
                self._collect()
        finally:
            if self.qemu:
                self.qemu.kill()
                self.qemu.wait()
                if self.console:
                    self.console.join()
                self.qemu.stdin.close()
                self.qemu.stdout.close()
                self.qemu = None
            if self.agent:
                self.agent.close()
            if self.net:
                self.net.close()
                self.net = None
            if self._tmp:
                shutil.rmtree(self._tmp, ignore_errors=True)
                self._tmp = None
            if self._has_slot:
                self._has_slot = False
                Slot.give_back()

    def _is_reachable(self):
        return (self.qemu and self.qemu.poll() is None and self.agent and self.agent.hellos
                and not self.console.panic)

    def _collect(self):
        wanted = {
            "journal.txt": "journalctl --no-pager -o short-precise",
            "crkexec.tar": "find /var/log/crkexec /run/crkexec -type f -size -4096k -print0"
                           " 2>/dev/null | tar -c --null -T - 2>/dev/null",
        }
        for name, command in wanted.items():
            try:
                answer = self.agent.request("run", 40 * TIMEOUT_SCALE, sh=command,
                                            timeout=30 * TIMEOUT_SCALE)
            except (AgentError, VMError, OSError) as e:
                (self.log_dir / "collect-failed.txt").write_text(f"{name}: {e}\n")
                return
            (self.log_dir / name).write_bytes(base64.b64decode(answer["out"]))
        crkexec = self.log_dir / "crkexec.tar"
        subprocess.run(["tar", "-x", "-f", crkexec, "-C", self.log_dir], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        crkexec.unlink()

    # --- the guest ----------------------------------------------------------------------

    def _check_alive(self):
        if self.panic_is_failure and self.console.panic:
            raise VMError(f"the guest panicked: {self.console.panic}\n{self.console.tail(30)}")
        if self.qemu.poll() is not None:
            raise VMError(f"QEMU ended with status {self.qemu.returncode}:\n"
                          + (self.log_dir / "qemu.log").read_text())

    def boot_id(self):
        """The boot id of the newest agent that reported."""
        return self.agent.boot_id()

    def wait_agent(self, not_boot_id=None, timeout=240):
        """Wait until the guest's agent answers, of another boot than not_boot_id if given."""
        try:
            return self.agent.wait_hello(not_boot_id, timeout * TIMEOUT_SCALE)
        except AgentError as e:
            raise VMError(f"{e}; last console lines:\n{self.console.tail(20)}") from None

    def wait_idle(self, timeout=240):
        """Wait until systemd has finished booting; returns its state ("running", …)."""
        state = self.run("systemctl is-system-running --wait", timeout=timeout,
                         check=False).out.strip()
        # "running" does not wait for addresses; and once in a while networkd misses that udev has
        # renamed the interface, which is no business of these tests.
        self.run("""for i in $(seq 100); do
                        [ -n "$(ip -o address show scope global)" ] && exit
                        [ $i = 50 ] && systemctl restart systemd-networkd
                        sleep 0.2
                    done""", check=False)
        return state

    def run(self, command, timeout=60, check=True, stdin=b"", env=None):
        """Run a shell command in the guest as root."""
        seconds = timeout * TIMEOUT_SCALE
        answer = self.agent.request("run", seconds + 20, sh=command, timeout=seconds,
                                    stdin=base64.b64encode(stdin).decode(), env=env or {})
        out, err = (base64.b64decode(answer[k]).decode("utf-8", "replace") for k in ("out", "err"))
        result = Result(answer["rc"], out, err)
        if answer["timed_out"]:
            raise CommandError(command, result, f"still running after {seconds:.0f} s, killed")
        if check and result.rc != 0:
            raise CommandError(command, result, f"exit status {result.rc}")
        return result

    def put(self, local, remote, mode=None):
        """Copy a local file, or bytes, to a path in the guest."""
        if isinstance(local, bytes):
            self.agent.put(local, remote, mode or 0o644)
            return
        path = Path(local)
        self.agent.put(path.read_bytes(), remote, mode or path.stat().st_mode & 0o7777)

    def fetch(self, remote):
        """The contents of a file of the guest."""
        return self.agent.get(remote)

    def wait_console(self, pattern, timeout=120, since=0):
        """Wait for a console line; returns (host's monotonic time, match)."""
        return self.console.wait(pattern, timeout * TIMEOUT_SCALE, since)

    def send_console(self, data):
        self.qemu.stdin.write(data)
        self.qemu.stdin.flush()

    def run_until_restart(self, command, timeout=240):
        """Run a command that ends in a kexec or reboot; returns the next boot's hello.

        A command that fails before raises CommandError; one that returns 0 may still restart.
        """
        old = self.boot_id()
        try:
            self.run(command, timeout=timeout)
        except AgentLost:
            pass        # the command went with the old kernel
        return self.wait_agent(not_boot_id=old, timeout=timeout)

    def kexec(self, series, how="systemctl kexec", timeout=240):
        """A plain kexec, as without crkexec; returns the new kernel's hello."""
        version = self.image.versions[series]
        self.run(f"kexec -s -l /boot/vmlinuz-{version} --initrd=/boot/initrd.img-{version}"
                 " --reuse-cmdline")
        return self.run_until_restart(how, timeout)

    def reboot(self, timeout=240):
        """A plain reboot, into the kernel that QEMU was started with."""
        return self.run_until_restart("systemctl reboot", timeout)

    # --- the network --------------------------------------------------------------------

    def popen_in_net(self, argv, **kwargs):
        """A process on this machine that lives in the VM's network."""
        return self.net.popen(argv, **kwargs)

    def client_socket(self, *args):
        """An unconnected socket in the VM's network, usable from any thread."""
        return self.net.socket(*args)

    def connect(self, port, address=GUEST_V4, timeout=10, retry=0):
        """A TCP connection to the guest; while refused, tried again for retry seconds."""
        deadline = time.monotonic() + retry * TIMEOUT_SCALE
        family = (socket.AF_INET6 if ":" in address else socket.AF_INET)
        while True:
            sock = self.client_socket(family)
            sock.settimeout(timeout * TIMEOUT_SCALE)
            try:
                sock.connect((address, port))
                return sock
            except OSError:
                sock.close()
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.2)

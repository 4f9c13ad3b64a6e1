"""A network namespace that holds the host's end of one VM's network.

QEMU's tap lives inside it, so whatever a test does there (clients, filters, packet loss) never
touches the machine's own network, and two VMs can use the same addresses at the same time.
"""

import ctypes
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading

CLONE_NEWNET = 0x40000000
HOST_V4, HOST_V6 = "10.77.0.1", "fd77::1"
GUEST_V4, GUEST_V6 = "10.77.0.2", "fd77::2"
TAP = "tap0"

_libc = ctypes.CDLL(None, use_errno=True)


def _ip(*args):
    subprocess.run(["ip", *args], check=True, stdin=subprocess.DEVNULL)


def _is_stale(name, pattern):
    m = re.fullmatch(pattern, name)
    return m and not os.path.exists(f"/proc/{m[1]}")


def remove_stale():
    """Remove what harnesses that were killed left behind; the names tell their pids."""
    if os.path.isdir("/run/netns"):
        for name in os.listdir("/run/netns"):
            if _is_stale(name, r"crk-(\d+)-\d+"):
                subprocess.run(["ip", "netns", "del", name], check=False)
    tmp = tempfile.gettempdir()
    for name in os.listdir(tmp):
        if _is_stale(name, r"crk-vm-(\d+)-\w+"):
            shutil.rmtree(os.path.join(tmp, name), ignore_errors=True)


class NetNs:
    _count = 0
    _count_lock = threading.Lock()

    def __init__(self):
        with NetNs._count_lock:
            NetNs._count += 1
            self.name = f"crk-{os.getpid()}-{NetNs._count}"
        self.path = f"/run/netns/{self.name}"
        _ip("netns", "add", self.name)
        try:
            self._configure()
        except BaseException:
            self.close()
            raise

    def _configure(self):
        n = self.name
        _ip("-n", n, "link", "set", "lo", "up")
        _ip("-n", n, "tuntap", "add", "dev", TAP, "mode", "tap")
        _ip("-n", n, "address", "add", f"{HOST_V4}/24", "dev", TAP)
        # A duplicate address check would delay the first v6 connection by a second.
        _ip("-n", n, "-6", "address", "add", f"{HOST_V6}/64", "dev", TAP, "nodad")
        _ip("-n", n, "link", "set", TAP, "up")
        # A guest that is away for half a minute, as on a busy machine, is not looked for meanwhile: the
        # attempts to connect that find nobody would end.
        for family in ("ipv4", "ipv6"):
            self.run(["sysctl", "-q", "-w", f"net.{family}.neigh.{TAP}.base_reachable_time_ms=600000"])

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], check=False)

    def command(self, argv):
        """The argument vector that runs argv inside the namespace."""
        return ["ip", "netns", "exec", self.name, *argv]

    def popen(self, argv, **kwargs):
        return subprocess.Popen(self.command(argv), **kwargs)

    def run(self, argv, **kwargs):
        return subprocess.run(self.command(argv), check=True, **kwargs)

    def call(self, function, *args):
        """Call a Python function inside the namespace (in a thread of its own).

        A socket belongs to the namespace it was made in, so what the function returns works
        everywhere.
        """
        result = []

        def body():
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # Of this thread only, which ends here.
                if _libc.setns(fd, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {self.path}")
                result.append((function(*args), None))
            except BaseException as e:
                result.append((None, e))
            finally:
                os.close(fd)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        value, error = result[0]
        if error:
            raise error
        return value

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        return self.call(socket.socket, family, kind)

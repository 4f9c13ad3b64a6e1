"""Trivial services for tests of upgrades: loops that print a counter to the journal."""

import json

PROGRAM = "/usr/local/sbin/crk-test-counter"
SOURCE = b"""#!/usr/bin/python3
import sys, time
def clocks():
    # Both of one moment: the process may be frozen, and carried over, between two readings.
    while True:
        before, real, after = time.monotonic(), time.time(), time.monotonic()
        if after - before < 0.01:
            return before, real
n = 0
while True:
    print("count", n, "%.3f %.3f" % clocks(), flush=True)
    n += 1
    time.sleep(0.05)
"""
# A shell has children that come and go, and a pid file of its own.
SHELL = b"""#!/bin/sh
n=0
while :; do
    echo "count $n 0 0"
    n=$((n + 1))
    sleep 0.1
done
"""

# A process with threads, and a child that leads a session; with PrivatePIDs= all have two ids.
THREADS = b"""#!/usr/bin/python3
import ctypes, os, threading, time
# Ids inside that a fresh namespace would give to others.
for _ in range(50):
    if os.fork() == 0:
        os._exit(0)
    os.wait()
child = os.fork()
if child == 0:
    os.setsid()
    while True:
        time.sleep(1)
while os.getsid(child) != child:
    time.sleep(0.01)
gettid = ctypes.CDLL(None).gettid
def turn(n, turns):
    tid = gettid()
    while True:
        turns[n].acquire()
        assert gettid() == tid
        turns[(n + 1) % 3].release()
        time.sleep(0.02)
turns = [threading.Semaphore(int(i == 0)) for i in range(3)]
for i in (1, 2):
    threading.Thread(target=turn, args=(i, turns), daemon=True).start()
n = 0
while True:
    turns[0].acquire()
    assert os.getpid() == gettid() and os.getsid(child) == child
    print("count", n, "0 0", flush=True)
    n += 1
    turns[1].release()
    time.sleep(0.02)
"""

# All its processes are left to PID 1: two that have lost their sessions' leaders share a pipe.
ORPHANS = b"""#!/usr/bin/python3
import os, time
PID_FILE = "/run/crk-test-orphans.pid"
r, w = os.pipe()
def orphan(work):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            work()
        os._exit(0)
    os.wait()
def count():
    with open(PID_FILE, "w") as f:
        f.write(str(os.getpid()))
    for line in os.fdopen(r):
        print("count", line.strip(), "0 0", flush=True)
def feed():
    n = 0
    while True:
        os.write(w, b"%d\\n" % n)
        n += 1
        time.sleep(0.05)
orphan(count)
orphan(feed)
while not os.path.exists(PID_FILE) or not os.path.getsize(PID_FILE):
    time.sleep(0.01)
"""

# More memory than one thread copies, most of it such that only a tracer may write or read it.
LARGE = b"""#!/usr/bin/python3
import ctypes, mmap, time
libc = ctypes.CDLL(None)
areas = []
def protect(area, prot):
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    assert libc.mprotect(ctypes.c_void_p(address), len(area), prot) == 0
for prot in (1, 0):
    area = mmap.mmap(-1, 24 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(area), 4096):
        area[at:at + 8] = (at + prot).to_bytes(8, "little")
    protect(area, prot)
    areas.append((area, prot))
n = 0
while True:
    for area, prot in areas:
        protect(area, 1)
        wrong = [at for at in range(0, len(area), 4096)
                 if area[at:at + 8] != (at + prot).to_bytes(8, "little")]
        protect(area, prot)
        assert not wrong, wrong[:9]
    print("count", n, "0 0", flush=True)
    n += 1
    time.sleep(1)
"""

# Timers of every sort, all with one period; each tick says when it came.
TIMERS = b"""#!/usr/bin/python3
import os, select, signal, time
PERIOD = 7
begin = time.time()
ticks = {}
def tick(name, count):
    ticks[name] = ticks.get(name, 0) + count
    now = time.time()
    # Not print(): a signal's handler may come while that is at work.
    os.write(1, b"tick %s %d %.3f %.3f\\n" % (name.encode(), ticks[name], now - begin, now))
# At any time one of these has waited for a third of its time and more.
for n in range(2):
    if not os.fork():
        time.sleep(n * 15)
        while True:
            begin = time.monotonic()
            select.epoll().poll(30)
            os.write(1, b"waited %.3f %.3f\\n" % (time.monotonic() - begin, time.time()))
signal.signal(signal.SIGALRM, lambda *_: tick("itimer", 1))
signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)
poll = select.epoll()
names = {}
for name, clock in (("monotonic", time.CLOCK_MONOTONIC), ("boottime", time.CLOCK_BOOTTIME)):
    fd = os.timerfd_create(clock)
    os.timerfd_settime(fd, initial=PERIOD, interval=PERIOD)
    poll.register(fd, select.EPOLLIN)
    names[fd] = name
while True:
    for fd, _ in poll.poll():
        tick(names[fd], int.from_bytes(os.read(fd, 8), "little"))
"""
PERIOD = 7
WAIT = 30

UNIT = """[Unit]
Description=Counter of the upgrade tests
[Service]
ExecStart={program}
{settings}
[Install]
WantedBy=multi-user.target
"""


def install(vm, units):
    """units: {name: (program, settings)}; they are enabled and started."""
    vm.put(SOURCE, PROGRAM, 0o755)
    vm.put(SHELL, PROGRAM + "-sh", 0o755)
    vm.put(TIMERS, PROGRAM + "-timers", 0o755)
    vm.put(LARGE, PROGRAM + "-large", 0o755)
    vm.put(ORPHANS, PROGRAM + "-orphans", 0o755)
    vm.put(THREADS, PROGRAM + "-threads", 0o755)
    for name, (program, settings) in units.items():
        vm.put(UNIT.format(program=program, settings=settings).encode(),
               f"/etc/systemd/system/{name}.service")
    vm.run("systemctl daemon-reload && systemctl enable -q --now " + " ".join(units))


def ticks(vm, unit):
    """[(timer, how often it has expired, seconds since it was set, wall clock)], in order."""
    vm.run("journalctl --sync")
    lines = vm.run(f"journalctl -u {unit} -o cat").out.splitlines()
    words = [line.split() for line in lines if line.startswith("tick ")]
    return [(name, int(n), float(t), float(now)) for _, name, n, t, now in words]


def waits(vm, unit):
    """[(seconds that a wait of WAIT lasted, wall clock at its end)]."""
    vm.run("journalctl --sync")
    lines = vm.run(f"journalctl -u {unit} -o cat").out.splitlines()
    return [tuple(map(float, line.split()[1:])) for line in lines if line.startswith("waited ")]


class Lines:
    """What a unit wrote to the journal, over all boots."""

    def __init__(self, vm, unit):
        vm.run("journalctl --sync")
        out = vm.run(f"journalctl -u {unit} -o json --output-fields=MESSAGE,_PID,_BOOT_ID,"
                     "_TRANSPORT,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER").out
        entries = [json.loads(line) for line in out.splitlines()]
        self.entries = [e for e in entries if e.get("_TRANSPORT") == "stdout"
                        and e.get("MESSAGE", "").startswith("count ")]
        words = [e["MESSAGE"].split() for e in self.entries]
        self.numbers = [int(w[1]) for w in words]
        self.monotonic = [float(w[2]) for w in words]
        self.realtime = [float(w[3]) for w in words]
        self.boots = [e["_BOOT_ID"] for e in self.entries]
        self.pids = [int(e["_PID"]) for e in self.entries]
        self.units = {e["_SYSTEMD_UNIT"] for e in self.entries}
        self.identifiers = {e["SYSLOG_IDENTIFIER"] for e in self.entries}

    def missing_or_doubled(self):
        """None, or the first place where the count is not one more than before."""
        for i, n in enumerate(self.numbers):
            if n != i:
                return f"line {i} says {n}: {self.numbers[max(0, i - 3):i + 4]}"
        return None

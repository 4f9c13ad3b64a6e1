"""Runs in the guest: starts crkexec and kills it in a phase. Prints what happened as JSON.

    python3 - PHASE DELAY_MS WHO SIGNAL COMMAND...

WHO is front, worker or all (every crkexec process, the guard included). The phase is read from
the file that crkexec keeps in /run/crkexec/ID/phase. Nothing is written to a disk: its file
systems may be frozen.
"""

import glob
import json
import os
import signal
import subprocess
import sys
import time

PHASES = ["plan", "check", "prepare", "store", "load", "quiesce", "pre-dump", "gate", "freeze", "dump",
          "commit", "jump"]


def phase():
    for path in glob.glob("/run/crkexec/????????????????/phase"):
        try:
            with open(path, encoding="ascii") as f:
                return f.read().strip()
        except OSError:
            pass
    return ""


def processes():
    """{pid: name} of all processes that run crkexec's program."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/exe"):
        try:
            if os.path.basename(os.readlink(path)).startswith("crkexec"):
                pid = int(path.split("/")[2])
                with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                    found[pid] = f.read().strip()
        except OSError:
            pass
    return found


def parent(pid):
    """None: it has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return int(f.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


def victims(who, front):
    found = processes()
    if who == "front":
        return [front]
    if who == "worker":
        # Dump processes carry the name as well; the worker is the front's own child.
        return [pid for pid, name in found.items() if name == "crkexec-worker" and parent(pid) == front]
    return sorted(found)


def wait_phase(popen, wanted):
    """Returns the phase seen: the wanted one, or a later one; None when crkexec has ended."""
    while popen.poll() is None:
        seen = phase()
        if seen in PHASES and PHASES.index(seen) >= PHASES.index(wanted):
            return seen
        time.sleep(0.0005)
    return None


def wait_quiet(limit):
    """Until no crkexec process is left, the guard's included; seconds, or None."""
    begin = time.monotonic()
    while time.monotonic() - begin < limit:
        if not processes():
            return round(time.monotonic() - begin, 2)
        time.sleep(0.05)
    return None


def main():
    wanted, delay, who, number = sys.argv[1:5]
    out = open("/run/crk-test-output", "w+b")
    popen = subprocess.Popen(sys.argv[5:], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    seen = wait_phase(popen, wanted)
    time.sleep(int(delay) / 1000)
    at_kill = phase()
    killed = []
    for pid in victims(who, popen.pid) if popen.poll() is None else []:
        try:
            os.kill(pid, getattr(signal, number))
            killed.append(pid)
        except ProcessLookupError:
            pass
    try:
        status = popen.wait(90)
    except subprocess.TimeoutExpired:
        status = None
    quiet = wait_quiet(90)
    out.seek(0)
    print(json.dumps({"seen": seen, "phase": at_kill, "killed": killed, "status": status,
                      "quiet_after": quiet, "left": processes(),
                      "output": out.read().decode("utf-8", "replace")}))
    os.unlink("/run/crk-test-output")


main()

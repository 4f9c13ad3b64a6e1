"""Runs in the guest (python3 - UNIT…): what an upgrade must leave as it was, as JSON."""

import glob
import json
import os
import socket
import subprocess
import sys
import time

PROPERTIES = ["Id", "ActiveState", "SubState", "MainPID", "ControlGroup", "NRestarts", "Result",
              "Type", "NotifyAccess", "DropInPaths", "NeedDaemonReload", "FragmentPath"]
# Stays as long as the restored use directories that bear the old boot's id.


def output(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    return done.stdout


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def process(pid):
    """None: it has ended meanwhile, as a shell's children do."""
    stat = read(f"/proc/{pid}/stat")
    if not stat:
        return None
    status = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status").splitlines()
                  if ":\t" in line)
    name, rest = stat[stat.find("(") + 1:stat.rfind(")")], stat[stat.rfind(")") + 2:].split()
    return {"comm": name, "state": rest[0], "ppid": int(rest[1]), "pgid": int(rest[2]),
            "sid": int(rest[3]), "uid": status.get("Uid", "").split(),
            "ids": {key: status.get(key, "").split() for key in ("NSpid", "NSpgid", "NSsid")},
            "threads": int(status.get("Threads", "0")), "seccomp": status.get("Seccomp"),
            "caps": status.get("CapEff"),
            "cmdline": read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()}


def unit(name):
    shown = output("systemctl", "show", name, *(f"-p{p}" for p in PROPERTIES))
    state = dict(line.split("=", 1) for line in shown.splitlines())
    group = "/sys/fs/cgroup" + state["ControlGroup"] if state["ControlGroup"] else ""
    pids = sorted(int(p) for path in glob.glob(group + "/**/cgroup.procs", recursive=True)
                  for p in read(path).split()) if group else []
    state["processes"] = {str(pid): p for pid in pids if (p := process(pid))}
    state["frozen"] = "frozen 1" in read(group + "/cgroup.events") if group else False
    state["memory"] = int(read(group + "/memory.current") or 0) if group else 0
    return state


def redis_run_id():
    """Redis draws it at start, so an equal one is the same process' memory."""
    try:
        with socket.create_connection(("127.0.0.1", 6379), 20) as s:
            s.sendall(b"INFO server\r\n")
            text = s.makefile("rb")
            text.readline()
            for line in text:
                if line.startswith(b"run_id:"):
                    return line.split(b":")[1].strip().decode()
    except OSError as e:
        return f"no answer: {e}"
    return "?"


def lasting_zombies():
    """Those that nobody reaps; every process is one for a moment at its end."""
    found = set(zombies())
    for _ in range(30):
        if not found:
            break
        time.sleep(0.2)
        found &= set(zombies())
    return sorted(found)


def zombies():
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        text = read(path)
        if text and text[text.rfind(")") + 2] == "Z":
            found.append(text[:text.rfind(")") + 1])
    return found


def mounts():
    """Of PID 1: path, file system; what systemd mounts on demand is not compared."""
    found = []
    for line in read("/proc/1/mountinfo").splitlines():
        left, right = line.split(" - ", 1)
        path, kind = left.split()[4], right.split()[0]
        if kind != "autofs" and not path.startswith(("/run/credentials/", "/run/user/")):
            found.append(f"{path} {kind}")
    return sorted(found)


def xdp():
    links = json.loads(output("ip", "-j", "-d", "link"))
    return [link["ifname"] for link in links if "xdp" in link]


def frozen_groups():
    return [path for path in glob.glob("/sys/fs/cgroup/**/cgroup.events", recursive=True)
            if "frozen 1" in read(path)]


def listening():
    found = set()
    for table in ("tcp", "tcp6"):
        for line in read(f"/proc/net/{table}").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                found.add(f"{table}:{int(words[1].rsplit(':')[-1], 16)}")
    return sorted(found)


def files_in_run():
    patterns = ["/run/crkexec*", "/run/*/*crkexec*", "/run/systemd/*/*crkexec*",
                "/run/systemd/*/*/*crkexec*", "/tmp/*crk*", "/var/tmp/*crk*", "/dev/shm/*crk*"]
    # The harness' own agent is crk-agent, and our tests' files are crk-test*.
    return sorted({path for pattern in patterns for path in glob.glob(pattern)
                   if "crk-agent" not in path and "crk-payload" not in path
                   and "crk-test" not in path})


def tmpfiles(units):
    """Settings of ours, and private directories of the units that systemd-tmpfiles would age
    because another boot's id is in their names."""
    boot = read("/proc/sys/kernel/random/boot_id").strip().replace("-", "")
    return [path for path in glob.glob("/run/tmpfiles.d/*") if "crkexec" in read(path)] + \
        [path for top in ("/tmp", "/var/tmp") for unit in units
         for path in glob.glob(f"{top}/systemd-private-*-{unit}.service-*")
         if f"-{boot}-" not in path]


def meminfo():
    lines = dict(line.split(":", 1) for line in read("/proc/meminfo").splitlines())
    return {key: int(lines[key].split()[0]) for key in
            ("MemTotal", "MemAvailable", "HugePages_Total", "HugePages_Free")}


def services():
    names = []
    for line in output("systemctl", "list-units", "--type=service", "--state=running", "--plain",
                       "--no-legend", "--no-pager").splitlines():
        names.append(line.split()[0])
    return sorted(names)


def status():
    try:
        done = subprocess.run(["crkexec", "status", "--json"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
    except FileNotFoundError:
        return {"exit": 127, "report": None, "text": "crkexec is not installed"}
    try:
        return {"exit": done.returncode, "report": json.loads(done.stdout)}
    except ValueError:
        return {"exit": done.returncode, "report": None, "text": done.stdout + done.stderr}


def main():
    state = {
        "kernel": os.uname().release,
        "boot_id": read("/proc/sys/kernel/random/boot_id").strip(),
        "system": output("systemctl", "is-system-running").strip(),
        "failed": output("systemctl", "--failed", "--plain", "--no-legend").split(),
        "units": {name: unit(name) for name in sys.argv[1:]},
        "services": services(),
        "crkexec_units": [line.split()[0] for line in output(
            "systemctl", "list-units", "crkexec*", "--plain",
            "--no-legend").splitlines() if line.split()],
        "zombies": lasting_zombies(),
        "mounts": mounts(),
        "nft": output("nft", "list", "ruleset").strip(),
        "xdp": xdp(),
        "frozen": frozen_groups(),
        "listening": listening(),
        "run": files_in_run(),
        "tmpfiles": tmpfiles(sys.argv[1:]),
        "kexec_loaded": read("/sys/kernel/kexec_loaded").strip(),
        "crkexec_processes": output("pgrep", "-a", "crkexec").strip(),
        "memory": meminfo(),
        "addresses": sorted(f"{link['ifname']} {a['local']}/{a['prefixlen']}"
                            for link in json.loads(output("ip", "-j", "address"))
                            for a in link["addr_info"]),
        "routes": sorted(line.strip() for line in (output("ip", "route")
                                                   + output("ip", "-6", "route")).splitlines()),
        "status": status(),
    }
    if "redis-server" in sys.argv[1:]:
        state["redis_run_id"] = redis_run_id()
    print(json.dumps(state))


main()

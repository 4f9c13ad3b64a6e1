"""The engine on this machine: dump and restore of some workloads, ours and another's.

The times of the dump are the engine's own (stats-dump, stats-restore: the same format for
both), the others are those of the whole commands.
"""

import ctypes
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import median, seconds, table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from procs import reap_children     # noqa: E402  (the path comes first)

BUILD = ROOT / "build"
MAKERS = BUILD / "bench"
WORKLOADS = [
    ("one small process", "memory", "1"),
    ("1 GiB of touched memory", "memory", "1024"),
    ("1,000 processes", "processes", "1000"),
    ("10,000 processes", "processes", "10000"),
    ("200 threads", "threads", "200"),
    ("1,000 mixed descriptors", "files", "1000"),
]
COMMAND_LIMIT = 300

# A killed tree's processes fall to us instead of init, which may take seconds to reap a thousand
# of them, and the restore would wait for their pids.
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


class BenchError(Exception):
    pass


def build_makers():
    MAKERS.mkdir(parents=True, exist_ok=True)
    for source in sorted((ROOT / "tests/bench/make").glob("*.c")):
        static = ["-static"] if source.stem == "floor" else []
        subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-O2", *static,
                        "-o", MAKERS / source.stem, source, "-lpthread"], check=True)


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return value, at


def message(data):
    """{field: number or bytes} of a protobuf message without repeated fields."""
    fields, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            fields[key >> 3], at = varint(data, at)
        else:       # length-delimited; the statistics have nothing else
            size, at = varint(data, at)
            fields[key >> 3], at = data[at:at + size], at + size
    return fields


def statistics_of(images, name, field):
    """The message in a stats image: two magic numbers, a size, StatsEntry."""
    try:
        data = (images / name).read_bytes()
    except FileNotFoundError:
        return {}
    size, = struct.unpack_from("<I", data, 8)
    return message(message(data[12:12 + size]).get(field, b""))


def usec(stats, field):
    return stats[field] / 1e6 if field in stats else None


class Workload:
    """One life of a maker."""

    def __init__(self, program, argument, where):
        self.dir = Path(where)
        self.images = self.dir / "images"
        self.images.mkdir()
        self.output = self.dir / "output"
        with open(self.output, "wb") as out:
            self.popen = subprocess.Popen([MAKERS / program, argument], cwd=self.dir, stdout=out,
                                          stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                                          start_new_session=True)
        self.pid = self.popen.pid
        self.wait_for("ready", 120)

    def text(self):
        return self.output.read_text(errors="replace")

    def wait_for(self, word, limit):
        deadline = time.monotonic() + limit
        while word not in self.text():
            if time.monotonic() > deadline or (self.popen and self.popen.poll() is not None):
                raise BenchError(f"the workload does not say \"{word}\": {self.text()[-500:]}")
            time.sleep(0.02)

    def command(self, engine, verb, *options):
        """Seconds that the engine's command took."""
        argv = [str(engine), verb, "-D", str(self.images), "-o", f"{verb}.log", "-v1", *options]
        begin = time.monotonic()
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=self.dir,
                                  stdin=subprocess.DEVNULL, timeout=COMMAND_LIMIT)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{verb}: not done after {COMMAND_LIMIT} s") from None
        took = time.monotonic() - begin
        if done.returncode:
            log = self.images / f"{verb}.log"
            tail = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else []
            raise BenchError(f"{verb}: exit {done.returncode}: "
                             + " | ".join([done.stderr.strip()[-200:], *tail]))
        return took

    def run(self, engine):
        row = {"dump": self.command(engine, "dump", "-t", str(self.pid))}
        self.popen.wait(60)
        self.popen = None
        reap_children()
        stats = statistics_of(self.images, "stats-dump", 1)
        row["freezing"], row["frozen"] = usec(stats, 1), usec(stats, 2)
        row["memory"] = usec(stats, 3)
        row["bytes"] = sum(f.stat().st_size for f in self.images.rglob("*"))
        row["restore"] = self.command(engine, "restore", "-d")
        os.kill(self.pid, signal.SIGUSR1)
        self.wait_for("ok", 120)
        return row

    def end(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if self.popen:
            self.popen.wait(60)
            return
        # Restored ones are nobody's children here: wait until they are gone.
        deadline = time.monotonic() + 60
        while os.path.exists(f"/proc/{self.pid}") and time.monotonic() < deadline:
            time.sleep(0.02)
            reap_children()


def one_run(engine, program, argument):
    # In memory, so that figures are the engine's and not the disk's.
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    where = tempfile.mkdtemp(prefix="crk-bench-", dir=base)
    workload = None
    try:
        workload = Workload(program, argument, where)
        return workload.run(engine)
    finally:
        if workload:
            workload.end()
        shutil.rmtree(where, ignore_errors=True)


def measure(engines, program, argument, runs):
    """{engine's name: medians of all figures, or the text of what went wrong}."""
    rows = {name: [] for name, _ in engines}
    wrong = {}
    # In turns: what else the machine does meanwhile is the same for both.
    for _ in range(runs):
        for name, path in engines:
            if name in wrong:
                continue
            try:
                rows[name].append(one_run(path, program, argument))
            except BenchError as e:
                wrong[name] = str(e)
    return {name: wrong.get(name) or {key: median([r[key] for r in rows[name]])
                                      for key in rows[name][0]} for name, _ in engines}


def row_of(name, figures):
    if isinstance(figures, str):
        return [name] + ["-"] * 6
    return [name, *(seconds(figures[k]) for k in ("dump", "freezing", "frozen", "memory",
                                                  "restore")),
            f"{figures['bytes'] / (1 << 20):.1f} MiB"]


def ratio(ours, theirs, key):
    if isinstance(ours, str) or isinstance(theirs, str) or not ours[key] or not theirs[key]:
        return "-"
    return f"{theirs[key] / ours[key]:.2f}"


def main(runs, other):
    build_makers()
    engines = [("cr", BUILD / "cr")] + ([(Path(other).name, other)] if other else [])
    results = {}
    print(f"\nengine, images in memory, median of {runs}\n", flush=True)
    rows, notes = [], []
    for title, program, argument in WORKLOADS:
        print(f"  {title} ...", file=sys.stderr, flush=True)
        for name, figures in measure(engines, program, argument, runs).items():
            results[title, name] = figures
            rows.append(row_of(f"{title}, {name}", figures))
            if isinstance(figures, str):
                notes.append(f"  {title}, {name}: {figures}")
    print(table(["workload", "dump", "freezing", "frozen", "of it memory", "restore", "images"],
                rows))
    if notes:
        print("\n".join(["", *notes]))
    if other:
        name = engines[1][0]
        keys = ("dump", "freezing", "frozen", "restore")
        print(f"\n{name}'s time divided by ours (more than 1: we are faster)\n")
        print(table(["workload", *keys],
                    [[title, *(ratio(results[title, "cr"], results[title, name], k) for k in keys)]
                     for title, _, _ in WORKLOADS]))

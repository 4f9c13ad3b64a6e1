"""The engines under one roof: cr and criu take the same verbs and options.

"criu" is the one of Debian 13, "testing" that of Debian testing (scripts/criu-testing)."""

import os
import re
import subprocess
from pathlib import Path

from procs import LIMIT_AT_LEAST

TESTING = Path(__file__).resolve().parent / "testing"
BINARIES = {"cr": os.environ.get("CR", "cr"), "criu": os.environ.get("CRIU", "criu"),
            "testing": TESTING / "criu"}


class EngineFailure(Exception):
    def __init__(self, engine, verb, done, log):
        self.engine, self.verb, self.log = engine, verb, log
        self.line = error_line(log) or done.stderr.strip() or f"exit status {done.returncode}"
        super().__init__(f"{engine} {verb}: {self.line}")


# What criu's probes of the kernel call errors and goes on without.
PROBES = re.compile(r"Unable to create tun|Can't check tun|RLIMIT_NOFILE for self|"
                    r"Could not process rule|ip6?tables-legacy|ddress already assigned")


def error_line(log):
    """The first error of a log: what follows it is its consequence."""
    for line in log.splitlines():
        found = re.search(r"\bError\b:? .*", line)
        if found and not PROBES.search(line):
            return found[0]
    return None


def run(engine, verb, images, *options, timeout=2 * LIMIT_AT_LEAST):
    log = images / f"{verb}-{engine}.log"
    argv = [BINARIES[engine], verb, "-D", images, "-v4", "-o", log.name, *options]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=timeout, check=False)
    text = log.read_text(errors="replace") if log.exists() else ""
    if done.returncode:
        raise EngineFailure(engine, verb, done, text)

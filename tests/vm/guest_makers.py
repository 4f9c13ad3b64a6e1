#!/usr/bin/python3
"""guest_makers.py RESULTS NAME...: runs in the guest. Each maker's state through a dump that leaves it
running, then through dump, end and restore, as tests/live/test_makers.py does it where that runs.

RESULTS gets a file NAME.json for each: outcome ("ok", "lacks", "failed") and why."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import types
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, "/usr/lib/crkexec-live/tests/live")


class Lacks(Exception):
    """The kernel, that is; what a test would skip for."""


def skip(reason):
    raise Lacks(reason)


# Of the thousands in live tests; each costs a guest without KVM a tenth of a second.
os.environ["MAKER_WORKERS"] = "8"
# Not in the guest; nothing else of it is used by what a maker does.
sys.modules["pytest"] = types.SimpleNamespace(skip=skip)

from live import HugePages, Maker, maker_options      # noqa: E402  (the path comes first)


def through(name, *steps):
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/var/tmp"))
    directory.chmod(0o755)
    maker = Maker(name, directory)
    with HugePages(sum(map(int, maker_options(name, "huge-pages")))):
        try:
            maker.start()
            for step in steps:
                step(maker)
            maker.verify()
        finally:
            maker.end()
    shutil.rmtree(directory, ignore_errors=True)


def one(name):
    try:
        through(name, lambda m: m.dump("--leave-running"))
        through(name, Maker.dump, Maker.reap, Maker.restore)
    except Lacks as e:
        return {"outcome": "lacks", "why": str(e)}
    except Exception as e:      # whatever it is: it is this maker's result
        return {"outcome": "failed", "why": str(e), "log": traceback.format_exc()}
    return {"outcome": "ok"}


# They compare all mounts, and systemd's covered automount point does not come back.
COMPARE_MOUNTS = ("ns_sandbox", "ns_tree")


def main():
    results = Path(sys.argv[1])
    results.mkdir(parents=True, exist_ok=True)
    for name in sorted(sys.argv[2:], key=lambda n: n in COMPARE_MOUNTS):
        if name in COMPARE_MOUNTS:
            subprocess.run(["systemctl", "stop", "proc-sys-fs-binfmt_misc.automount",
                            "proc-sys-fs-binfmt_misc.mount"], check=True)
        part = results / f".{name}"
        part.write_text(json.dumps(one(name)))
        part.rename(results / f"{name}.json")


main()

"""Trees dumped by one engine and restored by the other: ours and CRIU, of Debian 13 and of testing.

One VM for all: a runner in the guest (interop/run.py) works through the programs while the
tests, one for each program and direction, wait for their results. What CRIU itself cannot do is
in interop/limits.py: such a test passes when CRIU fails at that step in those words, and fails when
it ends in any other way, also when it begins to work. Guest and kernel are ours, so nothing is
skipped but, with apt's reason, testing's rows where no mirror has that suite.
"""

import json
import re
import shutil

import pytest

import vm_image
from interop import table
from interop.limits import WAYS, limit_of
from interop.programs import HUGE_PAGES, MAKERS, PROGRAMS as OTHERS
from vm import LOGS, VM

GUEST = "/usr/lib/crkexec-interop"
PROGRAMS = [*OTHERS, *MAKERS]
CASES = [(name, way) for ways in WAYS.values() for name in PROGRAMS for way in ways]
SECONDS = 800       # for a test that waits, less than the group's limit
ROOT = vm_image.ROOT


def maker_options(name):
    source = (ROOT / "tests/live/make" / f"{name}.c").read_text()
    found = re.search(r"cr-options:\s*(.*)", source)
    return found[1].replace("*/", "").split() if found else []


def make_payload(dest, testing):
    """The makers, the runner and testing's criu, beside what "make install" installs."""
    target = dest / GUEST.lstrip("/")
    shutil.copytree(ROOT / "tests/vm/interop", target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/procs.py", target)
    if testing.directory:
        shutil.copytree(testing.directory, target / "testing")
    (target / "make").mkdir()
    for name in MAKERS:
        shutil.copy(ROOT / "build/make" / name, target / "make")
    options = {name: maker_options(name) for name in MAKERS}
    (target / "options.json").write_text(json.dumps(options))


class Guest:
    """The VM with its runner, and the results it has so far."""

    def __init__(self, vm, testing):
        self.vm = vm
        self.testing = testing
        self.results = {}
        vm.wait_idle()
        # Debian's Node.js waits by io_uring where it may, which neither engine can save.
        vm.run(f"sysctl -q kernel.io_uring_disabled=2 vm.nr_hugepages={HUGE_PAGES}")
        vm.run("systemd-run -q --unit=interop -E CRK_TIMEOUT_SCALE=4 "
               f"/usr/bin/python3 {GUEST}/run.py all {GUEST}/make {GUEST}/options.json "
               f"/run/interop 2 {' '.join(PROGRAMS)}")

    def result(self, name, way):
        if way in WAYS["testing"] and not self.testing.directory:
            pytest.skip(self.testing.reason)
        name = f"{name}.{way}"
        if name not in self.results:
            path = f"/run/interop/{name}.json"
            self.vm.run(f"until [ -e {path} ]; do systemctl -q is-active interop || "
                        f"[ -e {path} ] || exit 1; sleep 0.5; done", timeout=SECONDS)
            self.results[name] = json.loads(self.vm.fetch(path))
        return self.results[name]


@pytest.fixture(scope="module")
def guest(tmp_path_factory, payload):
    dest = tmp_path_factory.mktemp("interop") / "payload"
    shutil.copytree(payload, dest, symlinks=True)
    testing = vm_image.criu_testing()
    make_payload(dest, testing)
    with VM("test_interop/shared", image=vm_image.build("interop"), destdir=dest,
            memory="3G") as vm:
        guest = Guest(vm, testing)
        yield guest
        vm.run("cd /var/tmp/interop && find . -type f -size -256k ! -name 'pages-*' -print0 |"
               " tar -cz --null -T - >/run/failed.tar.gz", check=False, timeout=120)
        (vm.log_dir / "failed.tar.gz").write_bytes(vm.fetch("/run/failed.tar.gz"))


def judge(name, way, result):
    limit = limit_of(name, way)
    outcome, why = result["outcome"].replace("testing", "criu"), result.get("why", "")
    if limit is None:
        assert outcome == "ok", f"{why}\n{result.get('log', '')}"
        return
    assert outcome != "ok", f"works, but is known not to: {limit.why}"
    assert outcome == limit.step, f"{outcome} fails, not {limit.step}: {why}"
    assert re.search(limit.pattern, why), f"{outcome} says: {why}\nnot: {limit.pattern}"


@pytest.mark.parametrize("name, way", CASES)
def test_program_dumped_by_one_engine_is_restored_by_the_other(guest, name, way):
    judge(name, way, guest.result(name, way))


@pytest.mark.parametrize("name", PROGRAMS)
def test_crit_decodes_every_image(guest, name):
    result = guest.result(name, "cr-criu")
    # CRIU's limits come later than our dump.
    assert "undecoded" in result, f"not dumped: {result['outcome']}: {result.get('why')}"
    assert result["undecoded"] == ""


def test_the_table_of_the_documentation_is_what_was_measured(guest):
    """What could not be measured, for want of testing's criu, is what was recorded."""
    def works(name, way):
        if way in WAYS["testing"] and not guest.testing.directory:
            return table.recorded(name, way)
        return guest.result(name, way)["outcome"] == "ok"

    lines = table.lines({name: [works(name, way) for way in table.ALL_WAYS] for name in PROGRAMS})
    text = "\n".join(lines) + "\n"
    print(text)
    (LOGS / "test_interop" / "table.md").write_text(text)
    docs = (ROOT / "docs/criu-compat.md").read_text()
    assert text in docs, "docs/criu-compat.md differs from build/vm-logs/test_interop/table.md"

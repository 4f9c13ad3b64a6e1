"""cpuinfo.img: written and compared when asked for, by the verb, by --cpu-cap and by RPC."""
import errno
import json
import subprocess

import pytest

from live import CR, Maker, check, cr
from rpc import CPUINFO_CHECK, CPUINFO_DUMP, DUMP, places, swrk, varint

OTHER_CPU = 161
# Bits that no processor has both of: AMD's of old, Intel's of old.
RARE = {"fma4": (6, 16), "mpx": (9, 14)}


def run(*argv):
    return subprocess.run([CR, *argv], capture_output=True, text=True, check=False)


def processor(directory):
    shown = run("show", "--json", directory / "cpuinfo.img")
    return json.loads(shown.stdout)["entries"][0]["x86_entry"][0]


def put(directory, cpu):
    """The image again, of another processor."""
    def field(number, value):
        return varint(number << 3) + varint(value)
    words = b"".join(field(6, w) for w in cpu["capability"])
    entry = b"".join((field(1, {"UNKNOWN": 0, "INTEL": 1, "AMD": 2}[cpu["vendor_id"]]), field(2, cpu["cpu_family"]),
                      field(3, cpu["model"]), field(4, cpu["stepping"]), field(5, cpu["capability_ver"]), words))
    entry = varint(1 << 3 | 2) + varint(len(entry)) + entry
    image = directory / "cpuinfo.img"
    image.write_bytes(image.read_bytes()[:8] + len(entry).to_bytes(4, "little") + entry)


def with_rare(directory):
    """Of a processor that has what this one lacks; its name."""
    cpu = processor(directory)
    name = next(n for n, (word, bit) in RARE.items() if not cpu["capability"][word] >> bit & 1)
    word, bit = RARE[name]
    cpu["capability"][word] |= 1 << bit
    put(directory, cpu)
    return name


def test_a_processor_is_written_and_compared(tmp_path):
    assert run("cpuinfo", "dump", "-D", tmp_path).returncode == 0
    flags = next(line for line in open("/proc/cpuinfo", encoding="ascii") if line.startswith("cpu family"))
    assert processor(tmp_path)["cpu_family"] == int(flags.split()[-1])
    for caps in ("ins,fpu", "all", "none", "all,^cpu", "^fpu"):
        assert run("cpuinfo", "check", "-D", tmp_path, f"--cpu-cap={caps}").returncode == 0


def test_one_that_can_do_more_is_named_by_what_is_missing(tmp_path):
    assert run("cpuinfo", "dump", "-D", tmp_path).returncode == 0
    name = with_rare(tmp_path)
    done = run("cpuinfo", "check", "-D", tmp_path, "-o", "log")
    assert done.returncode == OTHER_CPU
    assert f"lacks instructions that the images' one had: {name}" in done.stderr
    assert run("cpuinfo", "check", "-D", tmp_path, "--cpu-cap=fpu").returncode == 0


@pytest.mark.parametrize("argv, words", [
    (["cpuinfo"], "needs dump or check"), (["cpuinfo", "both"], "needs dump or check"),
    (["cpuinfo", "check", "dump"], "unexpected argument"),
    (["cpuinfo", "check", "--cpu-cap=ins,sse"], "sse"), (["cpuinfo", "check"], "cpuinfo.img"),
])
def test_what_is_wrong_is_named(argv, words, tmp_path):
    done = run(*argv, "-D", tmp_path)
    assert done.returncode == 1 and words in done.stderr


def test_images_of_another_processor_are_not_restored_if_asked(tmp_path):
    m = Maker("eventfds", tmp_path)
    try:
        m.start()
        m.dump("--cpu-cap")
        m.reap()
        name = with_rare(m.images)
        done = cr("restore", m.images, "-d", "--cpu-cap=ins")
        assert done.returncode == 1 and f"had: {name}" in done.stderr
        assert not m.alive()
        m.restore()     # nobody asked
        m.verify()
    finally:
        m.end()


def test_a_dump_that_is_not_asked_writes_no_processor(tmp_path):
    m = Maker("eventfds", tmp_path)
    try:
        m.start()
        m.dump("-R")
        assert not (m.images / "cpuinfo.img").exists()
        done = cr("restore", m.images, "-d", "--cpu-cap")
        assert done.returncode == 1 and "cpuinfo.img" in done.stderr
        m.dump("-R", "--cpu-cap=none")
        check(run("cpuinfo", "check", "-D", m.images), "cpuinfo check")
    finally:
        m.end()


def test_requests_do_the_same(tmp_path):
    client = swrk()
    assert client.ask(CPUINFO_DUMP, places(tmp_path), keep_open=True)["success"]
    assert client.ask(CPUINFO_CHECK, places(tmp_path, cpu_cap=0xffffffff), keep_open=True)["success"]
    name = with_rare(tmp_path)
    answer = client.ask(CPUINFO_CHECK, places(tmp_path))
    assert answer["type"] == CPUINFO_CHECK and not answer["success"]
    assert answer["cr_errno"] == errno.ENOTSUP and name in answer["cr_errmsg"]
    client.wait()


def test_a_request_for_a_dump_has_its_processor_written(tmp_path):
    m = Maker("eventfds", tmp_path)
    try:
        m.start()
        client = swrk()
        assert client.ask(DUMP, places(m.images, pid=m.pid, leave_running=True, cpu_cap=5))["success"]
        assert processor(m.images)["capability_ver"] == 2
        client.wait()
    finally:
        m.end()

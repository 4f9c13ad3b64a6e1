"""Every maker's state once more, in a tree that has a PID namespace and a /proc of its own.

The maker is the namespace's first process, as in a container or under unshare --pid --fork.
"""
import re
import subprocess
from pathlib import Path

import pytest

from live import BUILD, OWNED, Failure, HugePages, Maker, maker_options, wait_for
from test_makers import NAMES


# Of no use in there, and why.
NOT = {
    "files_regular": "O_PATH files of a mount namespace come back with O_NOFOLLOW",
    "ns_cgroupns": "looks at its parent",
    "ns_net": "looks at its parent",
    "ns_sandbox": "looks at a process 1 that is another",
    "tcp_handshake": "its orphan, who is to stay outside, falls to process 1",
}


class FirstProcess(Maker):
    def start(self):
        with open(self.output, "wb") as out:
            self.popen = subprocess.Popen(
                ["sh", "-c", 'MAKER_NUMBER=$$ exec "$@"', "sh", "unshare", "--pid", "--fork",
                 "--mount-proc", "--propagation", "slave", BUILD / "make" / self.name, self.result],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=self.dir)
        OWNED.add(self.popen.pid)
        wait_for(lambda: "ready" in self.read() or self.popen.poll() is not None, 20,
                 f"{self.name} does not get ready")
        if self.popen.poll() is not None:
            text = self.read() + self.output.read_text(errors="replace")
            if self.popen.returncode == 77:
                pytest.skip(text.strip())
            raise Failure(f"{self.name} ended before it was ready: {text}")
        wrapper = self.popen.pid
        self.pid = int(Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text())


@pytest.fixture
def maker(request, tmp_path):
    m = FirstProcess(request.param, tmp_path)
    with HugePages(sum(map(int, maker_options(request.param, "huge-pages")))):
        yield m
        m.end()


@pytest.mark.parametrize("maker", [n for n in NAMES if n not in NOT and not n.startswith("ns_pid")], indirect=True)
def test_state_in_a_pid_namespace_survives_dump_and_restore(maker):
    maker.start()
    maker.dump()
    maker.reap()
    maker.restore()
    ids = re.search(r"^NSpid:(.*)", (Path("/proc") / str(maker.pid) / "status").read_text(errors="replace"), re.M)
    assert ids[1].split() == [str(maker.pid), "1"]
    maker.verify()

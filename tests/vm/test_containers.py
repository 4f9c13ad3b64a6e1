"""Containers that Debian 13's runc, crun (by libcriu) and podman checkpoint and restore by cr.

In each a shell counts the lines it is sent, so that what it says tells whether it goes on where
it was. Runtimes look for "criu" in PATH, where ours is the first of that name.
"""

import pytest

import vm_image
from vm import CommandError, VM

KERNELS = ("6.12", "7.2")
PATHS = {"cr": "/c/bin:/usr/sbin:/usr/bin", "criu": "/usr/sbin:/usr/bin"}
HELPER = "/usr/local/sbin/container"


class Container:
    """By the command line that runc and crun have in common."""
    runtime = None

    def __init__(self, vm):
        self.vm = vm
        self.count = 0              # of lines it was sent
        self.dir = "/c/images"      # and logs
        self.before = []            # options that name what was saved before

    def run(self, command, engine="cr", **kwargs):
        return self.vm.run(command, env={"PATH": PATHS[engine]}, timeout=120, **kwargs)

    def run_logged(self, command, engine):
        """An engine's log says more than the runtime."""
        self.run(f"{command} || {{ tail -n 20 $(find {self.dir} -name '*.log') >&2; exit 1; }}",
                 engine)

    def ask(self):
        self.count += 1
        self.run(f"{HELPER} ask {self.count}")

    def start(self):
        self.run(f"rm -rf {self.dir} && mkdir {self.dir} && {self.runtime} run -d "
                 "--bundle /c/bundle box </dev/null >/dev/null 2>&1")

    def save(self, name, *options, engine="cr"):
        images = f"{self.dir}/{name}"
        self.run_logged(f"mkdir {images} && {self.runtime} checkpoint --image-path={images} "
                        f"--work-path={images} {' '.join(options)} box", engine)

    def save_while_it_runs(self):
        self.save("running", "--leave-running")
        self.ask()
        self.save("pre", "--pre-dump")
        self.before = ["--parent-path=../pre"]

    def checkpoint(self, engine="cr"):
        self.save("last", *self.before, engine=engine)

    def restore(self, engine="cr"):
        images = f"{self.dir}/last"
        self.run_logged(f"{self.runtime} restore -d --image-path={images} --work-path={images} "
                        "--bundle=/c/bundle box </dev/null >/dev/null", engine)

    def runs(self):
        return self.run(f"{self.runtime} state box", check=False).rc == 0

    def mounts(self):
        """Root and mount point of each, as seen by a process that is started inside."""
        table = self.run(f"{self.runtime} exec box cat /proc/self/mountinfo").out
        return [tuple(line.split()[3:5]) for line in table.splitlines()]

    def check_output(self):
        """Nobody keeps what it prints."""

    def remove(self):
        self.run(f"{self.runtime} delete --force box", check=False)


class Runc(Container):
    runtime = "runc"


class Crun(Container):
    runtime = "crun"


class Podman(Container):
    """Images and logs are in a directory of its own. By crun."""
    runtime = "podman"
    options = ("", "")              # podman's own, and those of its run

    def start(self):
        self.run("podman {} run -d {} --name box --network none --rootfs /c/bundle/rootfs /bin/count"
                 .format(*self.options))
        self.dir = self.run("podman inspect -f '{{.StaticDir}}' box").out.strip()

    def save_while_it_runs(self):
        self.run_logged("podman container checkpoint --leave-running --keep box", "cr")

    def checkpoint(self, engine="cr"):
        self.run_logged("podman container checkpoint --keep box", engine)

    def restore(self, engine="cr"):
        self.run_logged("podman container restore --keep box", engine)

    def check_output(self):
        """conmon writes down what has been printed, as soon as it gets to it."""
        printed = "".join(f"{n + 1}\n" for n in range(self.count))
        self.run(f"for _ in $(seq 100); do [ \"$(podman logs box | tr -d '\\r')\" = '{printed.strip()}' ] && exit; "
                 "sleep 0.1; done; podman logs box; exit 1")

    def runs(self):
        return self.run("podman ps -q --filter name=box").out.strip() != ""

    def remove(self):
        self.run("podman rm -f -t 0 box", check=False)


class PodmanTerminal(Podman):
    """Its terminal's other end is conmon's; a restore is given another one."""
    options = ("", "-t")


class PodmanRuncTerminal(Podman):
    options = ("--runtime runc", "-t")


@pytest.fixture(scope="module", params=KERNELS)
def guest(request, payload):
    with VM(f"test_containers/{request.param}", image=vm_image.build("interop"), destdir=payload,
            kernel=request.param) as vm:
        vm.wait_idle()
        vm.put(vm_image.ROOT / "tests/vm/guest_container", HELPER)
        vm.run(f"{HELPER} prepare")
        yield vm


@pytest.fixture(params=[Runc, Crun, Podman, PodmanTerminal, PodmanRuncTerminal], ids=lambda c: c.__name__)
def container(request, guest):
    box = request.param(guest)
    guest.run(": >/c/bundle/rootfs/answers")
    yield box
    box.remove()


def check_mounts(container):
    """Its own root, and its own control group's, not the host's."""
    mounts = container.mounts()
    assert ("/c/bundle/rootfs", "/") in mounts
    assert ("/", "/sys/fs/cgroup") in mounts


def test_a_container_goes_on_after_checkpoint_and_restore(container):
    container.start()
    container.ask()
    container.save_while_it_runs()
    container.ask()
    container.checkpoint()
    assert not container.runs()
    container.restore()
    assert container.runs()
    container.check_output()
    container.ask()
    container.check_output()
    check_mounts(container)
    container.run(f"grep -q 'step: post-dump' $(find {container.dir} -name dump.log)")


@pytest.mark.parametrize("container", [Runc, PodmanTerminal], indirect=True, ids=lambda c: c.__name__)
@pytest.mark.parametrize("engines", [("cr", "criu"), ("criu", "cr")], ids="-".join)
def test_a_container_checkpointed_by_one_engine_is_restored_by_the_other(container, engines):
    container.start()
    container.ask()
    if engines[0] == "criu" and container.vm.kernel == "7.2":
        # Of a network namespace CRIU 4.1.1 wants UDP-Lite's sockets; this kernel has no UDP-Lite.
        with pytest.raises(CommandError, match="IPPROTO_UDPLITE: -2"):
            container.checkpoint("criu")
        container.ask()
        return
    container.checkpoint(engines[0])
    container.restore(engines[1])
    container.ask()
    check_mounts(container)

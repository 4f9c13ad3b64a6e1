"""Builds upgrade_preload.c, a library between crkexec and the kernel, and puts it into a guest."""

import subprocess
from pathlib import Path

import vm_image

PATH = "/usr/local/lib/crk-test-preload.so"


def install(vm):
    out = vm_image.ROOT / "build" / "test" / "crk-test-preload.so"
    out.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2",
                    "-shared", "-fPIC", "-o", out, Path(__file__).with_suffix(".c"), "-ldl"],
                   check=True)
    vm.put(out, PATH, 0o755)

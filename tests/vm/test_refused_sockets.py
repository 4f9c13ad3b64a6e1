"""Kinds of sockets that the machine of the live tests may have no kernel for: a guest's refusals."""

import json
from pathlib import Path

import pytest

import upgrade
from vm import VM

PROGRAM = (Path(__file__).parents[1] / "refused_sockets.py").read_bytes()


@pytest.mark.parametrize("series", ["6.12", "7.2"])
def test_every_socket_that_cannot_be_saved_is_refused_by_name(image, payload, series):
    with VM(f"test_refused_sockets/{series}", image=image, destdir=payload, kernel=series,
            memory=upgrade.MEMORY) as vm:
        vm.wait_idle()
        said = json.loads(vm.run("python3 -", stdin=PROGRAM, timeout=120).out)
    assert said and not any(said.values()), said

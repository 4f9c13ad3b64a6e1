"""A restore that fails at its very end: nothing of it stays, and the images can be restored again."""

import pytest

from live import Maker, cr, maker_options


@pytest.fixture
def maker(request, tmp_path):
    m = Maker(request.param, tmp_path)
    m.start()
    yield m
    m.end()


def fail_to_restore(m):
    """Its first process is killed when all but the registers is there."""
    script = m.dir / "end"
    script.write_text('#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != pre-resume ] || kill -9 "$CRTOOLS_INIT_PID"\n')
    script.chmod(0o755)
    done = cr("restore", m.images, "-d", *maker_options(m.name), "--action-script", script)
    assert done.returncode == 1 and "restore failed (" in done.log, done.log[-1500:]


@pytest.mark.parametrize("maker", ["files_link_remap", "fifos", "locks", "mqueues", "sysv_msg", "sysv_sem", "sysv_shm",
                                   "unix_named"], indirect=True)
def test_what_was_nearly_restored_can_be_restored_again(maker):
    maker.dump()
    maker.reap()
    fail_to_restore(maker)
    maker.restore()
    maker.verify()

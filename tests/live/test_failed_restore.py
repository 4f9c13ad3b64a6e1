"""A restore that fails at its very end: nothing of it stays, and the images can be restored again."""

from pathlib import Path

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


@pytest.mark.parametrize("maker", ["unix_named"], indirect=True)
def test_no_socket_file_stays(maker):
    """The service is started anew then, and its address would be in use."""
    def files():
        return {path for path in Path(f"/tmp/maker-unix-{number}").iterdir() if path.is_socket()}
    number = maker.pid
    maker.dump()
    maker.reap()
    assert files()
    for path in files():
        path.unlink()
    fail_to_restore(maker)
    assert not files()


@pytest.mark.parametrize("maker", ["inotifies"], indirect=True)
def test_a_watch_that_cannot_be_set_fails_while_connections_are_still_kept(maker):
    watched = maker.dir / "result.d/dir"
    away = maker.dir / "away"
    maker.dump()
    maker.reap()
    watched.rename(away)
    done = cr("restore", maker.images, "-d")
    assert done.returncode == 1 and f"cannot find {watched}" in done.log, done.log
    assert "step: network unlock" not in done.log
    away.rename(watched)
    maker.restore()
    maker.verify()

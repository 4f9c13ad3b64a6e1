"""Every maker's state survives dump, end and restore; and a dump that leaves it running."""
import pytest

from live import HugePages, Maker, ROOT, maker_options

NAMES = sorted(p.stem for p in (ROOT / "tests/live/make").glob("*.c"))


@pytest.fixture
def maker(request, tmp_path):
    m = Maker(request.param, tmp_path)
    with HugePages(sum(map(int, maker_options(request.param, "huge-pages")))):
        yield m
        m.end()


@pytest.mark.parametrize("maker", NAMES, indirect=True)
def test_state_survives_dump_and_restore(maker):
    maker.start()
    maker.dump()
    maker.reap()
    maker.restore()
    maker.verify()


@pytest.mark.parametrize("maker", NAMES, indirect=True)
def test_a_dump_that_leaves_it_running_changes_nothing(maker):
    maker.start()
    maker.dump("--leave-running")
    maker.verify()

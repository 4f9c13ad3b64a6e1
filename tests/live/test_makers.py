"""Every maker's state survives dump, end and restore; and a dump that leaves it running."""
import pytest

from live import HugePages, Maker, ROOT, maker_options, maker_source

NAMES = sorted(p.stem for p in (ROOT / "tests/live/make").glob("*.c"))


def params(names):
    """Some makers end with a skip."""
    return [pytest.param(n, marks=pytest.mark.may_lack if "maker_skip(" in maker_source(n).read_text() else [])
            for n in names]


@pytest.fixture
def maker(request, tmp_path):
    m = Maker(request.param, tmp_path)
    with HugePages(sum(map(int, maker_options(request.param, "huge-pages")))):
        yield m
        m.end()


@pytest.mark.parametrize("maker", params(NAMES), indirect=True)
def test_state_survives_dump_and_restore(maker):
    maker.start()
    maker.dump()
    maker.reap()
    maker.restore()
    maker.verify()


@pytest.mark.parametrize("maker", params(NAMES), indirect=True)
def test_a_dump_that_leaves_it_running_changes_nothing(maker):
    maker.start()
    maker.dump("--leave-running")
    maker.verify()

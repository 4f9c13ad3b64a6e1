"""A restore finds the pool of huge pages as a kernel has it that was just booted: empty."""
import pytest

from live import HugePages, Maker


@pytest.mark.may_lack
def test_the_pool_is_enlarged_to_what_the_images_need(tmp_path):
    m = Maker("hugepages", tmp_path)
    with HugePages(40) as pool:
        try:
            m.start()
            m.dump()
            m.reap()
            pool.POOL.write_text(pool.before)
            m.restore()
            # As many as there were: those in use, and those that were free.
            assert int(pool.POOL.read_text()) == int(pool.before) + 40
            m.verify()
        finally:
            m.end()

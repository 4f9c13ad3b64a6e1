"""Clocks and timers of a tree that was away for a while."""
import pytest

from live import Maker


@pytest.mark.parametrize("seconds", [7, 1005, 1250])
def test_timers_show_the_time_that_has_passed(tmp_path, seconds):
    m = Maker("timers_late", tmp_path)
    try:
        m.start()
        m.dump()
        m.reap()
        m.restore("--clock-advance", str(seconds))
        m.verify()
    finally:
        m.end()

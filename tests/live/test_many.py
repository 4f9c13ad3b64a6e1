"""Ten thousand tasks in one tree."""

import pytest

from live import Maker

# A machine may be slow; the limit of the others would be near.
pytestmark = [pytest.mark.timeout(3 * 150), pytest.mark.may_lack]
PATIENCE = 150      # seconds for each step; all of them took 18 on two busy cores


def test_ten_thousand_tasks_survive(tmp_path, monkeypatch):
    monkeypatch.setenv("MAKER_WORKERS", "200")
    maker = Maker("many", tmp_path)
    try:
        maker.start(timeout=PATIENCE)
        maker.dump(timeout=PATIENCE)
        maker.reap()
        maker.restore(timeout=PATIENCE)
        maker.verify(timeout=PATIENCE)
    finally:
        maker.end()

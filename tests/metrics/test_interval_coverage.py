"""The 95% intervals hold the truth about as often as they say; benchmarks/interval_coverage.py measures it at three sizes."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_intervals_of_ap_and_map_hold_the_truth(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import interval_coverage

    found = interval_coverage.coverage(1500, num_sets=300)
    sys.modules.pop("interval_coverage")
    assert 0.93 <= found["ap"] <= 0.97
    assert 0.93 <= found["mAP"] <= 0.97

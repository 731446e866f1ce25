"""Damaged files of every kind end in a value or in an error of polytag; benchmarks/fuzz.py reads ten thousand of each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 5_000_000])
def test_damaged_files_are_read_or_refused(first: int):
    """The same files each time; `--only NUMBER` of the script prints the traceback of one that fails."""
    command = [sys.executable, str(CAMPAIGN), "--images", "300", "--files", "250", "--first", str(first), "--print"]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert result["images"]["files"] == 300
    assert result["annotations_predictions_runs"]["files"] == 250
    for part in ("images", "annotations_predictions_runs"):
        assert result[part]["faults"] == {}
        assert result[part]["read"] > 10  # not every change matters
        assert result[part]["refused"] > 100
